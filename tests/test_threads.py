"""One network in several threads, in forked processes and as a copy; its memory."""

import copy
import ctypes
import gc
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from nnjit import registry
from nnjit.errors import ConcurrencyError, NnjitError, ShapeError, UsageError
from nnjit.kernels.compiler import cache
from nnjit.layers import Layer, kernel
from nnjit.network.arenas import LIMIT
from nnjit.network.network import capacity
from nnjit.registry import compose
from nnjit.training.trainer import Trainer
from numba import prange

LAYERS = ["dense(6)", "batchnorm", "tanh", "dropout(0.3)", "dense(3)"]
SHARDED = ["dense(400)", "relu", "dense(3)"]  # 64 samples: four blocks


def network(layers=LAYERS, inputs=5, seed=0):
    net = compose(layers, (inputs,), seed=seed)
    rng = np.random.default_rng(seed)
    for buffer in net.buffers.values():
        buffer[...] = rng.uniform(0.5, 1.5, buffer.shape)
    return net


def samples(count, inputs=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, inputs)).astype("f"), np.arange(count) % 3


def at_once(count, call):
    """Start call(0) to call(count - 1) together, each in a thread; return their results."""
    barrier = threading.Barrier(count)

    def begin(i):
        barrier.wait()
        return call(i)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def elsewhere(call):
    """Make a call in another thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


# Threads


@pytest.mark.parametrize("layers", [LAYERS, SHARDED], ids=["serial", "sharded"])
def test_calls_in_threads_give_what_serial_ones_give(layers):
    """Calls of 8 threads, the first ones at once, with different batch sizes, so that programs are made meanwhile."""
    x = [samples(20 + 9 * i, seed=i) for i in range(8)]

    def calls(net, i):
        return [
            *(net.predict(x[i][0], batch_size=size) for size in (64, 5 + i)),
            net.forward(x[i][0]),
            net.forward(x[i][0][: 3 + i]),
            _mse(net, x[i]),
        ]

    expected, net = [calls(network(layers), i) for i in range(8)], network(layers)
    for _ in range(5):
        for got, want in zip(at_once(8, lambda i: calls(net, i)), expected, strict=True):
            for a, b in zip(got, want, strict=True):
                np.testing.assert_array_equal(a, b)


def _mse(net, data):
    return np.float64(net.evaluate(*data, loss="cross_entropy")["loss"])


def test_a_kernel_called_at_once_is_compiled_once():
    @kernel
    def shifted(x, y):
        for i in prange(x.shape[0]):
            y[i] = x[i] + 0.123456789

    before, x = cache.compiled, np.arange(8.0)
    got = at_once(6, lambda i: (y := np.empty(8), shifted(x, y))[0])
    np.testing.assert_array_equal(got, np.tile(x + 0.123456789, (6, 1)))
    assert cache.compiled - before <= 1 and len(shifted._made) == 1


def test_networks_of_one_text_share_its_functions():
    one, two = (network(seed=seed).compile("cross_entropy", batch_size=7) for seed in (1, 2))
    assert one.step is two.step and one.predict is two.predict
    x, y = samples(7)
    one.step(one.state, x, y)
    assert one.network.gradient.any() and not two.network.gradient.any()


def test_a_backward_goes_with_the_forward_of_its_thread():
    """Forward passes of other threads, in training too, come between."""
    x, turn = [samples(4 + i, seed=i)[0] for i in range(6)], threading.Lock()
    dy = [np.ones((4 + i, 3)) for i in range(6)]

    def serial(i):
        net = network()
        net.forward(x[i])
        return net.backward(dy[i]), net.gradient.copy()

    expected, net, passed = [serial(i) for i in range(6)], network(), threading.Barrier(6)

    def pair(i):
        net.forward(x[i])
        passed.wait()
        if i == 0:
            elsewhere(lambda: [net.forward(x[k], training=True) for k in range(6)])
        passed.wait()
        with turn:
            return net.backward(dy[i]), net.gradient.copy()

    for got, want in zip(at_once(6, pair), expected, strict=True):
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_thread_without_forward_has_no_backward():
    net = network()
    net.forward(samples(4)[0])
    with pytest.raises(ShapeError, match="forward first, in the same thread"):
        elsewhere(lambda: net.backward(np.ones((4, 3))))


def test_running_statistics_of_passes_in_threads():
    """Forty passes over the same batch, in five threads: each counts."""
    x, one, net = samples(8)[0], network(), network()
    for _ in range(40):
        one.forward(x, training=True)
    at_once(5, lambda i: [net.forward(x, training=True) for _ in range(8)])
    np.testing.assert_array_equal(net.flat_buffers, one.flat_buffers)


@pytest.fixture
def paused(monkeypatch):
    """Return paused(module, name, call), a context in which a call waits inside a function."""

    class Paused:
        def __init__(self, where, name, call):
            self.inside, self.go, self.former = threading.Event(), threading.Event(), getattr(where, name)
            monkeypatch.setattr(where, name, lambda *given, **options: self.wait(*given, **options))
            self.thread = threading.Thread(target=call)

        def wait(self, *given, **options):
            self.inside.set()
            assert self.go.wait(60)
            return self.former(*given, **options)

        def __enter__(self):
            self.thread.start()
            assert self.inside.wait(60)

        def __exit__(self, *error):
            self.go.set()
            self.thread.join()
            monkeypatch.undo()

    return Paused


def test_one_training_at_a_time(paused):
    net, (x, y) = network(), samples(9)
    net.forward(x)
    with paused(Trainer, "run", lambda: net.fit(x, y, epochs=1)):
        with pytest.raises(ConcurrencyError, match="fit: another thread"):
            net.fit(x, y, epochs=1)
        with pytest.raises(ConcurrencyError, match=r"backward: another thread.*copy\.deepcopy"):
            net.backward(np.ones((9, 3)))
        with pytest.raises(ConcurrencyError, match="forward: another thread trains"):
            net.forward(x, training=True)
        assert np.isfinite(net.predict(x)).all() and np.isfinite(net.forward(x)).all()
    copy.deepcopy(net).fit(x, y, epochs=1)
    assert net.fit(x, y, epochs=1).epochs and net.backward(np.ones((9, 3))).shape == x.shape
    network(SHARDED).forward(x, training=True)


def test_a_fit_within_a_fit_is_refused(monkeypatch):
    net, (x, y) = network(), samples(9)
    monkeypatch.setattr(Trainer, "run", lambda trainer: net.fit(x, y))
    with pytest.raises(ConcurrencyError, match="while a fit of the same network runs"):
        net.fit(x, y)


def test_one_backward_at_a_time(paused):
    net, (x, y) = network(), samples(9)
    net.forward(x)  # a pass of this thread
    run = net._own.last[0].program.run
    with paused(run, "backward", lambda: [net.forward(x), net.backward(np.ones((9, 3)))]):
        with pytest.raises(ConcurrencyError, match="backward: another thread"):
            net.backward(np.ones((9, 3)))
        with pytest.raises(ConcurrencyError, match="fit: another thread"):
            net.fit(x, y)
    net.backward(np.ones((9, 3)))


def test_prediction_while_another_thread_trains():
    x, y = samples(64)
    alone, net = network(), network()
    alone.fit(x, y, epochs=30, batch_size=8)
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(net.fit, x, y, epochs=30, batch_size=8)
        while not training.done():
            assert np.isfinite(net.predict(x)).all()
    training.result()
    np.testing.assert_array_equal(net.theta, alone.theta)
    np.testing.assert_array_equal(net.flat_buffers, alone.flat_buffers)
    np.testing.assert_array_equal(net.predict(x), alone.predict(x))


# Sizes of batches and memory


def test_few_programs_for_all_sizes():
    found = [capacity(n) for n in range(1, 129)]
    assert sorted(set(found)) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128]
    assert all(n <= size < max(1.5 * n, n + 1) for n, size in enumerate(found, start=1))


@pytest.mark.parametrize("size", [0, -1, True, 2.0, "8", None])
def test_sizes_that_are_none(size):
    net = network()
    net.predict(samples(4)[0], batch_size=1)
    with pytest.raises(NnjitError, match="batch_size"):
        net.predict(samples(4)[0], batch_size=size)


def test_batches_have_the_size_that_was_asked():
    """A layer that sees its whole batch shows the difference."""

    @registry.register("centred_for_test_threads", force=True)
    class Centred(Layer):
        couples_batch = True

        @kernel(form="matrix")
        def forward(x, y):
            for i in prange(x.shape[1]):
                mean = np.mean(x[:, i])
                for n in range(x.shape[0]):
                    y[n, i] = x[n, i] - mean

    try:
        x, net = samples(13)[0], compose(["centred_for_test_threads"], (5,))
        for size in (5, 6, 13, 20):
            parts = [x[i : i + size] - x[i : i + size].mean(axis=0) for i in range(0, 13, size)]
            np.testing.assert_allclose(net.predict(x, batch_size=size), np.concatenate(parts), atol=1e-6)
    finally:
        registry.unregister("centred_for_test_threads")


def test_at_most_eight_arenas():
    """At most eight stay, for batches of any size and after more than eight calls at once."""
    net, (x, _) = network(), samples(128)
    for size in range(1, 129):
        net.forward(x[:size])
    gc.collect()
    assert len(net._arenas._all) <= LIMIT == 8
    want = net.predict(x)
    for got in at_once(20, lambda i: [net.forward(x[:9]), net.predict(x)][1]):
        np.testing.assert_array_equal(got, want)
    net.predict(x, batch_size=1)
    gc.collect()
    assert len(net._arenas._all) <= LIMIT


def run(script, *arguments, timeout=120, **environment):
    """Run a script in another process; return its output."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=os.environ | environment, timeout=timeout, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="resident memory is read from /proc")
