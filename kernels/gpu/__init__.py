"""What turns a function into a CUDA kernel, and launches it."""
