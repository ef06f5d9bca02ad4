"""`net.fit` and `net.evaluate`: signals, checkpoints by time, metrics, and the samples that are measured."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnjit import registry
from nnjit.data.split import Split, spread
from nnjit.errors import DivergenceError, ShapeError, SpecError
from nnjit.plots import picture
from nnjit.storage import checkpoint
from nnjit.storage.run_directory import RunDirectory
from nnjit.training import checkpoints, epoch_metrics, run_and_draw, trainer
from nnjit.training.history import History
from nnjit.training.progress import figures

pytestmark = pytest.mark.usefixtures("linked")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 4)).astype(np.float32)
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
STEPS = 6  # steps of an epoch in batches of 8
NUMBERS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


def network():
    return registry.compose(["dense(3)"], input_shape=(4,))


@pytest.fixture
def at_step(monkeypatch):
    """Call functions after steps of the training, each step in one call: `at_step[7] = function`."""
    acts, steps = {}, trainer.Trainer._steps

    def one(self, *arguments):
        steps(self, *arguments)
        acts.pop(self.progress["step"], lambda: None)()

    monkeypatch.setattr(trainer, "PAUSE", 0)
    monkeypatch.setattr(trainer.Trainer, "_steps", one)
    monkeypatch.setattr(run_and_draw, "_draw", lambda *_: None)  # other tests draw pictures
    return acts


@pytest.fixture
def handlers():
    """Use Python's handlers, even if this process was started with some signals ignored, as by nohup."""
    former = {number: signal.signal(number, signal.SIG_DFL) for number in NUMBERS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.fixture
def caught(handlers):
    """Return the signals that handlers of the caller got, in order."""
    numbers = []
    for number in NUMBERS:
        signal.signal(number, lambda n, frame: numbers.append(n))
    return numbers


def train(net, **options):
    return net.fit(X, LABELS, batch_size=8, **{"epochs": 4, **options})


def send(number):
    return lambda: os.kill(os.getpid(), number)


# -- signals -----------------------------------------------------------------------------------------------------------


def test_ctrl_c_is_raised_after_the_checkpoint(at_step, handlers, tmp_path):
    before = {number: signal.getsignal(number) for number in NUMBERS}
    at_step[8] = send(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(net := network(), output=tmp_path / "run")
    tensors, about = checkpoint.read(tmp_path / "run/last.safetensors")
    assert about["progress"]["step"] == 8 and np.array_equal(tensors["dense.1.W"], net.parameters["dense.1.W"])
    assert {number: signal.getsignal(number) for number in NUMBERS} == before
    at_step[3] = send(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(network())  # without an output too


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_goes_to_the_callers_handler_after_the_checkpoint(at_step, caught, tmp_path, number):
    at_step[8] = send(number)
    at_step[9] = lambda: pytest.fail("the step that was done ends the training")
    history = train(network(), output=tmp_path / "run")
    assert caught == [number] and history.interrupted == number
    assert checkpoint.read(tmp_path / "run/last.safetensors")[1]["progress"]["step"] == 8


@pytest.mark.parametrize("number", [n for n in NUMBERS if n != signal.SIGINT])
def test_a_signal_without_handler_ends_the_process_after_the_checkpoint(tmp_path, number):
    script = f"""
        import os, signal, numpy as np
        from nnjit import registry
        from nnjit.training import run_and_draw, trainer
        signal.signal({int(number)}, signal.SIG_DFL)
        steps = trainer.Trainer._steps
        def once(self, *arguments):
            steps(self, *arguments)
            os.kill(os.getpid(), {int(number)})
        trainer.Trainer._steps, run_and_draw._draw = once, lambda *_: None
        net = registry.compose(["dense(3)"], input_shape=(4,))
        net.fit(np.ones((48, 4)), np.zeros(48, int), epochs=10**5, batch_size=8, output="run")
        print("went on")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-number, ""), done.stderr
    assert checkpoint.read(tmp_path / "run/last.safetensors")[1]["progress"]["step"] == 1


def test_a_second_signal_goes_to_the_former_handler_at_once(at_step, handlers, tmp_path):
    class Stop(Exception):
        pass

    def stop(number, frame):
        raise Stop

    signal.signal(signal.SIGTERM, stop)
    at_step[8] = lambda: [send(signal.SIGINT)(), send(signal.SIGTERM)(), pytest.fail("it ran on")]
    with pytest.raises(Stop):
        train(network(), output=tmp_path / "run")
    assert signal.getsignal(signal.SIGTERM) is stop


@pytest.mark.parametrize("number", NUMBERS)
def test_an_ignored_signal_stays_ignored(at_step, handlers, number):
    signal.signal(number, signal.SIG_IGN)
    at_step[8] = send(number)
    assert len(train(network()).epochs) == 4 and signal.getsignal(number) is signal.SIG_IGN


def test_off_the_main_thread_no_handler_is_set(at_step, caught):
    found, reached = [], threading.Event()
    at_step[8] = reached.set
    thread = threading.Thread(target=lambda: found.append(train(network())))
    thread.start()
    assert reached.wait(60)
    signal.raise_signal(signal.SIGTERM)
    thread.join()
    assert caught == [signal.SIGTERM] and found[0].interrupted is None and len(found[0].epochs) == 4


# -- checkpoints by time -----------------------------------------------------------------------------------------------


class Clock:
    """Replacement for the module `time`: time passes when the test says so."""

    now = 0.0

    def perf_counter(self):
        return self.now


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=40), st.sampled_from([8, 16, 48]))
def test_a_kill_loses_at_most_five_seconds_of_training(tmp_path_factory, durations, batch_size):
    """For calls of any length up to half a second, a checkpoint is never more than 5 s old."""
    path, clock, written = tmp_path_factory.mktemp("run") / "run", Clock(), [0.0]
    saved = {}
    with pytest.MonkeyPatch.context() as patch:
        steps, calls = trainer.Trainer._steps, iter(durations * 100)

        def slow(self, *arguments):
            steps(self, *arguments)
            clock.now += next(calls)
            assert clock.now - written[-1] <= 5

        def note(self, name, network, tensors, progress):
            saved[name] = progress
            if name == "last":
                written.append(clock.now)

        patch.setattr(trainer, "time", clock)
        patch.setattr(checkpoints, "time", clock)
        patch.setattr(trainer, "PAUSE", 0)
        patch.setattr(trainer.Trainer, "_steps", slow)
        patch.setattr(run_and_draw, "_draw", lambda *_: None)
        patch.setattr(RunDirectory, "checkpoint", note)
        network().fit(X, LABELS, batch_size=batch_size, epochs=12, output=path)
    assert len(written) <= clock.now / checkpoints.KEEP + 2, "no more than the time asks for"
    assert saved["last"]["epoch"] == 12 and saved["best"]["best"] == saved["last"]["best"]


def best_and_last(path):
    return [checkpoint.read(path / f"{name}.safetensors") for name in ("best", "last")]


def test_the_best_is_that_of_its_epoch_although_it_is_written_later(at_step, tmp_path):
    """The checkpoint waits in memory while training continues."""
    kept = {}
    net = network()
    for epoch in range(1, 9):
        at_step[epoch * STEPS] = lambda epoch=epoch: kept.update({epoch: net.theta.copy()})
    history = train(net, epochs=8, optimizer="sgd(lr=3)", output=tmp_path / "run")
    losses = [record["loss"] for record in history.epochs]
    best = int(np.argmin(losses)) + 1
    assert best < 8, "the last is not the best here"
    (tensors, about), (_, last) = best_and_last(tmp_path / "run")
    assert about["progress"]["epoch"] == best and last["progress"]["epoch"] == 8
    flat = np.concatenate([tensors[name].ravel() for name in net.parameters])
    assert np.array_equal(flat, kept[best])


def test_divergence_leaves_the_last_whole_epoch_and_the_best(at_step, tmp_path):
    net = network()

    def spoil():
        kept.append(net.theta.copy())
        net.theta[:] = np.inf

    kept = []
    at_step[3 * STEPS + 1] = spoil
    at_step[3 * STEPS] = lambda: kept.append(net.theta.copy())
    with pytest.raises(DivergenceError, match="the last good checkpoint is"):
        train(net, output=tmp_path / "run")
    (_, best), (tensors, last) = best_and_last(tmp_path / "run")
    assert last["progress"]["epoch"] == 3 and best["progress"]["epoch"] == 3
    assert np.array_equal(np.concatenate([tensors[name].ravel() for name in net.parameters]), kept[0])


def test_short_epochs_write_few_checkpoints(monkeypatch, tmp_path):
    monkeypatch.setattr(run_and_draw, "_draw", lambda *_: None)
    written = []
    save = RunDirectory.checkpoint
    monkeypatch.setattr(RunDirectory, "checkpoint", lambda *arguments: written.append(save(*arguments)))
    train(network(), epochs=200, output=tmp_path / "run")
    assert len(written) <= 4  # 2, unless the machine is slow


# -- metrics -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["sorted", "in turns", "reversed"])
def test_the_training_accuracy_is_that_of_rows_spread_over_the_set(monkeypatch, order):
    """A network that outputs the first class only: 0.1 of the rows, in any order."""
    labels = {
        "sorted": np.repeat(np.arange(10), 2000),
        "in turns": np.arange(20000) % 10,
        "reversed": np.repeat(np.arange(10)[::-1], 2000),
    }[order]
    net = registry.compose(["dense(10)"], input_shape=(2,))
    net.theta[:] = 0
    net.parameters["dense.1.b"][0] = 1
    record = net.fit(np.zeros((20000, 2)), labels, optimizer="sgd(lr=1e-30)", epochs=1, batch_size=5000).epochs[-1]
    assert record["metric_samples"] == epoch_metrics.SAMPLE
    assert record["accuracy"] == pytest.approx(0.1, abs=0.001 if order != "in turns" else 0.03)
    assert "accuracy (1000 samples)" in figures(record)


def test_a_set_that_is_not_larger_than_the_sample_is_measured_whole(monkeypatch):
    monkeypatch.setattr(epoch_metrics, "SAMPLE", len(X))
    net = network()
    record = train(net, epochs=1).epochs[-1]
    assert "metric_samples" not in record and record["accuracy"] == np.mean(net.predict(X).argmax(1) == LABELS)
    monkeypatch.setattr(epoch_metrics, "SAMPLE", len(X) - 1)
    record = train(net, epochs=1).epochs[-1]
    rows = spread(len(X), len(X) - 1)
    assert record["metric_samples"] == len(rows)
    assert record["accuracy"] == np.mean(net.predict(X[rows]).argmax(1) == LABELS[rows])


@given(st.integers(1, 10**6), st.data())
def test_spread_rows(n, data):
    count = data.draw(st.integers(1, min(n, 5000)))
    rows = spread(n, count)
    assert len(rows) == count and rows[0] >= 0 and rows[-1] < n and (np.diff(rows) > 0).all()
    ends = np.arange(count + 1) * n // count
    assert (ends[:-1] <= rows).all() and (rows < ends[1:]).all(), "one from each span"
    assert np.array_equal(rows, spread(n, count))


TARGETS = {"classes": LABELS, "one-hot": np.eye(3)[LABELS], "values": RNG.normal(size=(48, 3))}


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("metric", ["accuracy", "l1", "l2", "linf", "acuracy", 7, None])
def test_a_metric_that_does_not_fit_is_refused_before_training(targets, metric):
    y, net = TARGETS[targets], network()
    before = net.theta.copy()
    known = metric in ("accuracy", "l1", "l2", "linf")
    fits = known and ((metric == "accuracy") == (targets == "classes") or targets == "one-hot")
    options = {"loss": "cross_entropy" if targets != "values" else "mse", "metrics": [metric], "epochs": 1}
    if fits:
        assert metric in net.fit(X, y, batch_size=8, **options).epochs[-1]
        assert metric in net.evaluate(X, y, metrics=[metric])
        return
    wrong = f"metrics: {metric} cannot be measured" if known else "called" if metric == "acuracy" else "expected text"
    with pytest.raises((SpecError, LookupError), match=wrong):
        net.fit(X, y, batch_size=8, **options)
    assert np.array_equal(net.theta, before)
    with pytest.raises((SpecError, LookupError)):
        net.evaluate(X, y, metrics=[metric])


@pytest.mark.parametrize("metrics", [{"metric": "accuracy"}, 3, True])
def test_metrics_are_a_list_of_names(metrics):
    for call in (network().fit, network().evaluate):
        with pytest.raises(SpecError, match="metrics: expected a list of metrics"):
            call(X, LABELS, metrics=metrics)


def test_evaluate_measures_something_or_says_why_not():
    net = network()
    accuracy = np.mean(net.predict(X).argmax(1) == LABELS)
    assert net.evaluate(X, LABELS) == {"accuracy": accuracy}
    assert net.evaluate(X, TARGETS["one-hot"], loss="cross_entropy").keys() == {"loss", "accuracy"}
    assert net.evaluate(X, TARGETS["values"], loss="mse").keys() == {"loss", "rmse", "r2"}
    assert net.evaluate(X, TARGETS["values"], metrics=["l2"]).keys() == {"l2"}
    for y, metrics in ((TARGETS["values"], None), (TARGETS["values"], []), (LABELS, ())):
        with pytest.raises(SpecError, match="nothing to measure"):
            net.evaluate(X, y, metrics=metrics)


# -- values of one output --------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(["float16", "float32", "float64", "list"]), st.sampled_from(["mse", "huber", "quadratic"]),
    st.integers(0, 99),
)  # fmt: skip
def test_floats_of_one_output_are_a_column(kind, loss, seed):
    """y (N,) gives what y (N, 1) gives: in fit, its validation data, and evaluate."""
    y = np.random.default_rng(seed).normal(size=48)
    y = y.tolist() if kind == "list" else y.astype(kind)
    column = np.asarray(y)[:, None]
    options = {"loss": loss, "epochs": 2, "batch_size": 8, "metrics": ["l2"]}
    one, two = (registry.compose(["dense(1)"], input_shape=(4,), seed=1) for _ in "12")
    flat = one.fit(X, y, validation=(X[:9], y[:9]), **options)
    whole = two.fit(X, column, validation=(X[:9], column[:9]), **options)
    assert np.array_equal(one.theta, two.theta)
    for name in ("loss", "val_loss", "val_l2"):
        assert np.array_equal(flat.column(name), whole.column(name))
    assert one.evaluate(X, y, loss=loss) == two.evaluate(X, column, loss=loss)
    assert one.evaluate(X, y, metrics=["l2"]) == two.evaluate(X, column, metrics=["l2"])


def test_floats_of_one_output_are_probabilities_for_binary_cross_entropy():
    y = (X[:, 0] > 0).astype(np.float32)
    nets = [registry.compose(["dense(1)"], input_shape=(4,), seed=1) for _ in "123"]
    for net, targets in zip(nets, (y, y[:, None], y.astype(int)), strict=True):
        net.fit(X, targets, loss="binary_cross_entropy", epochs=2, batch_size=8)
        assert np.array_equal(net.theta, nets[0].theta)


@pytest.mark.parametrize(
    "outputs, y, loss, words",
    [
        (3, LABELS.astype(float), "cross_entropy", ["(3,)", "y.astype(int)", "(N, 3)"]),
        (3, X[:, 0], "mse", ["(3,)", "(N, 3)"]),
        (1, LABELS, "mse", ["whole number", "mse takes values", "y.astype(float)"]),
        (1, LABELS - 1, "huber(delta=2.0)", ["huber takes values", "y.astype(float)"]),
    ],
)
def test_one_number_a_sample_that_may_mean_another_thing_is_refused(outputs, y, loss, words):
    net = registry.compose([f"dense({outputs})"], input_shape=(4,))
    good = np.zeros((48, outputs))
    calls = {
        "x, y": [lambda: net.fit(X, y, loss=loss), lambda: net.evaluate(X, y, loss=loss)],
        "validation": [lambda: net.fit(X, good, loss="mse" if outputs == 3 else loss, validation=(X, y))],
    }
    for name, each in calls.items():
        for call in each:
            with pytest.raises(ShapeError, match=f"^{name}: ") as caught:
                call()
            said = str(caught.value)
            assert all(word in said for word in words) and "\n" not in said
            assert ("astype(int)" in said) == (outputs == 3 and y.dtype.kind == "f" and (y == np.floor(y)).all())


# -- progress and the history ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [0.2, (X,), (X, LABELS, X, 2.0), X])
def test_validation_data_is_a_pair(wrong):
    with pytest.raises(SpecError, match=r"^validation: expected \(x, y\) or \(x, y, weights\), got ") as caught:
        train(network(), validation=wrong)
    assert len(str(caught.value)) < 300


def test_progress_is_shown_when_asked(capsys):
    history = train(network(), progress=True, validation=(X[:9], LABELS[:9]))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [f"epoch {epoch}/4" for epoch in range(1, 5)]
    for line, record in zip(lines, history.epochs, strict=True):
        assert all(f"{name} {record[name]:.4g}" in line for name in ("loss", "val_loss", "val_accuracy"))
    train(network())
    assert capsys.readouterr() == ("", "")
    with pytest.raises(SpecError, match="progress: expected True or False, got 1"):
        train(network(), progress=1)


def test_progress_says_that_patience_ended_the_training(capsys):
    history = train(network(), epochs=50, optimizer="sgd(lr=9)", patience=2, progress=True)
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == history.ending() and line.startswith(f"stopped after epoch {len(history.epochs)}: loss")


def test_a_history_prints_three_lines(at_step, caught):
    history = train(network(), validation=(X[:9], LABELS[:9]), optimizer="sgd(lr=9)")
    way, last, best, *notes = repr(history).splitlines()
    assert notes == [f"note: {remark}" for remark in history.remarks]
    assert way == f"4 epochs, {4 * STEPS} steps"
    record = min(history.epochs, key=lambda record: record["val_loss"])
    assert last.startswith("last: epoch 4  loss ") and f"  val_loss {history.epochs[-1]['val_loss']:.4g}" in last
    assert best.startswith(f"best: epoch {record['epoch']}  loss ") and f"val_loss {record['val_loss']:.4g}" in best
    assert repr(History()) == "0 epochs, 0 steps\nlast: no epoch\nbest: no epoch"
    history = train(network(), epochs=50, optimizer="sgd(lr=9)", patience=2)
    way, _, best = repr(history).splitlines()
    assert way == f"{len(history.epochs)} epochs, {history.epochs[-1]['step']} steps; stopped: {history.stopped}"
    assert best.startswith(f"best: epoch {history.restored}, restored  loss ")
    at_step[3] = send(signal.SIGTERM)
    history = train(network())
    assert repr(history) == "0 epochs, 3 steps; interrupted by SIGTERM\nlast: no epoch\nbest: no epoch"


# -- fingerprints ------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_small_change_of_the_data_changes_its_fingerprint(data):
    n, features = data.draw(st.integers(2, 40)), data.draw(st.integers(1, 5))
    x = np.arange(n * features, dtype=np.float64).reshape(n, features)
    y = np.arange(n) % 3
    former = Split(x, y).fingerprint()
    assert former == Split(x.copy(), y.copy()).fingerprint()
    row = data.draw(st.integers(0, n - 1))
    change = data.draw(st.sampled_from(["label", "number", "row", "order", "dtype", "column"]))
    other_x, other_y = x.copy(), y.copy()
    if change == "label":
        other_y[row] = 3
    elif change == "number":
        other_x[row, 0] += 1e-6
    elif change == "row":
        other_x, other_y = np.delete(x, row, 0), np.delete(y, row)
    elif change == "order":
        other_x, other_y = x[::-1], y[::-1]
    elif change == "dtype":
        other_x = x.astype(np.float32)
    else:
        other_x = np.column_stack([x, y])
    changed = Split(other_x, other_y).fingerprint() if len(other_y) else None
    assert changed != former


def test_a_large_set_is_hashed_at_rows_spread_over_all(monkeypatch):
    monkeypatch.setattr("nnjit.data.split.HASHED", 800)
    x = np.zeros((10_000, 1))
    former = Split(x, np.zeros(10_000, int)).fingerprint()
    seen = 0
    for start in range(0, 10_000, 1000):
        other = x.copy()
        other[start : start + 1000] = 1
        seen += Split(other, np.zeros(10_000, int)).fingerprint() != former
    assert seen == 10


@pytest.mark.parametrize("lr", [0.1, 1e9])
def test_pictures_from_the_history_are_those_of_the_log(lr, tmp_path):
    """Also after a divergence, of which the log has null and the history infinity."""
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    net = registry.compose(["dense(3)"], input_shape=(3,))
    with pytest.raises(DivergenceError) if lr > 1 else nullcontext():
        net.fit(x, x, loss="mse", optimizer=f"sgd(lr={lr})", batch_size=8, validation=(x, x), output=tmp_path / "run")
    for name in ("loss", "gradient_norms"):
        picture(name).draw([tmp_path / "run"], tmp_path / "again.png")
        assert (tmp_path / "run" / f"{name}.png").read_bytes() == (tmp_path / "again.png").read_bytes()
