"""Drawn wrong calls of the public functions, from Python, from jitted code and from parallel loops.

    python tests/wrong_calls.py --count 10000 --seed 1

Every call is drawn from (seed, number), so ``--first NUMBER --count 1`` repeats one that fails. Children make 300 calls
each; if a child dies, its last call is made again alone. A call must end in one sentence (an NnjitError, an error of
the program's text, or a typing error that says what a function takes), or be right after all: its result is then
compared with NumPy's. A refused call leaves NaN in its output, and the next right call with the same state must give
the right numbers.
"""

import argparse
import collections
import copy
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from numba import njit, prange
from numba.core.errors import TypingError

A_CHILD = 300  # calls of a child
SECONDS = 600  # seconds that a child may take
SENTINEL = 7.0  # value of an output before the call


@njit(cache=True)
def predict_in(predict, state, x, y):
    predict(state, x, y)


@njit(cache=True)
def step_in(step, state, x, target):
    return step(state, x, target)


@njit(cache=True)
def epoch_in(epoch, state, x, targets, order):
    return epoch(state, x, targets, order)


@njit(cache=True)
def predict_tried(predict, state, x, y):
    try:
        predict(state, x, y)
    except Exception:
        return 1
    return 0


@njit(parallel=True, cache=True)
def predict_in_prange(predict, state, x, y):
    for _ in prange(1):
        predict(state, x, y)


@njit(parallel=True, cache=True)
def step_in_prange(step, state, x, target, loss):
    for i in prange(1):
        loss[i] = step(state, x, target)


class Wrong(AssertionError):
    """The call ended in a way that is not allowed."""


class Things:
    """Networks and programs that the calls of one child share."""

    def __init__(self):
        from nnjit.registry import compose

        layers = ["dense(4)", "tanh", "dense(3)"]
        self.net = compose(layers, (2,), dtype="float64", seed=1)
        self.single = compose(layers, (2,), dtype="float32", seed=2)
        self.program = self.net.compile("mse", "sgd(lr=0.01)", batch_size=4)
        self.classifier = compose(layers, (2,), dtype="float64", seed=1).compile("cross_entropy", "sgd(lr=0.01)", 4)
        others = [(layers, (2,), "float64", 5), (layers, (2,), "float32", 4), (["dense(200)"], (50,), "float64", 4)]
        self.strangers = [
            compose(names, shape, dtype=dtype).compile("mse", "sgd(lr=0.01)", batch_size=batch).state
            for names, shape, dtype, batch in others
        ]
        self.folder = Path(tempfile.mkdtemp())


def expected(net, x):
    """Compute F(x) of the networks above in NumPy."""
    p = {name: array.astype(float) for name, array in net.parameters.items()}
    a = np.tanh(np.asarray(x, float) @ p["dense.1.W"].T + p["dense.1.b"])
    return a @ p["dense.3.W"].T + p["dense.3.b"]


# Draws


def odd_array(rng, right, integers=False):
    """Return the array, or a variant that is wrong in one way (or in no way that matters)."""
    n = len(right)
    ways = [
        lambda: right,
        lambda: right[: rng.integers(0, n + 1)],
        lambda: np.concatenate([right, right])[: rng.integers(n, 2 * n + 1)],
        lambda: right[..., :-1].copy() if right.ndim > 1 else right[:-1],
        lambda: np.repeat(right, 2, axis=-1),
        lambda: right[0],
        lambda: right[None],
        lambda: right.ravel(),
        lambda: np.asfortranarray(np.repeat(right, 2, axis=0))[: n + rng.integers(-1, 2)],
        lambda: np.repeat(right, 2, axis=0)[::2],
        lambda: right[:0],
        lambda: frozen(right),
        lambda: right.astype(
            rng.choice(["f2", "f4", "f8", "i1", "i4", "i8", "u8", "?", "O", "c16", ">f8", "U8", "M8[s]"])
        ),
        lambda: right.tolist(),
        lambda: rng.choice([None, 0, 1.5, "x", b"x", np.nan], 1)[0],
        lambda: np.ma.masked_array(right),
        lambda: np.full_like(right, rng.choice([99, -1, 2**40]) if integers else rng.choice([np.nan, np.inf, 1e300])),
    ]
    return ways[rng.integers(len(ways))]()


