"""Compilation of functions to CPU kernels, and the cache of their machine code."""
