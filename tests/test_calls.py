"""Calls of a program's functions from Python, from jitted code and from parallel loops, right and wrong ones."""

import copy
import os
import pickle
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from nnjit.errors import ShapeError, SpecError
from nnjit.kernels import cpu
from nnjit.kernels.compiler.kernel import Kernel
from nnjit.kernels.counters import FAULT
from nnjit.layers import elementwise, kernel
from nnjit.program.program import Program
from nnjit.program.state import FAULTS, WHOLE, State
from nnjit.registry import compose
from numba import cfunc, njit, prange, types
from numba.core.errors import TypingError

pytestmark = pytest.mark.usefixtures("linked")  # test_few.py: direct calls of inlined programs


def program_of(layers=("dense(3)", "tanh", "dense(2)"), shape=(2,), dtype="float64", batch_size=4, loss="mse"):
    return compose(list(layers), shape, dtype=dtype).compile(loss, "sgd(lr=0.1)", batch_size=batch_size)


@pytest.fixture(scope="module")
def program():
    return program_of()


@pytest.fixture(scope="module")
def classifier():
    return program_of(loss="cross_entropy")


@njit
def predict_in(predict, state, x, y):
    predict(state, x, y)


@njit
def step_in(step, state, x, target):
    return step(state, x, target)


@njit
def epoch_in(epoch, state, x, targets, order):
    return epoch(state, x, targets, order)


@njit
def tried(predict, state, x, y):
    """Handle errors as a user may; return -1 for a refused call."""
    try:
        predict(state, x, y)
    except Exception:
        return -1
    return 0


@njit(parallel=True)
def predict_in_prange(predict, state, x, y):
    for _ in prange(1):
        predict(state, x, y)


@njit(parallel=True)
def step_in_prange(step, state, x, target, loss):
    for i in prange(1):
        loss[i] = step(state, x, target)


@njit(parallel=True)
def vjp_in_prange(vjp, state, x, dy, y, dx):
    for _ in prange(1):
        vjp(state, x, dy, y, dx)


@njit
def gradient_in(gradient, state, x, target):
    return gradient(state, x, target)


@njit
def vjp_in(vjp, state, x, dy, y, dx):
    vjp(state, x, dy, y, dx)


@njit
def jvp_in(jvp, state, x, dx, y, dy):
    jvp(state, x, dx, y, dy)


@njit
def jacobian_in(jacobian, state, x, y, J):
    jacobian(state, x, y, J)


@njit
def clear_in(clear, state):
    clear(state)


@njit
def update_in(update, state, scale):
    return update(state, scale)


CALLERS = {
    "predict": predict_in, "step": step_in, "epoch": epoch_in, "gradient": gradient_in, "vjp": vjp_in, "jvp": jvp_in,
    "jacobian": jacobian_in, "clear": clear_in, "update": update_in,
}  # fmt: skip
OUTPUTS = {"predict": 1, "vjp": 2, "jvp": 2, "jacobian": 2}  # arrays at the end that a function writes


def clear(state):
    state.counters[FAULT] = 0


def arrays(rows=3, inputs=2, outputs=2, dtype="float64"):
    return np.ones((rows, inputs), dtype), np.zeros((rows, outputs), dtype)