def test_memory_does_not_grow():
    """Two hundred fits, and predictions and forward passes in batches of 1 to 128: less than 50 MB."""
    grown = run("""
import numpy as np
from nnjit.registry import compose

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

def fit():
    net = compose(["dense(8)", "relu", "dense(3)"], (5,))
    net.fit(x, y, epochs=1, batch_size=32)
    return net

x, y = np.zeros((128, 5), "f"), np.arange(128) % 3
net = fit()
net.predict(x), net.forward(x)
before = resident()
for _ in range(200):
    fit()
fitted = resident()
for size in range(1, 129):
    net.predict(x, batch_size=size), net.forward(x[:size])
print(fitted - before, resident() - fitted)
""")
    fits, sizes = map(float, grown.split())
    assert fits < 10 and fits + sizes < 50, grown


# Forks, and the layer of threads that takes one loop at a time

WORK = """
import os, sys, threading
import numpy as np
from numba import njit, prange
from nnjit.registry import compose

x, y = np.random.default_rng(0).normal(size=(64, 300)).astype("f"), np.arange(64) % 3

def work(hidden=400, epochs=2):
    net = compose([f"dense({hidden})", "relu", "dense(3)"], (300,))
    before = net.theta.copy()
    assert len(net.fit(x, y, epochs=epochs, batch_size=32).epochs) == epochs
    assert not np.array_equal(net.theta, before)
    return np.concatenate([net.theta, net.predict(x).ravel()])

def child(call):
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if call() else 1)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(2)
    return pid

def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def layers_of_threads():
    """Return Numba's threading layers that are available here."""
    from numba.np.ufunc import parallel  # noqa: F401

    found = ["workqueue"]
    for name, module in (("omp", "omppool"), ("tbb", "tbbpool")):
        try:
            __import__(f"numba.np.ufunc.{module}")
            found.append(name)
        except ImportError:
            pass
    return found


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")


