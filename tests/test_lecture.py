"""The lecture, equation by equation, on its own example: a network 2-2-3-2 of sigmoids in float64.

The oracle is NumPy written from the lecture's formulas, sample by sample, without nnjit. l counts as in the lecture:
the input is 1. test_conv_kernels.py shows that a convolution is a sparse shared matrix in every geometry, and that it
is equivariant to translations.
"""

import math
from itertools import product

import numpy as np
import pytest
from nnjit import data
from nnjit.program import schedule
from nnjit.program.program import Program
from nnjit.registry import compose

LAYERS = ["dense(2)", "sigmoid", "dense(3)", "sigmoid", "dense(2)", "sigmoid"]
L = 4
ETA = 0.05


# The oracle


def sigma(z):
    return 1 / (1 + np.exp(-z))


def sigma_prime(z):
    return np.exp(-z) / (1 + np.exp(-z)) ** 2


def forward(W, b, x):
    """Compute a[1] = x, z[l] = W[l] a[l-1] + b[l], a[l] = sigma(z[l]) for one sample."""
    a, z = {1: x}, {}
    for l in range(2, L + 1):
        z[l] = np.array([sum(w * v for w, v in zip(row, a[l - 1], strict=True)) for row in W[l]]) + b[l]
        a[l] = sigma(z[l])
    return z, a


def cost(W, b, X, Y):
    """Cost of one sample, (1)."""
    return sum(0.5 * np.linalg.norm(y - forward(W, b, x)[1][L], 2) ** 2 for x, y in zip(X, Y, strict=True)) / len(X)


def deltas(W, b, x, y):
    """Deltas of one sample, (2) and (3)."""
    z, a = forward(W, b, x)
    delta = {L: sigma_prime(z[L]) * (a[L] - y)}
    for l in range(L - 1, 1, -1):
        delta[l] = sigma_prime(z[l]) * (W[l + 1].T @ delta[l + 1])
    return delta


def gradient(W, b, x, y):
    """Gradients of one sample, (4) and (5): l -> dC/dW[l], dC/db[l]."""
    a, delta = forward(W, b, x)[1], deltas(W, b, x, y)
    dW = {l: np.array([[d * v for v in a[l - 1]] for d in delta[l]]) for l in delta}
    return dW, delta


# The network


class Example:
    """Return the network, its program for all ten points at once, and its theta as the lecture's W[l] and b[l]."""

    def __init__(self, seed=0, **options):
        points = data.load("ten_points").train
        self.X, self.Y = points.x, points.y
        self.net = compose(LAYERS, (2,), dtype="float64", seed=seed)
        self.net.theta[:] = np.random.default_rng(seed).normal(0, 0.8, self.net.theta.size)
        self.program = Program(self.net, "quadratic", f"sgd(lr={ETA})", batch_size=len(self.X), **options)
        self.run = self.program.interpret().run
        parameters = list(self.net.parameters.values())
        self.W = {l: parameters[2 * (l - 2)] for l in range(2, L + 1)}
        self.b = {l: parameters[2 * (l - 2) + 1] for l in range(2, L + 1)}

    def value(self, name):
        """Return an array by its name in the program's text."""
        (ref,) = [ref for ref, known in self.program.plan.variables.items() if known == name]
        slot = self.program.plan.slot(ref) if not hasattr(ref, "flat") else ref
        return slot.of(self.program.state, 0, len(self.X)).copy()


@pytest.fixture
def example():
    return Example()


def test_there_is_something_to_see(example):
    """Make ten points of two classes and S = 23 parameters, no two alike."""
    assert example.X.shape == example.Y.shape == (10, 2)
    assert example.net.theta.size == (2 * 2 + 2) + (3 * 2 + 3) + (2 * 3 + 2) == len(set(example.net.theta))
    assert example.net.theta.base is not None and np.shares_memory(example.W[3], example.net.theta)


def test_definition_of_the_network(example):
    """a[1] = x; a[l] = sigma(W[l] a[l-1] + b[l]); F(x) = a[L]."""
    example.run.step(example.program.state, example.X, example.Y)
    example.net.theta[:] = Example().net.theta
    for i, x in enumerate(example.X):
        _, a = forward(example.W, example.b, x)
        for l in range(1, L + 1):
            np.testing.assert_allclose(example.value(f"a{l}")[i], a[l], rtol=1e-13)
        np.testing.assert_allclose(example.net.forward(x[None])[0], a[L], rtol=1e-13)


def test_equation_1(example):
    """C = (1/N) sum_i C_i, C_i = 1/2 ||y - F(x)||_2^2."""
    expected = cost(example.W, example.b, example.X, example.Y)
    each = [cost(example.W, example.b, [x], [y]) for x, y in zip(example.X, example.Y, strict=True)]
    measured = example.run.step(example.program.state, example.X, example.Y)
    assert measured == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(example.value("C_i"), each, rtol=1e-13)
    assert example.program.state.log[0] == measured


