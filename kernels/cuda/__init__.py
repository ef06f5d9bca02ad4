"""Loops for CUDA; an operation that has no file here is that of `cpu`, which runs on both."""
