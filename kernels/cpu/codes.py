"""Codes of categories, for the kernels of embeddings on both devices: which row of a table a number chooses."""

from ..compiler.kernel import helper


@helper
def row_of(code, count):
    """Return the row of a code in its table; -1 if it is none of `count` codes."""
    real = type(code)  # a helper's float is float64
    row = int(code) if code >= real(0) and code < real(count) else 0
    return row if real(row) == code else -1