def wrong_calls(program, classifier):
    """Yield (function, state, arrays, words of the sentence) of every refusal in compiled code."""
    x, y = arrays()
    labels, state, labelled = np.zeros(3, np.int64), program.new_state(), classifier.new_state()
    other = program_of(batch_size=5).new_state()
    order = np.arange(3)
    yield program.predict, state, (arrays(inputs=3)[0], y), "expected x (N, 2)"
    yield program.predict, state, (x, y[:2]), "y (N, 2)"
    yield program.predict, state, (x, arrays(outputs=3)[1]), "y (N, 2)"
    yield program.predict, other, (x, y), "another program"
    yield program.step, state, (arrays(inputs=3)[0], y), "expected x (N, 2)"
    yield program.step, state, arrays(rows=6), "N from 1 to 4"
    yield program.step, state, arrays(rows=0), "N from 1 to 4"
    yield program.step, other, (x, y), "another program"
    yield program.step, classifier.new_state(), (x, y), "another program"
    yield program.epoch, state, (x, y[:2], order), "targets (N, 2)"
    yield program.epoch, state, (x, y, order + 1), "indices"
    yield program.epoch, state, (x, y, order - 1), "indices"
    yield program.epoch, state, (x, y, order[:0]), "at least one"
    yield program.epoch, other, (x, y, order), "another program"
    yield classifier.step, labelled, (x, labels + 2), "from 0 to 1"
    yield classifier.step, labelled, (x, labels - 1), "from 0 to 1"
    yield classifier.epoch, labelled, (x, labels + 2, order), "from 0 to 1"
    yield program.gradient, other, (x, y), "another program"
    yield program.gradient, state, arrays(rows=6), "N from 1 to 4"
    yield program.gradient, program.states(1, gradient=True)[0], (x, y), "a light one"
    yield classifier.gradient, labelled, (x, labels - 1), "from 0 to 1"
    yield program.vjp, other, (x, y, y.copy(), x.copy()), "another program"
    yield program.vjp, program.states(1)[0], (x, y, y.copy(), x.copy()), "a light one"
    yield program.vjp, state, (x, y[:2], y.copy(), x.copy()), "dy (N, 2)"
    yield program.vjp, state, (x, y, y.copy(), x[:2].copy()), "dx (N, 2)"
    yield program.jvp, other, (x, x, y, y.copy()), "another program"
    yield program.jvp, state, (x, x[:1], y, y.copy()), "dx (N, 2)"
    yield program.jacobian, other, (x, y, np.zeros((3, 2, 2))), "another program"
    yield program.jacobian, state, (x, y, np.zeros((3, 2, 3))), "J (N, 2, 2)"
    yield program.clear, other, (), "another program"
    yield program.update, other, (1.0,), "another program"
    yield program.update, program.states(1, gradient=True)[0], (1.0,), "a light one"


def test_refused_calls_raise_in_compiled_code_and_leave_no_stale_result(program, classifier):
    seen = set()
    for function, state, given, words in wrong_calls(program, classifier):
        theta = state.theta.copy()
        outputs = given[len(given) - OUTPUTS.get(function.name, 0) :]
        for output in outputs:
            output[...] = 7.0
        with pytest.raises(ValueError, match=function.name) as error:
            CALLERS[function.name](function, state, *given)
        assert words in str(error.value)
        assert all(np.isnan(output).all() for output in outputs)
        np.testing.assert_array_equal(state.theta, theta)
        seen.add(FAULTS[abs(state.counters[FAULT]) - 1])
        clear(state)
    assert seen == {each for each in FAULTS if not each.startswith("shard_")}, "those are nnjit's calls on ranks"


def test_refused_calls_from_python_say_what_came(program, classifier):
    for function, state, given, _ in wrong_calls(program, classifier):
        with pytest.raises(ShapeError, match=rf"^{function.name}: "):
            function(state, *given)
        assert state.counters[FAULT] == 0, "the exception has said it"


def test_a_users_own_try_is_entered(program):
    x, y = arrays()
    state = program.new_state()
    assert tried(program.predict, state, arrays(inputs=3)[0], y) == -1
    with pytest.warns(RuntimeWarning, match="an earlier call of predict in compiled code was refused"):
        program.predict(state, x, y)
    assert np.isfinite(y).all() and tried(program.predict, state, x, y) == 0


def test_in_a_parallel_loop_the_next_call_from_python_raises(program, classifier):
    """Numba's body of a parallel loop cannot raise: the output is NaN, and the state holds a note."""
    calls = list(wrong_calls(program, classifier))
    for function, state, given, _ in calls:
        if function.name == "predict":
            given[1][...] = 7.0
            predict_in_prange(function, state, *given)
            assert np.isnan(given[1]).all()
        elif function.name == "vjp":
            given[2][...] = given[3][...] = 7.0
            vjp_in_prange(function, state, *given)
            assert np.isnan(given[2]).all() and np.isnan(given[3]).all()
        elif function.name in ("step", "gradient"):
            loss = np.zeros(1)
            step_in_prange(function, state, *given, loss)
            assert np.isnan(loss).all()
        else:
            continue
        x, y = arrays()
        owner = next((p for p in (program, classifier) if 0 <= state.layout - p.layout <= WHOLE), None)
        if owner is None:
            continue
        with pytest.raises(ShapeError, match=f"an earlier call of {function.name} in compiled code was refused"):
            owner.predict(state, x, y)
        owner.predict(state, x, y)
        assert np.isfinite(y).all()


