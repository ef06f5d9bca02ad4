"""Winograd's algorithm strip by strip: transforms around 16 matrix products.

The loops around the micro-kernel, `convolve` and `products`::

    columns of tiles, then rows               a strip: as many tiles as keep V in the second-level cache
      input_transform                         V of the strip
      for r in range(0, R, 8)                 M of eight results at a time, in the first-level cache
        for e in range(16)                    M[e] (8, tiles) = U[e] (8, K) V[e] (K, tiles)
          for r in range(0, 8, MR)
            for t by 3, 2 or 1 vectors        micro_kernel of matrix.py: MR x 3 vectors of M stay in registers
        output_transform                      A^T M A + bias

A strip goes on across the end of a sample, so that small images fill their vectors. No race: see winograd.py.
"""

from ..compiler.kernel import helper
from ..compiler.linked import linked
from .conv_terms import Size
from .matrix import micro_kernel
from .sizes import by_size
from .tile import BYTES, MR, lanes, stack_array
from .view import Images, Vectors, View
from .winograd_transforms import Strip, input_transform, output_transform
from .words import ZERO

# Numbers on the stack.
WEIGHTS = 4112 * BYTES  # transformed weights that are kept at once
TILES = 2080 * BYTES  # transformed tiles
PRODUCTS = 132 * BYTES  # 16 places, eight results, up to four vectors of tiles, and one more

vectors_of_tiles = by_size(lambda vectors: micro_kernel(MR, vectors), (3, 2, 1))


@helper
def numbers_of_a_place(size, L):
    """Numbers of each of 16 places in an array of `size` numbers, half of which are used if they are double."""
    return 4 * size * L // BYTES // 16 - L


@helper
def results_at_once(R, K, L):
    """Return the number of results, of R and eight at a time, whose transformed weights have room."""
    return max(8, min((R + 7) // 8 * 8, numbers_of_a_place(WEIGHTS, L) // (8 * K) * 8))


@helper
def transformed_weights(array, R, K, L):
    """U of R results, rounded up to eight: a vector of padding, or all places would share few lines of the cache."""
    return Vectors(array, (R + 7) // 8 * 8 * K + L, K)


@linked
def products(K, U: Vectors, V: Vectors, M: Vectors):
    """M[e, r, t] = sum over k of U[e, r, k] V[e, k, t]: eight rows, as many columns as M has."""
    L = lanes(V)
    count = M.vector_stride // L
    for e in range(16):
        for r in range(0, 8, MR):
            A, B, C = View(U.at(e, r), K, 1), View(V.row(e), V.vector_stride, 1), View(M.at(e, r), M.vector_stride, 1)
            t = 0
            while t < count:
                left = 2 if count - t == 4 else count - t  # 4 = 2 + 2
                t += vectors_of_tiles(left, A, B.column(t * L), C.column(t * L), K, ZERO)


@linked
def convolve(N, U: Vectors, P: Images, image: Size, bias: View, biased, Y: Images, out: Size):
    """Y = the results of N samples from transformed weights and the images P, of which `image` exists; bias[r, 0]."""
    T, S, L, K, R = stack_array(P, TILES), stack_array(P, PRODUCTS), lanes(P), image.maps, out.maps
    down, across = (out.rows + 1) // 2, (out.columns + 1) // 2
    room = max(L, min(4 * L, numbers_of_a_place(TILES, L) // K // L * L))  # tiles of a strip
    columns = min(across, room)
    rows = room // columns
    full = max(1, L // (columns & -columns))  # rows that fill their vectors
    if rows >= full:
        rows -= rows % full
    for left in range(0, across, columns):
        for start in range(0, N * down, rows):
            strip = Strip(start, min(rows, N * down - start), left, min(columns, across - left), down)
            tiles = (strip.rows * strip.columns + L - 1) // L * L
            V, M = Vectors(T, K * tiles + L, tiles), Vectors(S, 8 * tiles, tiles)
            input_transform(P, image, strip, V)
            for r in range(0, R, 8):
                products(K, U.at(0, r), V, M)
                output_transform(min(8, R - r), M, bias.row(r), biased, Y.at(0, r, 0, 0, 0), out, strip)
