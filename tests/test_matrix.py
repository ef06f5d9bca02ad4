"""Views and the matrix products written on them: every way of a product, exactly, compiled and in plain Python."""

import collections
import typing

import numpy as np
import pytest
from nnjit.check.races import interpreted
from nnjit.kernels.compiler import source
from nnjit.kernels.compiler.linked import array, linked, places
from nnjit.kernels.cpu import matrix, matrix_transposed
from nnjit.kernels.cpu.matrix import product
from nnjit.kernels.cpu.matrix_transposed import add_product_transposed
from nnjit.kernels.cpu.rearrange import load_column, store_interleaved
from nnjit.kernels.cpu.sizes import by_size, of_size
from nnjit.kernels.cpu.tile import lanes, numbers, stack_array
from nnjit.kernels.cpu.view import Images, Vectors, View
from nnjit.kernels.cpu.words import (
    ADD,
    ZERO,
    convolve_row,
    fill,
    load,
    outer,
    prefetch,
    store,
    zeros,
)
from numba import njit

GUARD = 64  # numbers around a result, which nothing may touch


@njit
def multiply(A, rows, columns, B, C, first, M, N, K, start):
    product(View(A, rows, columns), View(B, N, 1), View(C, N, 1, first), M, N, K, start)


@njit
def multiply_transposed(A, B, C, first, M, N, K):
    add_product_transposed(View(A, K, 1), View(B, K, 1), View(C, N, 1, first), M, N, K)


def factors(M, N, K, dtype):
    """Matrices of small whole numbers, whose product is exact in either type, and a guarded result of ones."""
    rng = np.random.default_rng(M + 1000 * N + K)
    A, B = (rng.integers(-3, 4, shape).astype(dtype) for shape in ((M, K), (K, N)))
    result = np.full(M * N + 2 * GUARD, 7, dtype)
    result[GUARD:-GUARD] = 1
    return A, B, result


def assert_is(result, expected):
    np.testing.assert_array_equal(result[GUARD:-GUARD].reshape(expected.shape), expected)
    assert (result[:GUARD] == 7).all() and (result[-GUARD:] == 7).all()


def ways(M, N, K, A, B, C, of):
    """Check both layouts of A and both starts of A B, and A B^T; `of` makes what is called of a function."""
    copied = C.copy()
    for strides in ((K, 1), (1, M)):
        given = A if strides == (K, 1) else np.ascontiguousarray(A.T)
        for start in (ZERO, ADD):
            C[:] = copied
            of(multiply)(given.reshape(-1), *strides, B, C, GUARD, M, N, K, start)
            assert_is(C, A @ B + (start == ADD))
    C[:] = copied
    of(multiply_transposed)(A, np.ascontiguousarray(B.T), C, GUARD, M, N, K)
    assert_is(C, A @ B + 1)


SIZES = [(1, 1, 1), (1, 50, 17), (3, 49, 1100), (9, 33, 40), (50, 70, 35), (65, 131, 150), (70, 20, 9), (259, 530, 131),
         (517, 100, 300), (300, 17, 5)]  # fmt: skip