@pytest.mark.parametrize("l", [4, 3, 2], ids=["equation 2", "equation 3, l = 3", "equation 3, l = 2"])
def test_equations_2_and_3(example, l):
    """delta[L] = sigma'(z[L]) o (a[L] - y); delta[l] = sigma'(z[l]) o (W[l+1])^T delta[l+1]; without 1/N."""
    expected = [deltas(example.W, example.b, x, y)[l] for x, y in zip(example.X, example.Y, strict=True)]
    example.run.step(example.program.state, example.X, example.Y)
    np.testing.assert_allclose(example.value(f"delta{l}"), expected, rtol=1e-12)


@pytest.mark.parametrize("l", [2, 3, 4])
@pytest.mark.parametrize("equation", [4, 5])
def test_equations_4_and_5(example, l, equation):
    """dC/db[l] = delta[l] and dC/dW[l]_jk = delta[l]_j a[l-1]_k, for every sample and in the mean over all."""
    name = f"db{l}" if equation == 4 else f"dW{l}"
    kept, each = example.net.theta.copy(), []
    for x, y in zip(example.X, example.Y, strict=True):
        dW, db = gradient(example.W, example.b, x, y)
        each.append(db[l] if equation == 4 else dW[l])
        example.run.step(example.program.state, x[None], y[None])
        np.testing.assert_allclose(example.value(name), each[-1], rtol=1e-12)
        example.net.theta[:] = kept
    example.run.step(example.program.state, example.X, example.Y)
    np.testing.assert_allclose(example.value(name), np.mean(each, axis=0), rtol=1e-12)


def test_the_gradient_is_that_of_the_cost(example):
    """The theorem: (2) to (5) give the derivatives of (1), by central differences of the cost."""
    kept, h = example.net.theta.copy(), 1e-6
    slopes = []
    for r in range(kept.size):
        sides = []
        for step in (h, -h):
            example.net.theta[r] = kept[r] + step
            sides.append(cost(example.W, example.b, example.X, example.Y))
        slopes.append((sides[0] - sides[1]) / (2 * h))
        example.net.theta[r] = kept[r]
    example.run.step(example.program.state, example.X, example.Y)
    np.testing.assert_allclose(example.net.gradient, slopes, rtol=1e-6, atol=1e-10)


def test_taylor_formula(example):
    """C(p + h d) = C(p) + h grad C . d + O(h^2): the remainder falls with slope 2 as h halves, for any d."""
    start, rng = example.net.theta.copy(), np.random.default_rng(1)

    def C(theta):
        example.net.theta[:] = theta
        return example.run.step(example.program.state, example.X, example.Y)

    at_start, slope = C(start), example.net.gradient.copy()
    for _ in range(5):
        direction = rng.normal(size=start.size)
        steps = 2.0 ** -np.arange(4, 12)
        remainders = [abs(C(start + h * direction) - at_start - h * slope @ direction) for h in steps]
        np.testing.assert_allclose(np.diff(np.log2(remainders)), -2, atol=0.1)
        without = [abs(C(start + h * direction) - at_start) for h in steps]  # without the gradient: slope 1
        np.testing.assert_allclose(np.diff(np.log2(without)), -1, atol=0.1)