@forks
@pytest.mark.parametrize("threading_layer", layers_of_threads())
def test_a_forked_child_trains_with_the_same_bits(threading_layer):
    """A child runs its parent's programs and compiles a new network; so does its child; the parent continues."""
    script = """
want = work()
net = compose(["dense(400)", "relu", "dense(3)"], (300,))
answer = net.predict(x)

def right():
    return np.array_equal(work(), want) and np.array_equal(net.predict(x), answer)

pid = child(lambda: right() and work(410).size and ended(child(right)) == 0)
assert ended(pid) == 0 and right()
"""
    run(WORK + script, NUMBA_THREADING_LAYER=threading_layer)


@forks
def test_a_fork_before_anything_is_compiled():
    run(WORK + "pid = child(lambda: work().size)\nassert ended(pid) == 0")


@forks
def test_a_fork_while_other_threads_use_the_network():
    """No lock stays taken in the child, neither the compiler's nor the network's."""
    script = """
net = compose(["dense(400)", "relu", "dense(3)"], (300,))
net.fit(x, y, epochs=1)
go = True

def busy(i):
    while go:
        if i == 0:
            net.fit(x, y, epochs=1, batch_size=32)
        else:
            net.predict(x, batch_size=7 * i), net.forward(x)

threads = [threading.Thread(target=busy, args=(i,)) for i in range(3)]
for thread in threads:
    thread.start()
pids = [child(lambda: np.isfinite(net.predict(x)).all() and net.fit(x, y, epochs=1).epochs) for _ in range(6)]
codes = list(map(ended, pids))
go = False
for thread in threads:
    thread.join()
assert codes == [0] * 6, codes
"""
    run(WORK + script)