HELPER = """
import numpy as np
from numba import njit, prange
from nnjit.registry import compose

program = compose(["dense(3)", "tanh", "dense(2)"], (2,), dtype="float64").compile("mse", "sgd(lr=0.1)", batch_size=4)

@njit
def helper(predict, state, x, y):
    predict(state, x, y)

@njit(parallel=True)
def loop(predict, state, x, y):
    for _ in prange(1):
        helper(predict, state, x, y)

x, y = np.ones((3, 3)), np.zeros((3, 2))
try:
    loop(program.predict, program.state, x, y)
except Exception as error:
    print(type(error).__name__)
print(np.isnan(y).all(), program.state.counters[4])
"""


def test_a_helper_called_from_a_parallel_loop_cannot_know():
    """If Numba cannot raise, the output is NaN, the state holds the note, and Numba reports what it can."""
    ran = subprocess.run([sys.executable, "-c", HELPER], capture_output=True, text=True, timeout=120)
    assert "True -2" in ran.stdout, (ran.returncode, ran.stdout, ran.stderr)


def test_calls_from_python_share_a_compiled_function():
    """Programs of other sizes take that of their types; the program's own refuses, or gets no samples."""
    one, two = program_of(batch_size=6), program_of(("dense(5)",), (3,), batch_size=7)
    for made, (x, y) in ((one, arrays()), (two, arrays(5, 3, 5))):
        state, order = made.new_state(), np.arange(len(x))
        made.predict(state, x, y)
        np.testing.assert_allclose(y, made.network.forward(x))
        assert made.epoch(state, x, y, order) == pytest.approx(made.step(made.new_state(), x, y))
    for name in ("predict", "step", "epoch"):
        first, second = getattr(one, name), getattr(two, name)
        assert first.run.func is second.run.func and not {"dispatcher"} & {*vars(first), *vars(second)}, name
    with pytest.raises(ShapeError, match="indices of samples of x"):
        two.epoch(state, x, y, order + 1)
    assert one.predict(one.state, *arrays(0)) is None and "dispatcher" in vars(one.predict)


def test_a_state_fits_an_independent_network_of_the_same_layout(program):
    twin = compose(["dense(3)", "tanh", "dense(2)"], (2,), dtype="float64", seed=5)
    other = twin.compile("mse", "sgd(lr=0.1)", batch_size=4)
    x, y = arrays()
    predict_in(program.predict, other.state, x, y)
    np.testing.assert_allclose(y, twin.forward(x))
    for again in (copy.deepcopy(other.state), pickle.loads(pickle.dumps(other.state))):
        program.predict(again, x, y)
        np.testing.assert_allclose(y, twin.forward(x))


def test_states_and_functions_are_no_constants(program):
    """A function or state of a program must not be frozen as a global, in a closure, in a tuple or in a module."""
    state, predict, pair = program.state, program.predict, (program.state, 1)
    space = SimpleNamespace(state=state)
    x, y = arrays()

    def of_state(x, y, predict):
        predict(state, x, y)

    def of_function(x, y, s):
        predict(s, x, y)

    def of_tuple(x, y, predict):
        predict(pair[0], x, y)

    def of_namespace(x, y, predict):
        predict(space.state, x, y)

    for function, argument, words in (
        (of_state, predict, "pass it as an argument"),
        (of_function, state, "pass it as an argument"),
        (of_tuple, predict, "pass it as an argument"),
        (of_namespace, predict, "space"),
    ):
        with pytest.raises(TypingError, match=words):
            njit(function)(x, y, argument)
    with pytest.raises(TypingError, match=r"takes the address of a program\.c_state"):

        @cfunc(types.float64(types.float64))
        def first(number):
            return number + state.theta[0]


def test_one_array_of_a_state_as_a_global_is_a_read_only_copy(program):
    theta = program.new_state().theta
    before = theta[0]

    @njit
    def first():
        return theta[0]

    assert first() == before
    theta[0] += 1
    assert first() == before
    with pytest.raises(TypingError, match=r"(?i)readonly|setitem"):

        @njit
        def change():
            theta[0] = 1.0

        change()


