"""Rows of an image packed for each tap of a kernel, in a panel in the first-level cache: for short or strided rows.

    T[k * rows + h, i] = P[h, i * stride + k * dilation]                    for each tap k of a row

Rows without what lies between them follow each other, so that vectors run on over the end of a row. If the stride is
1, the taps of a column of the kernel share the rows that they see (`tall`).
"""

from typing import NamedTuple

from ..compiler.kernel import helper
from ..compiler.linked import linked
from .rearrange import copy, load_column
from .tile import MASKS, lanes
from .view import View
from .words import store

ROOM = 6144  # numbers of a panel: with the weights and the result it stays in the first-level cache


class Panel(NamedTuple):
    """Positions that are packed at once: `rows` of `columns`, and `extra` rows that the lower taps of a column see."""

    tall: bool  # whether the taps of a column share rows
    rows: int
    columns: int
    extra: int


@helper
def panel_shape(room, maps, taps, row_stride, row_dilation, out):
    """Return the shape of a panel of `room` numbers; several maps are packed at once if it has room for them."""
    tall = row_stride == 1 and taps.columns * (1 + (taps.rows - 1) * row_dilation) * out.columns <= room
    extra = (taps.rows - 1) * row_dilation if tall else 0
    if room < taps.columns * out.columns:
        return Panel(tall, 1, room // taps.columns, extra)
    some = min(maps, 4 if tall else 16)
    rows = max(1, room // (taps.columns * out.columns * some) - extra)
    return Panel(tall, min(out.rows, rows), out.columns, extra)


@helper
def packing_pays(filters, tap_rows, stride, columns, L):
    """Return whether to pack: gaps along the row always, short rows where a copy costs less than the lanes they waste.

    A copied vector costs about as much as sixteen filters' arithmetic on it; a row of less than a vector counts as five
    thirds of one, because such rows go one by one. For longer rows packing must save a fifth. With masks short rows go
    several at once: they are packed only if they fill at most half of a vector, and for eight filters.
    """
    if stride > 1:
        return True
    if MASKS and columns < L:
        return 2 * columns <= L and filters >= 8
    wasted = L * 5 // 3 - columns if columns < L else (columns + L - 1) // L * L - columns
    return wasted * filters * tap_rows > 16 * columns and 4 * wasted >= columns


@linked
def pack_taps(P: View, T: View, taps, dilation, rows, columns):
    """Pack `rows` rows of `columns` numbers of P, its column stride apart, for each of the taps of a row."""
    L, stride = lanes(P), P.column_stride
    for k in range(taps):
        for h in range(rows):
            row, target = View(P.row(h), 0, 1, k * dilation), View(T.row(k * rows + h), 0, 1)
            for i in range(0, columns, L):
                if stride == 1:
                    copy(target.column(i), row.column(i), columns - i)
                elif stride == 2:
                    numbers = View(row.column(2 * i), 2, 1)
                    store(target.column(i), load_column(numbers, 2, min(columns - i, L)))
                else:
                    numbers = View(row.column(i * stride), stride, 1)
                    store(target.column(i), load_column(numbers, 0, min(columns - i, L)))
