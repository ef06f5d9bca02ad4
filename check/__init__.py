"""Certification of layers: kernels are right on every shape, however their loops are divided.

``certify()`` runs every registered layer, plug-ins included, and returns a `Report` with a verdict for each layer and
question. It needs no handwritten test: it compares a derivative with differences, a compiled kernel with the plain
function it was made from, and a divided loop with the whole one, and it finds races by recording reads and writes.
"""

from .certify import certify
from .report import COLUMNS, Report, Row

__all__ = ["COLUMNS", "Report", "Row", "certify"]
