"""Images with a border: padding and its adjoint, and deltas with gaps between them in a halo of zeros.

    padded[d, h, w] = image[source(d), source(h), source(w)], or 0 where a source is -1           (geometry.source)

Images have three dimensions (a leading 1 for each missing one), each padded by `pad_before` cells in front and by the
rest behind; `border` is an index of geometry.BORDERS. A map is a View of its rows: row d * rows + h is row h of plane
d.

No race: the caller's iteration owns the maps that are written.
"""

from typing import NamedTuple

from .. import geometry
from ..compiler.kernel import helper, inlined
from ..compiler.linked import linked
from .conv_terms import Size, Steps, images, size_of, steps, volume
from .tile import lanes
from .view import Images, View
from .words import load, store, zeros

source = helper(geometry.source)


class Padding(NamedTuple):
    """How a map is padded: its shape before and after, the cells in front of each dimension, an index of BORDERS."""

    image: Size
    padded: Size
    pad_before: Steps
    border: int


@helper
def copy_row(target, row, count):
    """target[0, :count] = row[0, :count]."""
    target, row, L = View(target, 0, 1), View(row, 0, 1), lanes(row)  # tells LLVM: contiguous
    if count < L:
        store(target, load(row, 1, 1, count), count)
    for first in range(0, count if count >= L else 0, L):
        j = min(first, count - L)  # the last vector may overlap: some numbers are copied twice
        store(target.column(j), load(row.column(j), 1, 1))


@inlined
def _no_sums(sums):
    return 0, 0


@inlined
def _copy(target, row, count, total, squares):
    """`copy_row` without sums."""
    copy_row(target, row, count)
    return total, squares


@inlined
def _drop(sums, total, squares):
    pass


@inlined
def _load_sums(sums):
    return load(sums, 1, 1), load(sums.column(lanes(sums)), 1, 1)


@inlined
def _copy_and_sum(target, row, count, total, squares):
    """`copy_row`; return the sums of |x| and x^2 with the row's added, lane by lane.

    Some numbers count twice where a row does not fill its vectors.
    """
    L = lanes(row)
    if count < L:
        numbers = load(row, 1, 1, count)
        store(target, numbers, count)
        total, squares = total + abs(numbers), squares + numbers * numbers
    for first in range(0, count if count >= L else 0, L):
        j = min(first, count - L)
        numbers = load(row.column(j), 1, 1)
        store(target.column(j), numbers)
        total, squares = total + abs(numbers), squares + numbers * numbers
    return total, squares


@inlined
def _store_sums(sums, total, squares):
    store(sums, total)
    store(sums.column(lanes(sums)), squares)


def padding(load_sums, copy, store_sums):
    """`pad_map`, which copies a row of the image by `copy`; sums stay in registers until all rows are copied."""

    @linked
    def pad(P: View, T: View, how: Padding, sums: View):
        P, T, sums, L = View(P, P.row_stride, 1), View(T, T.row_stride, 1), View(sums, 0, 1), lanes(P)
        image, padded, left, border = how.image, how.padded, how.pad_before.column, how.border
        added = padded.columns - image.columns
        # zeros of a row are in its first and last vector
        narrow = border == 0 and padded.columns >= L and max(left, added - left) <= L
        total, squares = load_sums(sums)
        for d in range(padded.depth):
            depth = source(d - how.pad_before.depth, image.depth, border)
            top = padded.rows if depth < 0 else how.pad_before.row if border == 0 else 0  # the first row with cells
            end = padded.rows if depth < 0 or border > 0 else top + image.rows
            plane = T.row(d * padded.rows)
            _clear(plane, top * padded.columns)
            _clear(plane.row(end), (padded.rows - end) * padded.columns)
            for h in range(top, end):
                row = P.row(depth * image.rows + source(h - how.pad_before.row, image.rows, border))
                target = plane.row(h)
                if narrow:
                    store(target, zeros(T, 1, 1))
                    store(target.column(padded.columns - L), zeros(T, 1, 1))
                for i in range(0 if narrow else added):
                    w = i if i < left else i + image.columns  # the cells in front, then those behind
                    cell = source(w - left, image.columns, border)
                    target[0, w] = row[0, cell] if cell >= 0 else 0
                total, squares = copy(target.column(left), row, image.columns, total, squares)
        store_sums(sums, total, squares)

    return pad


