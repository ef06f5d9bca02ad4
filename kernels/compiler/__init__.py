"""What turns a function into a kernel of the CPU, and keeps its machine code."""
