"""Compilation of functions to CUDA kernels, and their launches."""
