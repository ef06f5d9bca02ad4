"""A program's functions by their C addresses: ctypes, SciPy's callables, and a status for whatever is wrong."""

import ctypes

import numpy as np
import pytest
from nnjit.errors import SpecError
from nnjit.program import schedule
from nnjit.program.c_functions import NOT_FINITE, WRONG_COUNT, WRONG_LABEL, WRONG_STATE
from nnjit.registry import compose
from numba import carray, cfunc, types

POINTERS = {np.float32: ctypes.c_float, np.float64: ctypes.c_double, np.int64: ctypes.c_int64}


def at(array):
    return array.ctypes.data_as(ctypes.POINTER(POINTERS[array.dtype.type]))


@pytest.fixture(scope="module", params=["float32", "float64"])
def program(request):
    net = compose(["dense(5)", "tanh", "dense(2)"], (3,), dtype=request.param)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("INLINE", "FEW_INLINE", "FEW_PASSED") if request.param == "float32" else ():
            patch.setattr(schedule, name, 0)
        program = net.compile("mse", "sgd(lr=0.1)", batch_size=4)
    assert program.plan.shares.inline == (request.param == "float64")  # and called by symbol in float32
    return program


@pytest.fixture
def given(program):
    rng, real = np.random.default_rng(0), program.dtype.type
    x, dx = rng.standard_normal((2, 4, 3)).astype(real)
    y, dy = rng.standard_normal((2, 4, 2)).astype(real)
    return x, dx, y, dy


def test_results_are_those_of_calls_from_python(program, given):
    x, dx, y, dy = given
    state, twin = program.c_state(program.new_state()), program.new_state()
    call = {name: program.c_function(name).ctypes for name in ("predict", "vjp", "jvp", "gradient", "step", "update")}
    assert call["predict"](state, at(x), at(y), 4) == 0
    np.testing.assert_array_equal(y, program.predict(twin, x))
    assert call["vjp"](state, at(x), at(dy), at(y), at(dx), 4, 0) == 0
    np.testing.assert_array_equal(dx, program.vjp(twin, x, dy)[1])
    np.testing.assert_array_equal(state.state.gradient, twin.gradient)
    assert program.c_function("clear").ctypes(state) == 0 and not state.state.gradient.any()
    tangent = np.ones_like(x)
    assert call["jvp"](state, at(x), at(tangent), at(y), at(dy), 4) == 0
    np.testing.assert_array_equal(dy, program.jvp(twin, x, tangent)[1])
    for name in ("gradient", "step"):
        loss = ctypes.c_double()
        assert call[name](state, at(x), at(y), ctypes.byref(loss), 4) == 0
        assert loss.value == getattr(program, name)(twin, x, y)
        np.testing.assert_array_equal(state.state.theta, twin.theta)
    norm = ctypes.c_double()
    assert call["update"](state, 0.5, ctypes.byref(norm)) == 0 and norm.value == program.update(twin, 0.5)
    np.testing.assert_array_equal(state.state.theta, twin.theta)


def test_a_status_tells_what_is_wrong(program, given):
    x, dx, y, dy = given
    loss, light = ctypes.c_double(-1), program.c_state(program.states(1)[0])
    state, step = program.c_state(program.new_state()), program.c_function("step").ctypes
    theta = state.state.theta.copy()
    assert program.c_function("vjp").ctypes(light, at(x), at(dy), at(y), at(dx), 4, 0) == WRONG_STATE
    assert program.c_function("predict").ctypes(light, at(x), at(y), 0) == WRONG_COUNT
    assert program.c_function("predict").ctypes(light, at(x), at(y), 4) == 0
    assert step(light, at(x), at(y), ctypes.byref(loss), 4) == WRONG_STATE
    assert step(state, at(x), at(y), ctypes.byref(loss), 5) == WRONG_COUNT
    infinite = x * np.inf
    assert step(state, at(infinite), at(y), ctypes.byref(loss), 4) == NOT_FINITE
    np.testing.assert_array_equal(state.state.theta, theta)
    labelled = compose(["dense(2)"], (3,), dtype=program.dtype.name).compile("cross_entropy", batch_size=4)
    other, labels = labelled.c_state(), np.array([0, 1, 2, 0])
    assert labelled.c_function("step").ctypes(other, at(x), at(labels), ctypes.byref(loss), 4) == WRONG_LABEL
    assert labelled.c_function("step").ctypes(state, at(x), at(labels), ctypes.byref(loss), 2) == WRONG_STATE
    with pytest.raises(SpecError, match=r"c_function: expected one of predict, vjp, .*, got .epoch"):
        program.c_function("epoch")


