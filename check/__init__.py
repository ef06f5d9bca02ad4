"""Certification of layers: are their kernels right, on every shape, however their loops are divided?

``certify()`` runs every registered layer, plug-ins included, and gives a `Report` with a verdict for each layer and
question. It needs no test written by hand: a derivative is compared with differences, a compiled kernel with the plain
function it was made from, a divided loop with the whole one, and races are found by recording reads and writes.
"""

from .certify import certify
from .report import COLUMNS, Report, Row

__all__ = ["COLUMNS", "Report", "Row", "certify"]