def test_no_array_of_a_state_is_replaced(program):
    with pytest.raises(TypeError, match=r"theta cannot be replaced.*state.theta\[:\] = values"):
        program.state._replace(theta=np.zeros(3))
    with pytest.raises(AttributeError):
        program.state.theta = np.zeros(3)


def test_what_is_only_read_may_be_read_only(program, classifier, tmp_path):
    """Memory maps and foreign buffers work, from Python and from jitted code."""
    x, y = arrays()
    path = tmp_path / "x.npy"
    np.save(path, x)
    frozen = [np.load(path, mmap_mode="r"), np.frombuffer(x.tobytes()).reshape(x.shape)]
    order = np.frombuffer(np.arange(3).tobytes(), np.int64)
    for source in frozen:
        assert not source.flags.writeable
        expected, got = y.copy(), y.copy()
        program.predict(program.state, x, expected)
        for call in (program.predict, lambda *given: predict_in(program.predict, *given)):
            call(program.state, source, got)
            np.testing.assert_array_equal(got, expected)
            got[:] = 0
        losses = {program.step(program.new_state(), s, s) for s in (x, source)}
        losses |= {step_in(program.step, program.new_state(), source, source)}
        assert len(losses) == 1
        assert program.epoch(program.new_state(), source, source, order) == pytest.approx(losses.pop())
    labels = np.frombuffer(np.ones(3, np.int64).tobytes(), np.int64)
    assert classifier.step(classifier.new_state(), frozen[0], labels) > 0


def test_python_says_what_is_wrong_with_an_array(program):
    x, y = arrays()
    state = program.state
    aslant, read_only = np.ones((2, 3)).T, y.copy()
    read_only.flags.writeable = False
    for given, words in (
        ((x.astype("f4"), y), "expected x (N, 2) of float64, got float32"),
        ((x.astype(int), y), "got int64"),
        ((x.tolist(), y), "got an object of type list"),
        ((None, y), "got an object of type NoneType"),
        ((x[0], y), "got shape (2,)"),
        ((aslant, y), "C-contiguous"),
        ((x, read_only), "read-only"),
        ((x.astype(">f8"), y), "got >f8"),
        ((), "expected predict(state, x, y), got 1 arguments"),
        ((x.tolist(),), "expected predict(state, x, y), got 2 arguments"),
        ((x.astype("f4"),), "of float64, got float32"),
        ((x, y, y), "got 4 arguments"),
        ((x.astype(object), y), "got object"),
    ):
        with pytest.raises(ShapeError, match=r"^predict: expected") as error:
            program.predict(state, *given)
        assert words in str(error.value) and len(str(error.value)) < 160
    for wrong in (None, 1, tuple(state), [state], program):
        with pytest.raises(ShapeError, match="expected the program's state first, got an object of type"):
            program.predict(wrong, x, y)
    with pytest.raises(ShapeError, match="got 0 arguments"):
        program.predict()
    frozen = copy.deepcopy(state)
    frozen.theta.flags.writeable = False
    with pytest.raises(ShapeError, match="the state is read-only"):
        program.predict(frozen, x, y)


def test_jitted_code_says_what_a_function_takes(program):
    x, y = arrays()

    def by_name(predict, state, x, y):
        predict(state, x=x, y=y)

    def too_few(predict, state, x, y):
        predict(state)

    for function in (by_name, too_few, lambda predict, state, x, y: predict(state, x, y[0])):
        with pytest.raises(TypingError, match=r"predict\(state, x, y\) takes, by position: State\(float64\)"):
            njit(function)(program.predict, program.state, x, y)
    wrong = {
        r"x: expected .*float64.*, got float32; convert it with x.astype\(np.float64\)": (x.astype(np.float32), y),
        r"x: expected a C-contiguous array.*np.ascontiguousarray\(x\)": (x[:, ::-1], y),
        "y: expected a C-contiguous array, .*write into one that is": (x, np.zeros((2, 3)).T),
    }
    for words, given in wrong.items():
        with pytest.raises(TypingError, match=rf"predict\(state, x, y\): {words}"):
            predict_in(program.predict, program.state, *given)
    for given in (program, program.network):
        with pytest.raises(TypingError, match=r"jitted code takes no .*such as program\.predict and program\.state"):
            predict_in(given, program.state, x, y)
    with pytest.raises(TypingError, match=r"expected the program's state first, .*, got unicode_type"):
        predict_in(program.predict, "state", x, y)
    y.flags.writeable = False
    with pytest.raises(TypingError, match="y: the result is written into it, but it is read-only"):
        predict_in(program.predict, program.state, x, y)