@pytest.mark.parametrize("threading_layer", layers_of_threads())
def test_programs_in_threads_and_in_parallel_loops(threading_layer):
    """Three trainings at once, and predictions and vjp in the user's parallel loop, give what they give in turn."""
    script = """
from concurrent.futures import ThreadPoolExecutor

want = work()
with ThreadPoolExecutor(3) as pool:
    assert all(np.array_equal(got, want) for got in pool.map(lambda i: work(), range(6)))

@njit(parallel=True)
def many(predict, a, b, x, y):
    for i in prange(2):
        predict(a if i else b, x, y[i])

program = compose(["dense(400)", "relu", "dense(3)"], (300,)).compile("cross_entropy", batch_size=64)
y, one = np.empty((2, 64, 3), "f"), np.empty((64, 3), "f")
program.predict(program.state, x, one)
for _ in range(20):
    y[:] = 0
    many(program.predict, program.state, program.new_state(), x, y)
    assert np.array_equal(y, [one, one])

@njit(parallel=True)
def blocks(vjp, states, x, dy):
    for k in prange(len(states)):
        for n in range(k, len(x), len(states)):
            vjp(states[k], x[n], dy[n])

single = compose(["dense(5)", "tanh", "dense(2)"], (4,), dtype="float64").compile("mse", "sgd(lr=0.5)", batch_size=1)
x, dy = np.random.default_rng(0).standard_normal((100, 4)), np.ones((100, 2))
wanted = single.states(8, gradient=True)
blocks.py_func(single.vjp, wanted, x, dy)
for _ in range(20):
    states = single.states(8, gradient=True)
    blocks(single.vjp, states, x, dy)
    assert all(np.array_equal(one.gradient, other.gradient) for one, other in zip(states, wanted))
"""
    run(WORK + script, NUMBA_THREADING_LAYER=threading_layer)


def test_bits_without_threads(monkeypatch):
    """The blocks run one after the other, as in a forked process, with the result of threads."""
    from nnjit.program import fork

    x, y = samples(64)

    def trained():
        net = network(SHARDED)
        net.fit(x, y, epochs=2, batch_size=64)
        return np.concatenate([net.theta, net.predict(x).ravel()])

    want, word = trained(), fork._words[fork.RUNNER]
    threads = word.value
    assert threads, "the loops did not run on threads"
    word.value = 0
    try:
        np.testing.assert_array_equal(trained(), want)
    finally:
        word.value = threads


# Copies


def used():
    """Make a network that has predicted, gone forward and backward, and trained."""
    net, (x, y) = network(), samples(9)
    net.predict(x)
    net.forward(x, training=True)
    net.backward(np.ones((9, 3)))
    net.fit(x, y, epochs=1, batch_size=4)
    return net


def test_samples_of_one_block_wake_no_thread(monkeypatch):
    """The function that runs tasks on threads is called for more blocks only; the results have the same bits."""
    from nnjit.program import fork

    net, (x, _) = network(SHARDED), samples(64)
    program, expected = net.compile(batch_size=64), {count: np.empty((count, 3), np.float32) for count in (1, 16, 64)}
    for count, y in expected.items():  # a product of one row may have other last bits than one of many
        program.predict(program.state, x[:count], y)
    word, counts, address = fork._words[fork.RUNNER], [], ctypes.c_void_p

    @ctypes.CFUNCTYPE(ctypes.c_int32, address, address, ctypes.c_int64, address, address)
    def runner(result, error, count, task, data):
        counts.append(count)
        for p in range(count):
            ctypes.CFUNCTYPE(None, address, ctypes.c_int64)(task)(data, p)
        return 0

    monkeypatch.setattr(word, "value", ctypes.cast(runner, address).value)
    for count, called in ((1, []), (16, []), (64, [program.plan.shares.workers] * (program.plan.shares.workers > 1))):
        again = np.empty((count, 3), np.float32)
        program.predict(program.state, x[:count], again)
        assert counts == called and np.array_equal(again, expected[count])


