"""Loops over arrays, their contracts, and what compiles them."""