@pytest.mark.parametrize("M, N, K", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_way_is_exact(M, N, K, dtype):
    ways(M, N, K, *factors(M, N, K, dtype), of=lambda function: function)


@pytest.mark.parametrize("M, N, K", [(1, 1, 1), (3, 49, 5), (50, 17, 18), (65, 101, 3), (257, 16, 2)])
def test_every_way_in_plain_python(M, N, K):
    known = {}
    ways(M, N, K, *factors(M, N, K, np.float32), of=lambda function: interpreted(function, range, known))


def test_sizes_reach_every_way():
    sizes = np.array(SIZES)
    limits = (matrix.PACK_FROM, matrix.MC, matrix_transposed.TRANSPOSE_FROM, matrix_transposed.PACK_FROM)
    for limit in limits:
        assert (sizes[:, 0] < limit).any() and (sizes[:, 0] >= limit).any()
    assert (sizes[:, 2] > matrix.PORTION).any() and (sizes[:, 2] > matrix.KC).any()


# -- views -------------------------------------------------------------------------------------------------------------


@njit
def walk(a, found):
    """Numbers read and written by views of a (4, 5) array."""
    A = View(a, 5, 1)
    found[0], found[1], found[2] = A[1, 2], A.row(1)[0, 2], A.column(2)[1, 0]
    found[3], found[4] = A.at(1, 2)[1, 1], View(a, 1, 5)[2, 1]
    found[5], found[6] = View(A.row(2), 2, 3)[1, 1], View(a, 5, 1, 6)[1, 1]
    found[7], found[8] = View(a, 1, 5).row_stride, A.at(3, 3).row_stride
    A.at(2, 2)[1, 1] = -1.0
    A[0, 0] += 2.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_views_compiled_and_in_plain_python(dtype):
    for run in (walk, interpreted(walk, range)):
        a, found = np.arange(20, dtype=dtype).reshape(4, 5), np.zeros(9, dtype)
        run(a, found)
        np.testing.assert_array_equal(found, [7, 7, 7, 13, 7, 15, 12, 1, 5])
        assert a[3, 3] == -1 and a[0, 0] == 2


def _scaled(rows):
    @njit
    def scaled(A, C, columns):
        tile = zeros(A, rows, 1)
        tile = outer(tile, A, A, columns=columns)
        store(C, tile + load(C, rows, 1, columns=columns), columns)

    return scaled


largest = by_size(_scaled, (3, 2, 1))


@njit
def scale(a, c, rows):
    return largest(rows, View(a, 1, 0), View(c, lanes(a), 1), 2)


@pytest.mark.parametrize("rows, taken", [(1, 1), (2, 2), (3, 3), (4, 3)])
def test_the_largest_size_is_taken(rows, taken):
    for run in (scale, interpreted(scale, range)):
        a = np.arange(1, 65, dtype=np.float64)
        c = np.ones(64)
        assert run(a, c, rows) == taken
        n = lanes.py_func(a)
        expected = np.ones((taken, n))
        expected[:, :2] += np.outer([1, 2, 3][:taken], [1, 2])
        np.testing.assert_array_equal(c[: taken * n].reshape(taken, n), expected)
        assert (c[taken * n :] == 1).all()


exact = of_size(_scaled, (2, 1, 3))


@njit
def scale_exactly(a, c, rows):
    exact(rows, View(a, 1, 0), View(c, lanes(a), 1), 2)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_the_size_that_is_asked_for_is_taken(rows):
    for run in (scale_exactly, interpreted(scale_exactly, range)):
        a = np.arange(1, 65, dtype=np.float64)
        c = np.ones(64)
        run(a, c, rows)
        n = lanes.py_func(a)
        expected = np.ones((rows, n))
        expected[:, :2] += np.outer([1, 2, 3][:rows], [1, 2])
        np.testing.assert_array_equal(c[: rows * n].reshape(rows, n), expected)
        assert (c[rows * n :] == 1).all()


class Steps(typing.NamedTuple):
    row: int
    column: int


@linked
def fill_places(steps: Steps, count: 2, C: View, y: array):
    for i in range(count[0]):
        for j in range(count[1]):
            C[i, j] = y[i * steps.row + j * steps.column]


@njit
def filled(c, y):
    room = stack_array(y, 12)
    for k in range(12):
        room[k] = y[k]
    fill_places(Steps(4, 1), (3, 4), View(c, 1, 3), room)


def test_linked_functions_take_views_and_named_tuples():
    for run in (filled, interpreted(filled, range)):
        c, y = np.zeros(12, np.float32), np.arange(12, dtype=np.float32)
        run(c, y)
        np.testing.assert_array_equal(c.reshape(4, 3).T.reshape(-1), y)


class Listed(typing.NamedTuple):
    matrix: View
    rows: places
    count: int


@linked
def sum_listed(given: Listed, total: View):
    for i in range(given.count):
        total[0, 0] += given.matrix[given.rows[i], 1]


@njit
def listed(c, y):
    rows = numbers(2)
    rows[0], rows[1] = 2, 0
    sum_listed(Listed(View(y, 4, 1), rows, 2), View(c, 1, 1))


def test_named_tuples_of_linked_functions_may_hold_views_and_tables():
    for run in (listed, interpreted(listed, range)):
        c, y = np.zeros(1, np.float32), np.arange(12, dtype=np.float32)
        run(c, y)
        assert c[0] == 9 + 1


def test_the_order_of_fields_is_part_of_the_key(monkeypatch):
    """Fields are read by their place, so a cached function of the former order must not be found."""
    function = fill_places.py_func
    before = source.Source(function).key()
    other = collections.namedtuple("Steps", ("column", "row"))
    monkeypatch.setitem(function.__annotations__, "steps", other)
    assert source.Source(function).key() != before


@linked
def words_on_images(P: Images, W: View, Y: View, count):
    """Each word on vectors of images, one result of each in a row of Y."""
    L = lanes(P)
    rows = Vectors(P.at(1, 1, 0, 0, 0), P.map_stride, P.row_stride)  # maps below each other, rows side by side
    out = Vectors(Y, 2 * L, L)
    store(out, outer(fill(W, 2, 2), W, rows, count), count)
    store(Y.row(4), convolve_row(zeros(P, 1, 1), W, load(View(P.at(0, 1, 0, 0, 0), 0, 1), 1, 3)), L)
    store(Y.row(5), load_column(View(P, P.column_stride * 2, 1), 2, count))
    store(Y.row(6), load_column(View(P, 3, 1), 0, count), L)
    prefetch(View(P, 0, 1), 64)
    row = View(P.at(1, 0, 0, 1, 1), 0, P.column_stride)
    store_interleaved(Y.at(7, 0), load(row, 1, 1), load(row.column(1), 1, 1), 2 * count - 1)
    P[0, 0, 0, 1, 2] = P[1, 1, 0, 1, 1] + P.row_stride


@njit
def call_words(P, strides, W, Y, L, count):
    words_on_images(Images(P, strides[0], strides[1], strides[2], strides[3], strides[4]), View(W, 1, 1),
                    View(Y, 2 * L, 1), count)  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_words_on_images_are_what_they_are_in_plain_python(dtype):
    L, rng = lanes.py_func(np.empty(0, dtype)), np.random.default_rng(0)
    row = 4 * L
    strides = (4 * row, 2 * row, 2 * row, row, 1)
    P, W = rng.integers(-3, 4, 8 * row).astype(dtype), rng.integers(-3, 4, 8).astype(dtype)
    found, plain, Y = P.copy(), P.copy(), np.full((2, 8 * 2 * L), 7, dtype)
    call_words(found, strides, W, Y[0], L, L - 1)
    interpreted(call_words, range, {})(plain, strides, W, Y[1], L, L - 1)
    np.testing.assert_array_equal(Y[0], Y[1])
    np.testing.assert_array_equal(found, plain)
    assert plain[row + 2] == P[4 * row + 2 * row + row + 1] + row
    image = P.reshape(2, 2, 2, row)
    tile = (
        W[:2, None, None] * (1 + image[1, 1, :, :L]) * (np.arange(L) < L - 1)
    )  # fill is W too; columns beyond are left
    np.testing.assert_array_equal(Y[0].reshape(-1)[: 4 * L].reshape(2, 2, L)[..., : L - 1], tile[..., : L - 1])
