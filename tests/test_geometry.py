"""Convolution arithmetic against counting: positions, sizes that map back, fields, borders, connections."""

import inspect

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nnjit.errors import NnjitError, ShapeError, SpecError
from nnjit.kernels import geometry

sizes = st.integers(1, 12)
steps = st.integers(1, 4)
sides = st.tuples(st.integers(0, 6), st.integers(0, 6))
quick = settings(max_examples=200, deadline=None)


def positions(i, k, s, d, p):
    """Find the starts of the kernel in the padded input by trying all cells."""
    cells = range(-p[0], i + p[1])
    return [start for start in cells[::s] if all(start + t * d in cells for t in range(k))]


@quick
@given(sizes, sizes, steps, steps, sides)
def test_output_size_counts_positions(i, k, s, d, p):
    counted = len(positions(i, k, s, d, p))
    if counted:
        assert geometry.output_size(i, k, s, d, p) == counted
    else:
        with pytest.raises(ShapeError, match=f"kernel {k}.* does not fit an input of {i}"):
            geometry.output_size(i, k, s, d, p)


@quick
@given(sizes, sizes, steps, steps)
def test_words_give_the_lectures_totals(i, k, s, d):
    same, full, valid = (geometry.paddings(word, (k,), (d,))[0] for word in ("same", "full", "valid"))
    spans = 1 + d * (k - 1)
    assert geometry.output_size(i, k, 1, d, same) == i
    assert geometry.output_size(i, k, 1, d, full) == i + spans - 1
    assert geometry.output_size(i, k, s, d, same) == -(-i // s)  # floor((i - 1) / s) + 1
    if i >= spans:
        assert geometry.output_size(i, k, 1, d, valid) == i - spans + 1
        assert geometry.output_size(i, k, s, 1, (0, 0)) == (i - k) // s + 1
    assert same[1] - same[0] in (0, 1) and sum(same) == spans - 1  # an odd total puts the extra cell after
    assert full == (spans - 1, spans - 1)


@quick
@given(st.integers(1, 6), st.integers(1, 5), steps, steps, sides, st.integers(0, 3))
def test_transposed_size_is_the_smallest_that_maps_back(o, k, s, d, p, extra):
    assume(extra < s)
    back = [i for i in range(1, 60) if len(positions(i, k, s, d, p)) == o]
    try:
        found = geometry.transposed_size(o, k, s, d, p)
    except ShapeError:  # the smallest would have no cells
        assert (o - 1) * s + 1 + d * (k - 1) - sum(p) < 1
        return
    assert found == min(back)
    assert geometry.transposed_size(o, k, s, d, p, extra) == found + extra in back


@quick
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)), max_size=4))
def test_receptive_field_counts_cells_that_matter(chain):
    cells = {0}
    for k, s, d in reversed(chain):  # from one output cell back to the input
        cells = {cell * s + t * d for cell in cells for t in range(k)}
    assert geometry.receptive_field(chain) == max(cells) - min(cells) + 1


@pytest.mark.parametrize("border, mode", list(enumerate(["constant", "edge", "reflect", "wrap"])))
@given(i=st.integers(1, 9), before=st.integers(0, 8), after=st.integers(0, 8))
def test_source_is_numpys_padding(border, mode, i, before, after):
    if border >= 2:
        before, after = min(before, i - 1), min(after, i - 1)
    fill = {"constant_values": -1} if mode == "constant" else {}
    wanted = np.pad(np.arange(i), (before, after), mode, **fill)
    assert [geometry.source(q, i, border) for q in range(-before, i + after)] == wanted.tolist()


@quick
@given(st.integers(1, 9), st.integers(1, 4), steps, steps, sides, st.integers(0, 3))
def test_connections_count_the_nonzeros_of_the_matrix(i, k, s, d, p, border):
    p = tuple(min(side, i - 1) for side in p)
    starts = positions(i, k, s, d, p)
    assume(starts)
    mode = ["constant", "edge", "reflect", "wrap"][border]
    padded = np.pad(np.eye(i), [(0, 0), p], mode)  # column of each padded cell in terms of the input
    matrix = sum(padded[:, [start + p[0] + t * d for start in starts]] for t in range(k))
    assert geometry.connections(i, k, s, d, p, border) == np.count_nonzero(matrix)


def test_paddings_of_numbers_tuples_and_pairs():
    kernel, dilation = (3, 2), (1, 2)
    assert geometry.paddings(2, kernel, dilation) == ((2, 2), (2, 2))  # a number pads each side
    assert geometry.paddings((1, 0), kernel, dilation) == ((1, 1), (0, 0))
    assert geometry.paddings(((0, 1), (2, 3)), kernel, dilation) == ((0, 1), (2, 3))
    assert geometry.paddings("same", kernel, dilation) == ((1, 1), (1, 1))
    assert geometry.paddings("same", (2, 4), (1, 1)) == ((0, 1), (1, 2))


@pytest.mark.parametrize(
    "padding", ["SAME", -1, (1,), (1, 2, 3), ((1, 2),), ((1, 2, 3), (1, 2)), 1.5, (True, 1), None, 2**40]
)
def test_paddings_that_cannot_be(padding):
    with pytest.raises(SpecError, match=r"^conv: padding: expected"):
        geometry.paddings(padding, (3, 2), (1, 1), "conv: padding")


@pytest.mark.parametrize("value", [0, -1, (1,), (1, 2, 3), 1.0, "1", True, (1, None), 2**31])
def test_numbers_per_dimension_that_cannot_be(value):
    with pytest.raises(SpecError, match=r"^conv: stride: expected"):
        geometry.per_dimension(value, 2, "conv: stride")


def test_sentences():
    with pytest.raises(ShapeError) as error:
        geometry.output_size(3, 5, name="conv: kernel")
    assert str(error.value).startswith("conv: kernel 5 does not fit an input of 3 with padding 0: 2 more cells")
    with pytest.raises(
        ShapeError, match=r"kernel 2 with dilation 5 \(spanning 6\) does not fit an input of 3 with pad"
    ):
        geometry.output_size(3, 2, 1, 5, (0, 1))
    with pytest.raises(ShapeError, match="output_padding 2 must be less than stride 2 or dilation 1"):
        geometry.transposed_size(3, 3, 2, 1, (0, 0), 2)
    with pytest.raises(ShapeError, match="leaves nothing"):
        geometry.transposed_size(1, 1, 1, 1, (1, 1))


@given(st.text(max_size=5) | st.integers() | st.floats() | st.none() | st.tuples(st.integers(-2, 9), st.integers()))
def test_any_padding_is_pairs_or_a_sentence(padding):
    try:
        found = geometry.paddings(padding, (3, 4), (1, 2))
    except NnjitError as error:
        assert "\n" not in str(error)
    else:
        assert all(min(pair) >= 0 and len(pair) == 2 for pair in found) and len(found) == 2


def test_it_imports_nothing_but_the_errors():
    lines = [line for line in inspect.getsource(geometry).splitlines() if line.startswith(("import", "from"))]
    assert lines == ["from dataclasses import dataclass", "from ..errors import ShapeError, SpecError"]
