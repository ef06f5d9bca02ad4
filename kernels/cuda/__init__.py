"""Loops for CUDA; an operation without a file here is the CPU's, which runs on both devices."""