def test_sizes_can_be_asked_in_jitted_code(program):
    @njit
    def sizes(predict):
        return predict.input_shape, predict.output_shape, predict.layout

    assert sizes(program.predict) == ((2,), (2,), program.layout)
    image = program_of(("conv(2, 3)", "flatten", "dense(5)"), (1, 6, 6))
    assert sizes(image.predict)[:2] == ((1, 6, 6), (5,))


def test_a_call_without_fault_warns_of_nothing(program):
    x, y = arrays()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        program.predict(program.state, x, y)
        predict_in(program.predict, program.state, x, y)


CACHED = """
from numba import njit


@njit(cache=True)
def ask(predict, state, x, y):
    predict(state, x, y)
    return y[0, 0]
"""

PROCESS = """
import sys
import numpy as np
from nnjit.registry import compose
import code_of_user

width = int(sys.argv[1])
program = compose([f"dense({width})", "tanh", "dense(2)"], (width,), dtype="float64").compile("mse", batch_size=2)
x, y = np.ones((2, width)), np.zeros((2, 2))
assert np.isfinite(code_of_user.ask(program.predict, program.state, x, y))
for wrong, rows in ((np.ones((2, 1)), 2), (x, 1)):
    try:
        code_of_user.ask(program.predict, program.state, wrong, y[:rows])
        print("nothing")
    except ValueError as error:
        print(error)
print(sum(code_of_user.ask.stats.cache_hits.values()))
"""


def test_errors_come_out_of_cached_code(tmp_path):
    """The second process loads the caller from the cache and gives it another network."""
    (tmp_path / "code_of_user.py").write_text(CACHED)
    (tmp_path / "process.py").write_text(PROCESS)
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    for hits, width in enumerate((5, 7)):
        ran = subprocess.run(
            [sys.executable, "process.py", str(width)], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stderr
        sentence = f"predict: expected x (N, {width}) and y (N, 2)"
        assert ran.stdout.splitlines() == [sentence, sentence, str(hits)]


def test_the_text_refuses_whatever_runs_it():
    """The program with reference kernels refuses too: its text has the same guard."""
    program = Program(compose(["dense(2)"], (2,), dtype="float64"), "mse", "sgd(lr=0.1)", 2)
    run = program.reference()
    x, y = arrays(rows=3)
    with pytest.raises(ValueError, match="N from 1 to 2"):
        run.step(program.state, x, y)
    assert isinstance(program.state, State) and program.state.counters[FAULT]


def guard(value):
    if value > 1e6:
        raise ValueError("too large")
    return value


guarded = njit(guard)


def raises(x, y):
    for n in prange(x.shape[0]):
        if x[n, 0] > 1e6:
            raise ValueError("too large")
        y[n, 0] = x[n, 0]


def asserts(x, y):
    for n in prange(x.shape[0]):
        assert x[n, 0] < 1e6
        y[n, 0] = x[n, 0]


def helped(x, y):
    for n in prange(x.shape[0]):
        y[n, 0] = guarded(x[n, 0])


@pytest.mark.parametrize("function", [raises, asserts, helped])
def test_a_kernel_that_raises_is_refused_when_compiled(function):
    """An exception in a kernel would be lost, because its status is not checked; so it is refused."""
    with pytest.raises(SpecError, match=r"has a raise or an assert \(.*test_calls.py, line \d+\)"):
        kernel(function)(np.ones((2, 1)), np.zeros((2, 1)))


def test_a_formula_that_raises_is_refused():
    with pytest.raises(SpecError, match="a raise or an assert"):
        elementwise(formula)(np.ones(3), np.zeros(3))


def formula(x):
    assert x > 0
    return x


def test_no_kernel_of_nnjit_raises():
    for file in sorted(Path(cpu.__file__).parent.glob("*.py")):
        for value in vars(import_module(f"nnjit.kernels.cpu.{file.stem}")).values():
            if isinstance(value, Kernel):
                assert value.source