@pytest.fixture(scope="module")
def compiled():
    """Compile the example's program; kernels are called by symbol, which compiles faster than inlining."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "INLINE", 0)
        example = Example()
        example.program.compile()
    return example


def test_update_rule(compiled):
    """Three steps p <- p - eta (1/N) sum_i grad C(p | x_i, y_i) of the compiled program on all samples."""
    W = {l: w.copy() for l, w in compiled.W.items()}
    b = {l: v.copy() for l, v in compiled.b.items()}
    N = len(compiled.X)
    for _ in range(3):
        expected = cost(W, b, compiled.X, compiled.Y)
        each = [gradient(W, b, x, y) for x, y in zip(compiled.X, compiled.Y, strict=True)]
        for l in W:
            W[l] = W[l] - ETA * (1 / N) * sum(dW[l] for dW, _ in each)
            b[l] = b[l] - ETA * (1 / N) * sum(db[l] for _, db in each)
        measured = compiled.program.step(compiled.program.state, compiled.X, compiled.Y)
        assert measured == pytest.approx(expected, rel=1e-13)
        for l in W:
            np.testing.assert_allclose(compiled.W[l], W[l], rtol=1e-12)
            np.testing.assert_allclose(compiled.b[l], b[l], rtol=1e-12)


def test_a_step_against_the_gradient_lowers_the_cost(compiled):
    """The cost falls as Taylor's formula says: by eta ||grad C||_2^2, up to eta^2."""
    before = compiled.program.step(compiled.program.state, compiled.X, compiled.Y)
    slope = np.linalg.norm(compiled.net.gradient)
    after = cost(compiled.W, compiled.b, compiled.X, compiled.Y)
    assert after < before and before - after == pytest.approx(ETA * slope**2, rel=0.05)


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 3.0, math.inf])
def test_logged_norms(p):
    """||grad C||_p in total and by layer, the metric sum |g|^p for p < 1; the layers' norms give the total."""

    def norm(vectors):
        v = np.concatenate([np.ravel(each) for each in vectors])
        if p == math.inf:
            return max(abs(e) for e in v)
        total = math.fsum(abs(e) ** p for e in v)
        return total if p < 1 else total ** (1 / p)

    example = Example(norm=p)
    before = cost(example.W, example.b, example.X, example.Y)
    example.run.step(example.program.state, example.X, example.Y)
    loss, rate, total, *by_layer = example.program.state.log[: 3 + L - 1]
    assert rate == ETA and loss == pytest.approx(before, rel=1e-12)
    assert total == pytest.approx(norm([example.net.gradient]), rel=1e-12)
    gradients = example.net.gradients
    assert example.program.layer_names == ["dense.1", "dense.3", "dense.5"]
    for name, logged in zip(example.program.layer_names, by_layer, strict=True):
        assert logged == pytest.approx(norm([gradients[f"{name}.W"], gradients[f"{name}.b"]]), rel=1e-12)
    assert total == pytest.approx(norm(by_layer) if p >= 1 else sum(by_layer), rel=1e-12)


# Convolutional layers


def size(i, k, s=1, padding="valid"):
    return compose([f"conv(1, {k}, stride={s}, padding={padding!r})"], (1, i)).output_shape[1]


def positions(i, k, s, p):
    """Count the positions of a kernel of k cells on i + p cells, s apart."""
    return sum(1 for first in range(i + p) if first % s == 0 and first + k <= i + p)


@pytest.mark.parametrize("i, k", [(i, k) for i, k in product(range(1, 9), range(1, 6)) if k <= i])
def test_sizes_at_stride_1(i, k):
    """o = (i - k) + 1; "same" p = k - 1 gives o = i; "full" p = 2 (k - 1) gives o = i + (k - 1)."""
    assert size(i, k) == (i - k) + 1 == positions(i, k, 1, 0)
    assert size(i, k, padding="same") == i == positions(i, k, 1, k - 1)
    assert size(i, k, padding="full") == i + (k - 1) == positions(i, k, 1, 2 * (k - 1))


@pytest.mark.parametrize("s", [1, 2, 3, 5])
@pytest.mark.parametrize("i, k", [(1, 1), (7, 3), (8, 3), (8, 2), (9, 4), (10, 5)])
def test_general_size(i, k, s):
    """o = floor((i + p - k) / s) + 1, p the total padding: the words', numbers' and pairs'; pooling's alike."""
    totals = {"valid": 0, "same": k - 1, "full": 2 * (k - 1), 1: 2, ((2, 1),): 3}
    for padding, p in totals.items():
        assert size(i, k, s, padding) == (i + p - k) // s + 1 == positions(i, k, s, p)
    assert compose([f"maxpool({k}, stride={s})"], (1, i)).output_shape[1] == (i - k) // s + 1
    twice = compose([f"conv(4, ({k}, 1), stride=({s}, 2), padding='same')"], (3, i, 6)).output_shape
    assert twice == (4, (i - 1) // s + 1, 3)


@pytest.mark.parametrize("padding", ["valid", "same", "full"])
def test_a_convolution_is_a_sparse_shared_matrix(padding):
    """Its matrix, column by column from F(e_j): o k weights at most, each of the kernel's on one diagonal."""
    i, k = 7, 3
    net = compose([f"conv(1, {k}, padding={padding!r}, bias=False)"], (1, i), dtype="float64")
    net.theta[:] = [2.0, 3.0, 5.0]
    program = Program(net, batch_size=i)

    def F(x):
        y = np.empty((len(x), *net.output_shape))
        program.reference().predict(program.state, x, y)
        return y.reshape(len(x), -1)

    matrix = F(np.eye(i)[:, None]).T
    before = {"valid": 0, "same": 1, "full": 2}[padding]
    for (row, column), weight in np.ndenumerate(matrix):
        tap = column - row + before
        assert weight == (net.theta[tap] if 0 <= tap < k else 0)
    dense = compose(["flatten", f"dense({len(matrix)}, bias=False)"], (1, i), dtype="float64")
    dense.theta[:] = matrix.ravel()
    x = np.random.default_rng(0).normal(size=(4, 1, i))
    np.testing.assert_allclose(F(x), dense.forward(x), rtol=1e-13, atol=1e-13)
    assert net.theta.size == k and dense.theta.size == len(matrix) * i
