"""Outputs that share memory with other arrays of a call: right results or a refusal; in Python, jitted code and C."""

import ctypes

import numpy as np
import pytest
from nnjit.errors import ShapeError
from nnjit.program.c_functions import SHARED
from nnjit.registry import compose
from test_calls import CALLERS, OUTPUTS, predict_in_prange

SIZE, SAMPLES = 4, 5


ARRAYS = {"predict": "x y", "vjp": "x dy y dx", "jvp": "x dx y dy", "jacobian": "x y J"}
PAIRS = [
    (name, each, other)
    for name, arrays in ARRAYS.items()
    for each in arrays.split()[-OUTPUTS[name] :]
    for other in arrays.split()
    if other != each and (other not in arrays.split()[-OUTPUTS[name] :] or other < each)
]


@pytest.fixture(scope="module", params=["inlined", "linked"])
def program(request):
    layers = ["dense(4)"] if request.param == "inlined" else ["dense(70)", "tanh", "dense(70)", "tanh", "dense(4)"]
    net = compose(layers, (SIZE,), dtype="float64", seed=1)
    return net.compile(None, batch_size=2)  # five samples are three batches


def arguments(name, samples):
    """Return arrays by name."""
    rng = np.random.default_rng(0)
    sizes = {"J": (samples, SIZE, SIZE)}
    return {each: rng.standard_normal(sizes.get(each, (samples, SIZE))) for each in ARRAYS[name].split()}


def sharing(given, one, other, offset):
    """Return the arrays with one of them in the memory of another, some numbers after its beginning."""
    a, b = given[other], given[one]
    low = max(0, -offset)
    memory = np.zeros(a.size + b.size + abs(offset))
    first, second = memory[low : low + a.size].reshape(a.shape), memory[low + offset :][: b.size].reshape(b.shape)
    first[...] = a
    return given | {other: first, one: second}


def called(way, program, name, given):
    """Call a function; return whether it was refused."""
    function, state = getattr(program, name), program.new_state()
    if way == "C":
        pointers = [a.ctypes.data_as(ctypes.POINTER(ctypes.c_double)) for a in given.values()]
        more = [0] if name == "vjp" else []
        status = program.c_function(name).ctypes(program.c_state(state), *pointers, len(given["x"]), *more)
        assert status in (0, SHARED)
        return status == SHARED
    try:
        function(state, *given.values()) if way == "Python" else CALLERS[name](function, state, *given.values())
    except ShapeError as error:
        assert way == "Python" and "with memory of its own, got one that shares a part with" in str(error)
        return True
    except ValueError as error:
        assert str(error).startswith(f"{name}: an output shares a part of its memory")
        return True
    return False


@pytest.mark.parametrize("name, one, other", PAIRS)
@pytest.mark.parametrize("way", ["Python", "jitted", "C"])
def test_results_are_right_or_the_call_is_refused(program, way, name, one, other):
    if way == "C" and name == "jacobian":
        pytest.skip("there is no jacobian in C")
    outputs, refused = ARRAYS[name].split()[-OUTPUTS[name] :], set()
    for samples in (1, SAMPLES):
        wanted = arguments(name, samples)
        assert not called("Python", program, name, wanted)
        for offset in (0, 1, -1, SIZE, -SIZE, 2 * SIZE, -2 * SIZE, 100 * SIZE):
            given = sharing(arguments(name, samples), one, other, offset)
            shared = np.shares_memory(given[one], given[other])
            if called(way, program, name, given):
                assert shared
                refused.add((samples, offset))
                assert way == "C" or all(np.isnan(given[each]).all() for each in outputs)
            else:
                for each in outputs:
                    np.testing.assert_array_equal(given[each], wanted[each], err_msg=f"{each}, {samples}, {offset}")
    assert (SAMPLES, 1) in refused and (SAMPLES, -SIZE) in refused
    if other not in outputs:  # the same array, and one sample
        assert ((SAMPLES, 0) in refused) == (given[one].shape != given[other].shape)
        assert not {each for each in refused if each[0] == 1}
    else:
        assert {(1, 0), (1, 1), (SAMPLES, 0)} <= refused


def test_in_a_parallel_loop_the_result_is_nan(program):
    memory, state = np.zeros(SIZE * (SAMPLES + 1)), program.new_state()
    x, y = memory[:-SIZE].reshape(SAMPLES, SIZE), memory[SIZE:].reshape(SAMPLES, SIZE)
    predict_in_prange(program.predict, state, x, y)
    assert np.isnan(y).all()
    with pytest.raises(ShapeError, match="an earlier call of predict in compiled code was refused"):
        program.predict(state, np.zeros((2, SIZE)), np.zeros((2, SIZE)))


def test_a_jacobian_of_more_rows_than_it_takes_at_once():
    net = compose(["dense(80)"], (80,), dtype="float64", seed=1)
    program, x = net.compile(None, batch_size=1), np.linspace(-1, 1, 80)[None]
    y, wanted = program.jacobian(program.state, x)
    J = np.empty((1, 80, 80))
    program.jacobian(program.state, x, x, J)
    np.testing.assert_array_equal(J, wanted)
    np.testing.assert_array_equal(x, y)