def test_a_declaration_is_a_line_of_c(program):
    real = {"float32": "float", "float64": "double"}[program.dtype.name]
    assert program.c_function("jvp").declaration == (
        f"int jvp(void *state, const {real} *x, const {real} *dx, {real} *y, {real} *dy, int64_t samples);"
        "  /* x (samples, 3), dx (samples, 3), y (samples, 2), dy (samples, 2) */"
    )
    assert program.c_function("update").declaration == "int update(void *state, double scale, double *norm);"


def test_scipy_calls_a_network():
    """A quadrature and a filter, each by an adaptor whose user_data is the address of the state."""
    scipy = pytest.importorskip("scipy")
    from scipy import integrate, ndimage

    net = compose(["dense(6)", "tanh", "dense(1)"], (1,), dtype="float64", seed=1)
    program = net.compile(None, batch_size=1)
    state, predict = program.c_state(), program.c_function("predict").ctypes
    double, pointer = types.float64, types.CPointer(types.float64)

    @cfunc(double(types.intc, pointer, types.voidptr))
    def integrand(n, x, data):
        y = np.empty(1)
        predict(data, x, y.ctypes, 1)
        return y[0]

    @cfunc(types.intc(pointer, types.intp, pointer, types.voidptr))
    def filtered(window, size, result, data):
        return 1 if predict(data, window, result, 1) == 0 else 0

    address = ctypes.c_void_p(state.address)
    area, _ = integrate.quad(scipy.LowLevelCallable(integrand.ctypes, address, "double (int, double *, void *)"), -1, 2)
    nodes, weights = np.polynomial.legendre.leggauss(40)
    values = net.predict((0.5 + 1.5 * nodes)[:, None]).ravel()
    assert area == pytest.approx(1.5 * weights @ values, rel=1e-10)
    image = np.linspace(-1, 1, 12).reshape(3, 4)
    signature = "int (double *, npy_intp, double *, void *)"
    found = ndimage.generic_filter(image, scipy.LowLevelCallable(filtered.ctypes, address, signature), size=1)
    np.testing.assert_allclose(found.ravel(), net.predict(image.reshape(-1, 1)).ravel(), rtol=1e-12)


def by_scipy(program, start, times):
    """Integrate x' = F(x) by an implicit method; its Newton steps take the network's own Jacobian."""
    integrate = pytest.importorskip("scipy.integrate")
    state = program.state
    found = integrate.solve_ivp(
        lambda t, x: program.predict(state, x), (times[0], times[-1]), start, "Radau", times, rtol=1e-9, atol=1e-11,
        jac=lambda t, x: program.jacobian(state, x)[1],
    )  # fmt: skip
    return found.y.T


def by_numbalsoda(program, start, times):
    """Integrate x' = F(x) in C; the state's address comes as the integrator's data."""
    numbalsoda = pytest.importorskip("numbalsoda")
    state, predict = program.c_state(), program.c_function("predict").ctypes

    @cfunc(numbalsoda.lsoda_sig)
    def slope(t, x, dx, data):
        predict(carray(data, 1).view(np.int64)[0], x, dx, 1)

    data = np.array([state.address]).view(np.float64)
    found, done = numbalsoda.lsoda(slope.address, start, times, data, 1e-10, 1e-12)
    assert done
    return found


@pytest.mark.parametrize("integrated", [by_scipy, by_numbalsoda])
def test_an_integrator_calls_a_network(integrated):
    """Against the exact solution of a linear network, and small steps of Runge and Kutta's method for another."""
    start, times = np.array([1.0, -0.5]), np.linspace(0.0, 2.0, 5)
    net = compose(["dense(2)"], (2,), dtype="float64", seed=1)
    net.theta[:] = [-0.5, 2.0, -2.0, -0.3, 0.1, 0.2]
    matrix, shift = net.parameters["dense.1.W"], net.parameters["dense.1.b"]
    values, vectors = np.linalg.eig(matrix)
    rest = np.linalg.solve(matrix, shift)  # x + rest is an exponential
    exact = [(vectors * np.exp(values * t) @ np.linalg.solve(vectors, start + rest)).real - rest for t in times]
    np.testing.assert_allclose(integrated(net.compile(None, batch_size=1), start, times), exact, atol=1e-6)

    net = compose(["dense(8)", "tanh", "dense(2)"], (2,), dtype="float64", seed=2)
    path, h = [start], 2.0 / 400
    for _ in range(400):
        x = path[-1]
        k1 = net.predict(x[None])[0]
        k2 = net.predict((x + h / 2 * k1)[None])[0]
        k3 = net.predict((x + h / 2 * k2)[None])[0]
        k4 = net.predict((x + h * k3)[None])[0]
        path.append(x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
    np.testing.assert_allclose(integrated(net.compile(None, batch_size=1), start, times), path[::100], atol=1e-6)
