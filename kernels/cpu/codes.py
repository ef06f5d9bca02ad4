"""Codes of categories, for the kernels of embeddings on both devices: which row of a table a number chooses."""

from ..compiler.kernel import helper


@helper
def row_of(code, count):
    """Return the row of a code in its table; -1 if it is none of `count` codes."""
    row = int(code) if code >= 0.0 and code < float(count) else 0
    return row if float(row) == code else -1