_pad, _pad_and_sum = padding(_no_sums, _copy, _drop), padding(_load_sums, _copy_and_sum, _store_sums)


@inlined
def _clear(T, count):
    """T[0, :count] = 0."""
    row = View(T, 0, 1)  # tells LLVM: contiguous
    for i in range(count):
        row[0, i] = 0


@inlined
def pad_map(P, T, how):
    """Copy the map P with its border to the map T."""
    _pad(P, T, how, T)


@inlined
def pad_map_and_sum(P, T, how, sums, begun):
    """`pad_map`; the two vectors of `sums` become the map's sums of |x| and x^2, or get them added, if begun."""
    if not begun:
        store(sums, zeros(sums, 1, 2))
    _pad_and_sum(P, T, how, sums)


@helper
def pad_maps(first, last, step, x, padded, pad_before, border):
    """`pad_map` of every `step`-th map, counted over all samples, where anything is padded."""
    if padded.size:
        how = Padding(size_of(x), size_of(padded), steps(pad_before), border)
        P, T = View(x, how.image.columns, 1), View(padded, how.padded.columns, 1)
        for i in range(first, last, step):
            pad_map(P.row(i * how.image.depth * how.image.rows), T.row(i * how.padded.depth * how.padded.rows), how)


@helper
def fold(n, dpadded, dx, pad_before, border):
    """dx[n] = the adjoint of padding: every cell of the padded image gives back to its source."""
    how = Padding(size_of(dx), size_of(dpadded), steps(pad_before), border)
    image, padded = how.image, how.padded
    cells = images(dpadded, padded).at(n, 0, 0, 0, 0)
    dX = images(dx, image).at(n, 0, 0, 0, 0)
    _clear(dX, image.maps * volume(image))
    for c in range(image.maps):
        for i in range(padded.depth * padded.rows):
            d, h = i // padded.rows, i % padded.rows
            depth, row = (
                source(d - how.pad_before.depth, image.depth, border),
                source(h - how.pad_before.row, image.rows, border),
            )
            if depth >= 0 and row >= 0:
                _fold_row(View(cells.at(0, c, d, h, 0), 0, 1), View(dX.at(0, c, depth, row, 0), 0, 1), how)


@helper
def _fold_row(cells, dX, how):
    """Add a row of the padded image to a row of dX: the cells inside, then those in front and behind."""
    left, columns = how.pad_before.column, how.image.columns
    for w in range(columns):
        dX[0, w] += cells[0, left + w]
    for i in range(how.padded.columns - columns):
        w = i if i < left else i + columns
        cell = source(w - left, columns, how.border)
        if cell >= 0:
            dX[0, cell] += cells[0, w]


@linked
def pad_and_dilate(dY: Images, U: Images, out: Size, padded: Size, gaps: Steps, halo: Steps):
    """U = the deltas dY of a sample, `gaps` from delta to delta, with `halo` zeros in front and the rest behind."""
    if gaps.depth * gaps.row * gaps.column == 1:
        how = Padding(out, padded, halo, 0)
        for f in range(out.maps):
            pad_map(View(dY.at(0, f, 0, 0, 0), out.columns, 1), View(U.at(0, f, 0, 0, 0), padded.columns, 1), how)
        return
    _clear(U, out.maps * volume(padded))
    for f in range(out.maps):
        for d in range(out.depth):
            for h in range(out.rows):
                row = View(dY.at(0, f, d, h, 0), 0, 1)
                place = U.at(0, f, halo.depth + d * gaps.depth, halo.row + h * gaps.row, halo.column)
                target = View(place, 0, gaps.column)
                for w in range(out.columns):
                    target[0, w] = row[0, w]
