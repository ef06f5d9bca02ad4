"""Indices of ``State.counters``, which kernels and programs share."""

STEP, SEED, ROWS, STOP, FAULT, HEAD = range(6)  # HEAD: where the identity order and the batch's labels begin