@pytest.mark.parametrize("how", ["deepcopy", "copy", "pickle", "cloudpickle", "joblib"])
def test_a_copy_of_a_used_network_is_independent(how, tmp_path):
    net, (x, y) = used(), samples(9)
    if how in ("cloudpickle", "joblib"):
        module = pytest.importorskip(how)
    if how == "joblib":
        module.dump(net, tmp_path / "net")
        twin = module.load(tmp_path / "net")
    elif how == "cloudpickle":
        twin = pickle.loads(module.dumps(net))
    else:
        twin = pickle.loads(pickle.dumps(net)) if how == "pickle" else getattr(copy, how)(net)
    for name in ("theta", "gradient", "flat_buffers"):
        np.testing.assert_array_equal(getattr(twin, name), getattr(net, name))
        assert not np.shares_memory(getattr(twin, name), getattr(net, name))
        assert getattr(twin, name).ctypes.data % 64 == 0
    assert twin.description() == net.description() and list(twin.parameters) == list(net.parameters)
    np.testing.assert_array_equal(twin.predict(x), net.predict(x))
    np.testing.assert_array_equal(twin.forward(x), net.forward(x))
    np.testing.assert_array_equal(twin.backward(np.ones((9, 3))), net.backward(np.ones((9, 3))))
    theta, running = net.theta.copy(), net.flat_buffers.copy()
    twin.parameters["dense.1.b"][...] = 9
    twin.fit(x, y, epochs=1, batch_size=4)
    np.testing.assert_array_equal(net.theta, theta)
    np.testing.assert_array_equal(net.flat_buffers, running)
    assert twin.theta.max() > 5


def test_a_pool_of_spawned_processes(tmp_path):
    """A used network with a plug-in's layer goes to new processes and comes back trained."""
    (tmp_path / "halves_plugin.py").write_text("""
from numba import prange
from nnjit.layers import Layer, kernel
from nnjit.registry import register

@register("halves")
class Halves(Layer):
    @kernel
    def forward(x, y):
        for i in prange(x.shape[0]):
            for j in range(x.shape[1]):
                y[i, j] = 0.5 * x[i, j]

    @kernel
    def backward_input(dy, dx):
        for i in prange(dy.shape[0]):
            for j in range(dy.shape[1]):
                dx[i, j] = 0.5 * dy[i, j]
""")
    (tmp_path / "main.py").write_text("""
import multiprocessing
import numpy as np
import halves_plugin
from nnjit.registry import compose

x, y = np.random.default_rng(0).normal(size=(9, 5)).astype("f"), np.arange(9) % 3

def trained(net):
    net.fit(x, y, epochs=1)
    return net

if __name__ == "__main__":
    net = compose(["dense(6)", "halves", "dense(3)"], (5,))
    net.predict(x), net.forward(x)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (got,) = pool.map(trained, [net])
    assert not np.array_equal(got.theta, net.theta)
    assert np.array_equal(trained(net).theta, got.theta) and np.array_equal(got.predict(x), net.predict(x))
""")
    done = subprocess.run([sys.executable, "main.py"], cwd=tmp_path, timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("name", ["theta", "gradient", "flat_buffers"])
def test_assigning_a_vector_writes_into_it(name):
    net, x = network(), samples(4)[0]
    vector = getattr(net, name)
    program = net.compile("cross_entropy")
    values = np.linspace(0.5, 1, vector.size)
    setattr(net, name, values)
    assert getattr(net, name) is vector
    np.testing.assert_array_equal(vector, values.astype("f"))
    setattr(net, name, list(vector[::-1]))
    setattr(net, name, vector[::-1])
    np.testing.assert_array_equal(vector, values.astype("f"))
    exec(f"net.{name} += 1")
    np.testing.assert_array_equal(vector, values.astype("f") + 1)
    state = {"theta": "theta", "gradient": "gradient", "flat_buffers": "buffers"}[name]
    assert getattr(program.state, state) is vector
    twin = network()
    setattr(twin, name, vector)
    np.testing.assert_array_equal(twin.predict(x), net.predict(x))


@pytest.mark.parametrize(
    "values",
    [
        [1.0, 2.0], 1.0, None, "theta", [[1.0], [2.0, 3.0]], 1j, "shape", "complex", "bool", "large",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["theta", "gradient", "flat_buffers"])
def test_vectors_that_cannot_be_assigned(name, values):
    net = network()
    vector = getattr(net, name)
    before = vector.copy()
    made = {
        "shape": np.ones((vector.size, 1)), "complex": np.ones(vector.size, complex), "bool": vector > 0,
        "large": np.full(vector.size, 1e300),
    }  # fmt: skip
    with pytest.raises(ShapeError, match=rf"{name}: expected {vector.size} numbers that float32 holds.*"):
        setattr(net, name, made.get(values, values) if isinstance(values, str) else values)
    np.testing.assert_array_equal(vector, before)


@pytest.mark.parametrize(
    "name", ["parameters", "gradients", "buffers", "layers", "dtype", "device", "input_shape", "output_shape", "graph"]
)
def test_what_the_composition_decides_cannot_be_assigned(name):
    net = network()
    with pytest.raises(UsageError, match=f"{name} .*(write into one|compose another)"):
        setattr(net, name, {})
    net.note = "one's own"  # the user owns other names