def frozen(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def same_type(rng, right, free=True):
    """Return values of the same Numba type: other sizes, other contents."""
    sizes = [max(0, size + rng.integers(-2, 3)) if rng.random() < 0.5 else size for size in right.shape]
    new = np.zeros(sizes if free else right.shape, right.dtype)
    if right.dtype.kind == "i":
        new[...] = rng.choice([-1, 0, 1, 2, 3, 99, -(2**62)], new.shape)
    else:
        new[...] = rng.normal(size=new.shape)
    return new


def odd_state(rng, things, program):
    ways = [
        lambda: program.state,
        lambda: program.new_state(),
        lambda: copy.deepcopy(program.state),
        lambda: things.strangers[rng.integers(len(things.strangers))],
        lambda: (things.classifier if program is things.program else things.program).state,
        lambda: tuple(program.state),
        lambda: rng.choice([None, 0, "state"], 1)[0],
        lambda: program,
    ]
    return ways[rng.integers(len(ways))]()


# Kinds of calls: each draws a call and makes it; it returns the kind of outcome, or raises.


def sentence(error):
    """Return the kind of outcome of an exception; raise Wrong if a user should not see it."""
    from nnjit.errors import NnjitError

    text = str(error)
    if isinstance(error, TypingError):
        if "takes, by position" in text or "read-only" in text or ": expected " in text:
            return "refused when compiled"
        raise Wrong(f"TypingError: {text}")
    if isinstance(error, NnjitError) or type(error) is ValueError:
        if "\n" in text.strip() or not text or len(text) > 600:
            raise Wrong(f"no sentence: {text!r}")
        return f"refused with {type(error).__name__}"
    if isinstance(error, TypeError) and ("argument" in text or text.startswith("expected str, bytes or os.PathLike")):
        return "refused by Python's own rule of arguments"
    raise Wrong(f"{type(error).__name__}: {text}")


def next_call(program, net):
    """Check that the next right call with the program's state gives the right numbers."""
    state = program.state
    x, y = np.linspace(-1, 1, 6).reshape(3, 2), np.full((3, 3), SENTINEL)
    for _ in range(2):  # the first call may only say that a former call was refused
        try:
            program.predict(state, x, y)
            break
        except ValueError as error:
            if "an earlier call" not in str(error):
                raise Wrong(f"the next call: {error}") from None
    if not np.allclose(y, expected(net, x), rtol=1e-6, atol=1e-9):
        raise Wrong(f"the next call gives other numbers: {y.tolist()}")


def judged(error, output):
    """Check a refused call: its sentence, and NaN in the output if compiled code had it."""
    kind = sentence(error)
    if output is not None and type(error) is ValueError and not np.isnan(output).all():
        raise Wrong(f"a stale result: {output.ravel()[:4].tolist()}")
    return kind


def python_call(rng, things, program, name):
    """Call predict, step or epoch from Python."""
    x, y = np.linspace(-1, 1, 6).reshape(3, 2), np.full((3, 3), SENTINEL)
    second = y if name == "predict" else (np.ones(3, np.int64) if program.labels else np.ones((3, 3)))
    given = [x, second, np.arange(3)][: 3 if name == "epoch" else 2]
    state = odd_state(rng, things, program) if rng.random() < 0.4 else program.new_state()
    for _ in range(rng.integers(1, 3)):
        at = rng.integers(len(given))
        if isinstance(given[at], np.ndarray) and len(given[at].shape) and len(given[at]):
            given[at] = odd_array(rng, given[at], given[at].dtype.kind == "i")
    if rng.random() < 0.1:
        given = given[:-1] if rng.random() < 0.5 else [*given, x]
    try:
        result = getattr(program, name)(state, *given)
    except Exception as error:
        return judged(error, None)
    return accepted(rng, things, program, name, state, given, result)


def accepted(rng, things, program, name, state, given, result):
    """Check the result of a call that was right after all; an output that was left out is the result."""
    if name == "predict" and result is not None:
        given = [given[0], result]
    x = np.asarray(given[0], float)
    if name != "predict":
        if not isinstance(result, float) or (
            np.isfinite(x).all() and not np.isfinite(np.asarray(given[1], float)).all()
        ):
            return "right: no finite numbers to learn from"
        numbers = np.concatenate([np.ravel(each) for each in given[:2]]).astype(float)
        if np.isnan(result) and np.isfinite(numbers).all() and np.abs(numbers).max(initial=0) < 1e100:
            raise Wrong(f"{name} of finite numbers gives {result}")
        return "right: a step"
    if not len(x):
        return "right: no rows"
    wanted = expected(program.network, x)
    own = np.array_equal(state.theta, program.network.theta)
    if own and not np.allclose(given[1], wanted, rtol=1e-6, atol=1e-9, equal_nan=True):
        raise Wrong(f"predicted {given[1].tolist()}, expected {wanted.tolist()}")
    return "right: predicted"


def jitted_call(rng, things, program, name):
    """Call from the user's jitted code: few compiled callers, drawn values."""
    x, y = np.linspace(-1, 1, 6).reshape(3, 2), np.full((3, 3), SENTINEL)
    second = y if name == "predict" else (np.ones(3, np.int64) if program.labels else np.ones((3, 3)))
    given = [x, second, np.arange(3)][: 3 if name == "epoch" else 2]
    if rng.random() < 0.8:
        at = rng.integers(len(given))
        given[at] = same_type(rng, given[at])
    if name == "predict":
        given[1][...] = SENTINEL
    states = [program.new_state(), program.state, things.strangers[0], things.strangers[2]]
    state = states[rng.integers(len(states))] if rng.random() < 0.5 else program.new_state()
    function, output = getattr(program, name), given[1] if name == "predict" else None
    if name == "predict" and rng.random() < 0.3:
        if predict_tried(function, state, *given):
            if not np.isnan(output).all():
                raise Wrong("a stale result after the user's try")
            return "refused, the user's try was entered"
        return accepted(rng, things, program, name, state, given, None)
    try:
        result = {"predict": predict_in, "step": step_in, "epoch": epoch_in}[name](function, state, *given)
    except Exception as error:
        return judged(error, output)
    return accepted(rng, things, program, name, state, given, result)


def prange_call(rng, things, program, name):
    """Call from the body of a parallel loop, which cannot raise: NaN, and the next call from Python raises."""
    from nnjit.kernels.counters import FAULT

    x, y = np.linspace(-1, 1, 6).reshape(3, 2), np.full((3, 3), SENTINEL)
    second = y if name == "predict" else (np.ones(3, np.int64) if program.labels else np.ones((3, 3)))
    given = [x, second]
    at = rng.integers(2)
    given[at] = same_type(rng, given[at])
    if name == "predict":
        given[1][...] = SENTINEL
    state = program.new_state() if rng.random() < 0.6 else things.strangers[0]
    state.counters[FAULT] = 0
    if name == "predict":
        predict_in_prange(program.predict, state, *given)
        result = given[1]
    else:
        result = np.full(1, SENTINEL)
        step_in_prange(program.step, state, *given, result)
    if state.counters[FAULT] == 0:
        return accepted(rng, things, program, name, state, given, float(result[0]) if name == "step" else None)
    if not np.isnan(result).all():
        raise Wrong(f"a stale result from a parallel loop: {result.ravel()[:4].tolist()}")
    if program.layout <= state.layout <= program.layout + 2:
        try:
            program.predict(state, x, y)
        except ValueError as error:
            if "an earlier call" in str(error):
                return "refused in a parallel loop, said by the next call"
        raise Wrong("the next call said nothing")
    state.counters[FAULT] = 0
    return "refused in a parallel loop"


# Derivatives: right results by the formulas of the network above


@njit(cache=True)
def call3(function, state, a, b, c):
    return function(state, a, b, c)


@njit(cache=True)
def call4(function, state, a, b, c, d):
    return function(state, a, b, c, d)


@njit(cache=True)
def call2(function, state, a, b):
    return function(state, a, b)


@njit(cache=True)
def call1(function, state, a):
    return function(state, a)


@njit(cache=True)
def call0(function, state):
    return function(state)


JITTED = (call0, call1, call2, call3, call4)


def right_results(net, x, d):
    """Return y, J, J^T d and J d of samples x, with d for dy or dx."""
    p = {name: array.astype(float) for name, array in net.parameters.items()}
    a = np.tanh(x @ p["dense.1.W"].T + p["dense.1.b"])
    J = np.einsum("oh,nh,hi->noi", p["dense.3.W"], 1 - a * a, p["dense.1.W"])
    y = a @ p["dense.3.W"].T + p["dense.3.b"]
    if d is None:
        return y, J
    return y, np.einsum("noi,no->ni", J, d) if d.shape[1] == 3 else np.einsum("noi,ni->no", J, d)


def derivative_call(rng, things, name, way):
    """Call a derivative, or update or clear, from Python or jitted code, with one wrong argument or none."""
    program, x = things.program, np.linspace(-1, 1, 6).reshape(3, 2)
    full = {
        "vjp": [x, np.ones((3, 3)), np.full((3, 3), SENTINEL), np.full((3, 2), SENTINEL)],
        "jvp": [x, np.ones((3, 2)), np.full((3, 3), SENTINEL), np.full((3, 3), SENTINEL)],
        "jacobian": [x, np.full((3, 3), SENTINEL), np.full((3, 3, 2), SENTINEL)],
        "gradient": [x, np.ones((3, 3))], "update": [0.5], "clear": [],
    }[name]  # fmt: skip
    written = {"vjp": 2, "jvp": 2, "jacobian": 2}.get(name, 0)
    left_out = written and rng.random() < 0.4
    given = full[: len(full) - written] if left_out else full
    if given and rng.random() < 0.2 and name != "update":
        given = [each[1] for each in given]  # one sample
    outputs = given[len(given) - (0 if left_out else written) :] if written and not left_out else []
    if given and name != "update" and rng.random() < 0.6:
        at = rng.integers(len(given))
        given[at] = same_type(rng, given[at]) if way == "jitted" else odd_array(rng, given[at])
        outputs = [each for each in given[len(given) - len(outputs) :] if isinstance(each, np.ndarray)]
    if way == "jitted":
        for each in outputs:
            each[...] = SENTINEL
    lights = [program.states(1)[0], program.states(1, gradient=True)[0]]
    states = [*lights, program.new_state(), things.strangers[0], things.strangers[2]]
    state = states[rng.integers(len(states))] if rng.random() < 0.5 else program.new_state()
    function = getattr(program, name)
    try:
        result = JITTED[len(given)](function, state, *given) if way == "jitted" else function(state, *given)
    except Exception as error:
        kind = sentence(error)
        if way == "jitted" and type(error) is ValueError and not all(np.isnan(each).all() for each in outputs):
            raise Wrong("a stale result") from None
        return kind
    if not written:
        return "right: " + name
    found = result if left_out else given[len(given) - written :]
    at, d = (
        (np.asarray(each, float) for each in given[:2]) if name != "jacobian" else (np.asarray(given[0], float), None)
    )
    if at.ndim == 1:
        at, d, found = at[None], None if d is None else d[None], [each[None] for each in found]
    if not len(at):
        return "right: no rows"
    wanted = right_results(program.network, at, d)
    for got, want in zip(found, wanted, strict=True):
        if not np.allclose(got, want, rtol=1e-6, atol=1e-9, equal_nan=True) and np.isfinite(want).all():
            raise Wrong(f"{name} gives {np.ravel(got)[:6].tolist()}, expected {np.ravel(want)[:6].tolist()}")
    return "right: " + name


@njit(parallel=True, cache=True)
def pass4_in_prange(function, state, a, b, c, d):
    for _ in prange(1):
        function(state, a, b, c, d)


@njit(parallel=True, cache=True)
def pass3_in_prange(function, state, a, b, c):
    for _ in prange(1):
        function(state, a, b, c)


@njit(parallel=True, cache=True)
def gradient_in_prange(function, state, x, target, loss):
    for i in prange(1):
        loss[i] = function(state, x, target)


@njit(parallel=True, cache=True)
def update_in_prange(function, state, norm):
    for i in prange(1):
        norm[i] = function(state, 0.5)


def derivative_in_prange(rng, things):
    """Call a derivative from the body of a parallel loop: right, or NaN and a word from the next call from Python."""
    from nnjit.kernels.counters import FAULT

    program, x, number = things.program, np.linspace(-1, 1, 6).reshape(3, 2), np.full(1, SENTINEL)
    name = str(rng.choice(["vjp", "jvp", "jacobian", "gradient", "update"]))
    call, given = {
        "vjp": (pass4_in_prange, [x, np.ones((3, 3)), np.zeros((3, 3)), np.zeros((3, 2))]),
        "jvp": (pass4_in_prange, [x, np.ones((3, 2)), np.zeros((3, 3)), np.zeros((3, 3))]),
        "jacobian": (pass3_in_prange, [x, np.zeros((3, 3)), np.zeros((3, 3, 2))]),
        "gradient": (gradient_in_prange, [x, np.ones((3, 3)), number]),
        "update": (update_in_prange, [number]),
    }[name]
    if name != "update" and rng.random() < 0.6:
        at = rng.integers(len(given) - (name == "gradient"))
        given[at] = same_type(rng, given[at])
    outputs = given[-(1 if name in ("gradient", "update") else 2) :]
    for each in outputs:
        each[...] = SENTINEL
    states = [program.new_state(), program.states(1)[0], program.states(1, gradient=True)[0], things.strangers[0]]
    state = states[rng.integers(4) if rng.random() < 0.5 else 0]
    state.counters[FAULT] = 0
    call(getattr(program, name), state, *given)
    if state.counters[FAULT] == 0:
        if name in ("gradient", "update"):
            finite = np.isfinite(number).all() or not np.isfinite(given[0]).all()
            if number[0] == SENTINEL or not finite:
                raise Wrong(f"{name} in a parallel loop gives {number[0]}")
            return f"right: {name}"
        wanted = right_results(program.network, given[0], given[1] if name != "jacobian" else None)
        for got, want in zip(outputs, wanted, strict=True):
            if not np.allclose(got, want, rtol=1e-6, atol=1e-9):
                raise Wrong(f"{name} in a parallel loop gives {np.ravel(got)[:6].tolist()}")
        return f"right: {name}"
    if not all(np.isnan(each).all() for each in outputs):
        raise Wrong(f"a stale result of {name} from a parallel loop")
    if program.layout <= state.layout <= program.layout + 2:
        try:
            program.predict(state, x)
        except ValueError as error:
            if f"an earlier call of {name}" in str(error):
                return f"refused: {name}, said by the next call"
        raise Wrong("the next call said nothing")
    state.counters[FAULT] = 0
    return f"refused: {name}"


def shared_call(rng, things, way):
    """Call a function with arrays that lie anywhere in one piece of memory: refused, or right."""
    program, memory, N = things.program, rng.standard_normal(40), int(rng.integers(1, 4))
    name = str(rng.choice(["predict", "vjp", "jvp", "jacobian"]))
    shapes = {
        "predict": [(N, 2), (N, 3)], "vjp": [(N, 2), (N, 3), (N, 3), (N, 2)], "jvp": [(N, 2), (N, 2), (N, 3), (N, 3)],
        "jacobian": [(N, 2), (N, 3), (N, 3, 2)],
    }[name]  # fmt: skip
    given = []
    for shape in shapes:
        size = int(np.prod(shape))
        at = int(rng.integers(0, memory.size - size + 1))
        given.append(memory[at : at + size].reshape(shape))
    read = [each.copy() for each in given[: 2 if len(given) == 4 else 1]]
    function, state = getattr(program, name), program.new_state()
    try:
        _ = JITTED[len(given)](function, state, *given) if way == "jitted" else function(state, *given)
    except Exception as error:
        return sentence(error)
    wanted = right_results(program.network, read[0], read[1] if len(read) == 2 else None)
    for got, want in zip(given[len(read) :], wanted, strict=False):
        if not np.allclose(got, want, rtol=1e-6, atol=1e-9):
            raise Wrong(f"{name} in shared memory gives {np.ravel(got)[:6].tolist()}")
    return f"right: {name} in shared memory"


def c_call(rng, things, name):
    """Call a function by its C address; one thing may be wrong, and the state: a status says which."""
    import ctypes

    program = things.classifier if name in ("step", "gradient") and rng.random() < 0.4 else things.program
    which = int(rng.integers(4)) if rng.random() < 0.4 else 0
    lights = [program.states(1)[0], program.states(1, gradient=True)[0]]
    state = program.c_state([program.new_state(), things.strangers[0], *lights][which])
    fault = str(rng.choice(["none", "samples", "memory", "label", "number"]))
    memory, labels = np.full(40, SENTINEL), rng.integers(0, 3, 3)
    x, y, d = memory[:6].reshape(3, 2), memory[10:19].reshape(3, 3), memory[20:26].reshape(3, 2)
    x[:] = np.linspace(-1, 1, 6).reshape(3, 2)
    ones, number = np.ones((3, 3)), np.zeros(1)
    count = int(rng.choice([0, -1, -(2**62)])) if fault == "samples" else 3
    if fault == "memory":
        y = memory[3:12].reshape(3, 3)
    if fault == "label":
        labels[rng.integers(3)] = rng.choice([-1, 3, 2**40])
    if fault == "number":
        x[1, 1] = np.nan
        state.state.gradient[-1:] = np.nan
    double = ctypes.POINTER(ctypes.c_double)
    X, Y, D, U, out = (a.ctypes.data_as(double) for a in (x, y, d, ones, number))
    target = labels.ctypes.data_as(ctypes.POINTER(ctypes.c_int64)) if program.labels else U
    given = {
        "predict": [X, Y, count], "vjp": [X, U, Y, D, count, 0], "jvp": [X, X, Y, U, count],
        "step": [X, target, out, count], "gradient": [X, target, out, count], "update": [0.5, out], "clear": [],
    }[name]  # fmt: skip
    status = program.c_function(name).ctypes(state, *given)
    fits = {"predict": (0, 2, 3), "jvp": (0, 2, 3), "vjp": (0, 3), "clear": (0, 3)}.get(name, (0,))
    wrong = {
        "samples": 2 * (name not in ("update", "clear")), "memory": 6 * (name in ("predict", "vjp", "jvp")),
        "label": 3 * program.labels, "number": 4 * (name in ("step", "update")),
    }  # fmt: skip
    wanted = 1 if which not in fits else wrong.get(fault, 0)
    if status != wanted:
        raise Wrong(f"{name} in C: status {status}, expected {wanted}")
    if status == 0 and name in ("predict", "vjp", "jvp"):
        wanted = expected(program.network, x)
        if not np.allclose(y, wanted, equal_nan=True):
            raise Wrong(f"{name} in C gives {y.tolist()}")
    return f"status {status}"


def mistyped_call(rng, things):
    """Call jitted code with an argument of a wrong type: refused when compiled."""
    x, y = np.linspace(-1, 1, 6).reshape(3, 2), np.zeros((3, 3))
    ways = [
        (things.program.state, x.astype("f4"), y),
        (things.program.state, x, frozen(y)),
        (things.program.state, x.T.copy().T, y),
        (things.strangers[1], x, y),
        (1.0, x, y),
        (things.program.state, x, y.ravel()),
    ]
    try:
        predict_in(things.program.predict, *ways[rng.integers(len(ways))])
    except Exception as error:
        return judged(error, None)
    raise Wrong("accepted")


# Methods of Network, compose, load


def network_call(rng, things, name):
    """Call predict, forward, backward, evaluate of a Network."""
    net = things.net if rng.random() < 0.5 else things.single
    x = np.linspace(-1, 1, 6).reshape(3, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if name == "predict":
                given = odd_array(rng, x)
                batch = rng.choice([64, 1, 0, -1, 2.5, True, "4", None, 2**70], 1)[0] if rng.random() < 0.3 else 64
                y = net.predict(given, batch_size=batch)
            elif name == "forward":
                given = odd_array(rng, x)
                y = net.forward(given)
            elif name == "backward":
                given = x
                net.forward(x)
                net.backward(odd_array(rng, np.ones((3, 3))))
                return "right: backward"
            else:
                targets = odd_array(rng, np.array([0, 1, 2]) if rng.random() < 0.5 else np.ones((3, 3)), True)
                loss = rng.choice(["cross_entropy", "mse", None, "hinge", "binary_cross_entropy", 3], 1)[0]
                net.evaluate(odd_array(rng, x), targets, loss=loss)
                return "right: evaluated"
        except Exception as error:
            return judged(error, None)
    wanted = expected(net, np.asarray(given, float))
    if not np.allclose(y, wanted, rtol=1e-4, atol=1e-5, equal_nan=True):
        raise Wrong(f"{name} gives {y.tolist()}, expected {wanted.tolist()}")
    return f"right: {name}"


NUMBERS = [0, 1, 2, -1, 1.5, True, None, "3", "x", float("nan"), float("inf"), -0.5, 2**70, 1e400, [1], np.float32(2)]


def odd(rng, *right):
    """Return one of the right values, or an odd one."""
    values = [*right, *right, *NUMBERS]
    return values[rng.integers(len(values))]


def fit_call(rng, things):
    """Call fit with a wrong option or wrong data."""
    net = copy.deepcopy(things.net)
    x, y = np.linspace(-1, 1, 12).reshape(6, 2), np.array([0, 1, 2, 0, 1, 2])
    options = {"epochs": 1, "batch_size": 4}
    which = rng.integers(9)
    if which == 0:
        x = odd_array(rng, x)
    elif which == 1:
        y = odd_array(rng, y, True)
    elif which == 2:
        options["loss"] = odd(rng, "cross_entropy", "mse", "mse(x=1)", "")
    elif which == 3:
        lr = odd(rng, 0.1)
        options["optimizer"] = odd(rng, f"adam(lr={lr!r})", ("sgd", {"lr": lr}), "sgd(momentum=2)", "adam(beta1=nan)")
    elif which == 4:
        options["epochs"] = odd(rng, 1)
        options["epochs"] = 1 if options["epochs"] == 2**70 else options["epochs"]
    elif which == 5:
        options["batch_size"] = odd(rng, 4, 0)
    elif which == 6:
        options["validation"] = odd(rng, (x, y), (x, y[:3]), (x[:0], y[:0]), (x,))
    elif which == 7:
        options["clip"] = odd(rng, "norm(max=1)", "norm(max=-1)", "norm(max=nan)", "norm(max=1, p=0)")
    else:
        options[str(rng.choice(["seed", "norm", "metrics", "schedule", "nonsense"]))] = odd(
            rng, "cosine", ("accuracy",)
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            net.fit(x, y, **options)
        except Exception as error:
            return judged(error, None)
    if not np.isfinite(net.theta).all():
        raise Wrong(f"theta is not finite after fit with {options}")
    return "right: trained"


def compose_call(rng, things):
    """Call compose and compile with a wrong option."""
    from nnjit.registry import compose

    specs = [
        "dense(3)", "dens(3)", "dense", "dense(0)", "dense(-1)", "dense(2.5)", "dense('a')", "conv(2, 3)",
        "dropout(1.5)", "dropout(nan)", "maxpool(0)", "", "dense(", 3, None, ("dense", {"units": 3}),
        ("dense", {"unit": 3}), {"layer": "dense"}, "batchnorm(momentum=2)", "batchnorm(epsilon=-1)",
        "leaky_relu(alpha=inf)", "reshape((2, -1))", "lppool(2, p=0)", "dense(10**3)", "dense(4_0)",
        "residual(['dense(3)'])", "dense(99999999999)",
    ]  # fmt: skip
    layers = [specs[i] for i in rng.integers(len(specs), size=rng.integers(0, 4))]
    shape = odd(rng, (2,), (1, 4, 4), (2, 0), (3.5, 4), (-1,), "ab", (), (10**9, 10**9), ("a",))
    options = {}
    if rng.random() < 0.4:
        options[str(rng.choice(["dtype", "seed", "device", "precision"]))] = odd(
            rng, "float64", "float16", "cpu", "gpu", 3
        )
    try:
        net = compose(layers, shape, **options)
        if rng.random() < 0.3:
            net.compile(
                odd(rng, "mse", "huber(delta=-1)"), odd(rng, "sgd(lr=0.1)", "sgd(lr=-1)"), batch_size=odd(rng, 4)
            )
    except Exception as error:
        return judged(error, None)
    return "right: composed"


def load_call(rng, things):
    """Call load and save: damaged files, odd paths."""
    import nnjit

    path = things.folder / "net.safetensors"
    things.net.save(path)
    whole = path.read_bytes()
    ways = [
        lambda: whole[: rng.integers(0, len(whole))],
        lambda: bytes(rng.integers(0, 256, 64, np.uint8)),
        lambda: whole[:8] + whole[8:].replace(b"dense", b"dance", 1),
        lambda: whole.replace(b"float64", b"float23"),
        lambda: whole.replace(b"format", b"formed"),
        lambda: whole,
    ]
    path.write_bytes(ways[rng.integers(len(ways))]())
    given = [path, path, path, path, things.folder, things.folder / "none", "", 3, None][rng.integers(9)]
    try:
        if rng.random() < 0.2:
            things.net.save([things.folder, things.folder / "no" / "where.safetensors", "", 3, None][rng.integers(5)])
            return "right: saved"
        net = nnjit.load(given)
    except Exception as error:
        if isinstance(error, OSError) and error.filename:
            return "refused by the operating system"
        return judged(error, None)
    if not np.array_equal(net.theta, things.net.theta):
        raise Wrong("another theta is loaded")
    return "right: loaded"


def kinds(things):
    """Map each name to a function of the generator."""
    found = {}
    for program, label in ((things.program, "values"), (things.classifier, "labels")):
        for name in ("predict", "step", "epoch"):
            for way, call in (("python", python_call), ("jitted", jitted_call), ("prange", prange_call)):
                if (way, name) != ("prange", "epoch"):
                    found[f"{way} {name} {label}"] = lambda rng, a=(program, name), call=call: call(rng, things, *a)
    for name in ("vjp", "jvp", "jacobian", "gradient", "update", "clear"):
        for way in ("python", "jitted"):
            found[f"{way} {name}"] = lambda rng, a=(name, way): derivative_call(rng, things, *a)
    for way in ("python", "jitted"):
        found[f"{way} shared memory"] = lambda rng, way=way: shared_call(rng, things, way)
    found["prange derivatives"] = lambda rng: derivative_in_prange(rng, things)
    for name in ("predict", "vjp", "jvp", "step", "gradient", "update", "clear"):
        found[f"C {name}"] = lambda rng, name=name: c_call(rng, things, name)
    found["jitted mistyped"] = lambda rng: mistyped_call(rng, things)
    for name in ("predict", "forward", "backward", "evaluate"):
        found[f"net.{name}"] = lambda rng, name=name: network_call(rng, things, name)
    found["net.fit"] = lambda rng: fit_call(rng, things)
    found["compose and compile"] = lambda rng: compose_call(rng, things)
    found["load and save"] = lambda rng: load_call(rng, things)
    return found


def child(seed, first, count):
    """Make calls; print a line of JSON before each, and one with its outcome after it."""
    things = Things()
    calls = kinds(things)
    names = sorted(calls)
    for number in range(first, first + count):
        rng = np.random.default_rng([seed, number])
        name = names[number % len(names)]
        print(json.dumps({"call": number, "kind": name}), flush=True)
        try:
            outcome = calls[name](rng)
            if "stale" not in outcome:
                next_call(things.program, things.net)
        except Exception as error:
            outcome = f"WRONG {type(error).__name__}: {str(error)[:300]}"
        print(json.dumps({"call": number, "kind": name, "outcome": outcome}), flush=True)


def run_child(seed, first, count):
    """Return the lines of a child, and how it ended."""
    command = [sys.executable, __file__, "--child", "--seed", str(seed), "--first", str(first), "--count", str(count)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        status, error = ran.returncode, ran.stderr
        lines = ran.stdout
    except subprocess.TimeoutExpired as expired:
        status, error, lines = "time is up", "", (expired.stdout or b"").decode()
    return [json.loads(line) for line in lines.splitlines() if line.startswith("{")], status, error


def outcomes(seed, first, count):
    """Return (kind, outcome, number) of every call; after a crash its call is found, and the others continue."""
    end = first + count
    while first < end:
        lines, status, error = run_child(seed, first, min(A_CHILD, end - first))
        done = [line for line in lines if "outcome" in line]
        yield from ((line["kind"], line["outcome"], line["call"]) for line in done)
        first += len(done)
        if status != 0:
            last = lines[-1] if lines else {"call": first, "kind": "start"}
            _, alone, _ = run_child(seed, last["call"], 1)
            yield last["kind"], f"WRONG crash: status {status}, alone {alone}: {error[-300:]}", last["call"]
            first = max(first, last["call"]) + 1


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--count", type=int, default=300)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--first", type=int, default=0)
    options.add_argument("--child", action="store_true")
    given = options.parse_args()
    if given.child:
        return child(given.seed, given.first, given.count)
    os.environ.setdefault("NUMBA_CACHE_DIR", tempfile.mkdtemp())  # of the callers
    table, wrong = collections.Counter(), []
    for kind, outcome, number in outcomes(given.seed, given.first, given.count):
        table[kind, outcome if not outcome.startswith("WRONG") else "WRONG"] += 1
        if outcome.startswith("WRONG"):
            wrong.append((number, kind, outcome))
            print(number, kind, outcome, flush=True)
    for (kind, outcome), count in sorted(table.items()):
        print(f"{count:6}  {kind:24}  {outcome}")
    by_kind = collections.Counter()
    for (kind, _), count in table.items():
        by_kind[kind] += count
    print(f"{sum(table.values())} calls of {len(by_kind)} kinds, seed {given.seed}, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
