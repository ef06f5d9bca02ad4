"""Short epochs, which run several in a row: orders, records, checkpoints and reports are those of single epochs."""

import json
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnjit import registry
from nnjit.data.split import Split
from nnjit.errors import DivergenceError
from nnjit.program.norms import lp_norm
from nnjit.storage import checkpoint
from nnjit.training import epoch_metrics, measure, orders, several, trainer
from nnjit.training.changes import row_norms, update_ratios
from nnjit.training.orders import Orders, order
from nnjit.training.settings import Settings
from nnjit.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("linked")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(44, 4)).astype(np.float32)
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
VALUES = RNG.normal(size=(44, 3)).astype(np.float32)
LAYERS = ["dense(6)", "batchnorm", "tanh", "dropout(0.2)", "dense(3)"]
WORKS = {  # with buffers and random numbers; whole batches; one step an epoch
    "labels": (LAYERS, LABELS, {"batch_size": 10, "optimizer": "adam(lr=1e-2)", "schedule": "cosine"}),
    "values": (["dense(3)"], VALUES, {"batch_size": 11, "loss": "mse", "metrics": ["l2"], "clip": "norm(max=1)"}),
    "full batch": (["dense(3)"], LABELS, {"batch_size": 0, "optimizer": "sgd(lr=2, momentum=0.9)"}),
}


class Reporter:
    """Keeps the reports."""

    def __init__(self):
        self.told = []

    def begin(self, trainer):
        self.told.append("begin")

    def progress(self, *numbers):
        if numbers[1] == numbers[2]:  # the calls within an epoch depend on the machine
            self.told.append(numbers)

    def epoch(self, record):
        self.told.append(without_time(record))

    def end(self, history):
        self.told.append("end")


def without_time(record):
    return {name: value for name, value in record.items() if name != "seconds"}


def outcome(work, path, monkeypatch, in_a_row, epochs=30, after=None, validate=True, compiled=False):
    """Train; return all that a user can see, and the lengths of the rows of epochs."""
    layers, y, options = WORKS[work] if isinstance(work, str) else work
    lengths, run = [], several.Several.run

    def counted(self, first, epochs, limit):
        lengths.append(run(self, first, epochs, limit))
        return lengths[-1]

    net = registry.compose(layers, input_shape=(4,), seed=1)
    options = {"batch_size": 10, "epochs": epochs, "seed": 3, **options}
    held = Split(X[:15], y[:15]) if validate else None
    reporter = Reporter()
    made = Trainer(net, Split(X, y), held, Settings(**options), reporter)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "SHORT", 10.0 if in_a_row else 0)
        patch.setattr(made._orders, "many", compiled)
        patch.setattr(trainer, "PAUSE", 60.0)
        patch.setattr(several.Several, "run", counted)
        if after is not None:
            after(patch, made)
        directory = made.record(path, "")
        try:
            history = made.run(directory)
        except DivergenceError as error:
            history, reporter.told = made.history, [*reporter.told, str(error).split(";")[0]]
    seen = {"theta": net.theta.tobytes(), "buffers": net.flat_buffers.tobytes(), "told": reporter.told}
    seen["history"] = [*map(without_time, history.steps), *map(without_time, history.epochs)]
    seen["log"] = [without_time(json.loads(line)) for line in (path / "log.jsonl").read_text().splitlines()]
    for name in ("last", "best"):
        tensors, about = checkpoint.read(path / f"{name}.safetensors")
        about["progress"].pop("seconds")
        seen[name] = {key: (array.shape, array.tobytes()) for key, array in tensors.items()}, about
    return seen, lengths


@pytest.mark.parametrize("work", WORKS)
def test_epochs_in_a_row_leave_what_single_epochs_leave(work, tmp_path, monkeypatch):
    single, none = outcome(work, tmp_path / "single", monkeypatch, False)
    together, lengths = outcome(work, tmp_path / "together", monkeypatch, True)
    assert not none and max(lengths) > 1 and sum(lengths) >= 28
    assert single == together


@pytest.mark.parametrize("validate", [False, True])
@pytest.mark.parametrize("work", ["labels", "values", "full batch", "diverging"])
def test_epochs_in_one_compiled_call_leave_what_single_epochs_leave(work, validate, tmp_path, monkeypatch):
    """Metrics on training data end a row; the validation set is predicted in the call, here in two parts."""
    works = {"diverging": (["dense(3)"], VALUES, {"batch_size": 11, "loss": "mse", "optimizer": "sgd(lr=3.0)"})}
    monkeypatch.setattr(epoch_metrics, "MEASURED", 44 * 3)
    monkeypatch.setattr(epoch_metrics, "MEASURED_SHARE", 0)
    for module in (measure, several):
        monkeypatch.setattr(module, "PART", 8)
    calls, run = [], several.Several._run_compiled

    def counted(self, first, orders):
        calls.append(len(orders))
        return run(self, first, orders)

    monkeypatch.setattr(several.Several, "_run_compiled", counted)
    work, epochs = (works[work], 300) if work in works else (work, 30)
    single, _ = outcome(work, tmp_path / "single", monkeypatch, False, epochs, validate=validate)
    assert not calls
    together, _ = outcome(work, tmp_path / "together", monkeypatch, True, epochs, validate=validate, compiled=True)
    assert single == together and max(calls) > 1


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("validate", [False, True])
@pytest.mark.parametrize("patience", [1, 4, 20])
def test_patience_ends_a_row_where_it_ends_single_epochs(patience, validate, compiled, tmp_path, monkeypatch):
    """The same epoch, log, checkpoints and restored parameters, however many epochs ran in a row."""
    if compiled:  # an epoch with metrics on training data ends a row
        monkeypatch.setattr(epoch_metrics, "MEASURED", 44 * 3)
        monkeypatch.setattr(epoch_metrics, "MEASURED_SHARE", 0)
    layers, y, options = WORKS["labels"]
    options = options | {"optimizer": "sgd(lr=1.5, momentum=0.9)", "patience": patience, "min_delta": 0.01}
    work, epochs = (layers, y, options), 120
    single, _ = outcome(work, tmp_path / "single", monkeypatch, False, epochs, validate=validate)
    together, lengths = outcome(
        work, tmp_path / "together", monkeypatch, True, epochs, validate=validate, compiled=compiled
    )
    assert single == together and len([r for r in single["log"] if r.get("epoch_end")]) < epochs
    assert max(lengths, default=0) > 1 or patience == 1
    assert single["best"][1]["progress"]["epoch"] < single["last"][1]["progress"]["epoch"]


def test_a_log_that_begins_again_within_an_epoch(tmp_path, monkeypatch):
    """The program keeps 1024 rows; here epochs of 44 steps."""
    work = ["dense(3)"], LABELS, {"batch_size": 1}
    single, _ = outcome(work, tmp_path / "single", monkeypatch, False, epochs=60)
    together, lengths = outcome(work, tmp_path / "together", monkeypatch, True, epochs=60)
    assert sum(lengths) > 2 * 1024 / 44 and single == together


@pytest.mark.parametrize("lr, largest", [(3.0, None), (0.1, 1.0)])
def test_a_divergence_in_a_row(lr, largest, tmp_path, monkeypatch):
    """Records, checkpoints and message are those of single epochs, whether a loss or theta shows it."""
    work = ["dense(3)"], VALUES, {"batch_size": 11, "loss": "mse", "optimizer": f"sgd(lr={lr})"}

    def spoil(patch, made):  # theta of the seventh epoch is not finite, which no loss sees
        measured = made.metrics.measure

        def spoiled(epoch):
            if epoch == 6:
                made.program.state.rates[:] = 3e38
            return measured(epoch)

        patch.setattr(made.metrics, "measure", spoiled)

    after = spoil if largest else None
    single, _ = outcome(work, tmp_path / "single", monkeypatch, False, epochs=300, after=after)
    together, lengths = outcome(work, tmp_path / "together", monkeypatch, True, epochs=300, after=after)
    assert lengths and "finite" in single["told"][-1]
    assert single["last"][1]["progress"]["epoch"] > 3
    theta = single.pop("theta"), together.pop("theta")
    assert single == together and theta[0] == theta[1]


def test_a_signal_ends_a_row_after_its_epoch(tmp_path, monkeypatch):
    def after(patch, made):
        measured = made.metrics.measure

        def signalled(epoch):
            if epoch == 20:
                made._signal = 15
            return measured(epoch)

        patch.setattr(made.metrics, "measure", signalled)

    seen, lengths = outcome("labels", tmp_path / "run", monkeypatch, True, after=after)
    assert seen["last"][1]["progress"]["epoch"] == 20 and seen["last"][1]["progress"]["done"] == 0
    assert len([record for record in seen["log"] if record.get("epoch_end")]) == 20 and max(lengths) > 1


def test_long_epochs_are_single(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "MOST_STEPS", 4)
    assert outcome("labels", tmp_path / "run", monkeypatch, True)[1] == []


# -- the order of samples ----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**31 - 1), st.integers(1, 10**6))
def test_compiled_orders_are_numpys(count, seed, epoch):
    drawn = np.empty((2, count), np.intp)
    orders.compiled_draw()(seed, epoch, drawn, *orders.scratch(count))
    assert np.array_equal(drawn, [order(seed, epoch, count), order(seed, epoch + 1, count)])


@pytest.mark.parametrize("count", [2**k + d for k in range(1, 14) for d in (-1, 0, 1)])
def test_compiled_orders_at_the_ends_of_masks(count):
    drawn = np.empty((1, count), np.intp)
    orders.compiled_draw()(5, 7, drawn, *orders.scratch(count))
    assert np.array_equal(drawn[0], order(5, 7, count))


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_orders_of_several_epochs_in_any_division(data):
    """They are drawn ahead, in arrays that are used again; a row may end early or be longer than expected."""
    last, count = data.draw(st.integers(300, 2000)), 50
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orders, "MANY", 0)
        patch.setattr(orders, "DRAWN", 8 * count * data.draw(st.integers(1, 9)))
        made, epoch = Orders(3, count, last), 1
        for _ in range(data.draw(st.integers(1, 20))):
            epochs = data.draw(st.integers(1, min(12, last - epoch + 1)))
            got = made.several(epoch, epochs)
            assert 1 <= len(got) <= epochs
            assert np.array_equal(got, [order(3, epoch + k, count) for k in range(len(got))])
            epoch += data.draw(st.integers(0, len(got)))  # 0: a row that ended before its first epoch did


@pytest.mark.parametrize("error", [MemoryError, RuntimeError])
def test_orders_that_cannot_be_drawn_ahead(error, monkeypatch):
    """There is no memory in the thread, or no thread: they are drawn when they are needed."""
    scratch = orders.scratch

    def refuse(*arguments):
        if error is RuntimeError or threading.current_thread() is not threading.main_thread():
            raise error
        return scratch(*arguments)

    monkeypatch.setattr(orders, "MANY", 0)
    monkeypatch.setattr(orders, "DRAWN", 8 * 50 * 3)
    where, name = (orders, "scratch") if error is MemoryError else (orders._thread, "start_new_thread")
    monkeypatch.setattr(where, name, refuse)
    made = Orders(3, 50, 12)
    for epoch in range(1, 13, 3):
        assert np.array_equal(made.several(epoch, 3), [order(3, epoch + k, 50) for k in range(3)])


def test_an_unshuffled_order():
    made = Orders(3, 5, 10**7, shuffled=False)
    assert np.array_equal(made.several(4, 2), [range(5)] * 2) and np.array_equal(made.one(9), range(5))


# -- norms and metrics -------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 20), st.integers(1, 3000), st.sampled_from([1.0, 1e-300, 1e-145, 1e150, 1e300, 1e-20]),
    st.sampled_from([np.float32, np.float64]), st.integers(0, 9),
)  # fmt: skip
def test_norms_of_rows_are_those_of_lp_norm(rows, count, scale, dtype, seed):
    """They neither overflow nor vanish, and the bits of a row do not depend on the other rows."""
    with np.errstate(over="ignore"):
        x = (np.random.default_rng(seed).normal(size=(rows, count)) * scale).astype(dtype)
    found = row_norms(x)
    assert found == pytest.approx([lp_norm(row) for row in x], rel=1e-13)
    assert found == [row_norms(x[k : k + 1])[0] for k in range(rows)]


def test_update_ratios():
    starts = np.array([[3, 4, 0, 0], [1, 0, 0, 2]], np.float32)
    ends = np.array([[3, 5, 1, 0], [1, 0, 0, 1]], np.float32)
    segments = [("a", 0, 2), ("b", 2, 4)]
    ratios = update_ratios(starts, ends, segments)
    far = np.array([[3e38, 0]], np.float32)
    assert update_ratios(far, -far, [("a", 0, 2)]) == [{"a": 2.0}]
    assert ratios == [{"a": 0.2, "b": None}, {"a": 0.0, "b": 0.5}]
    assert row_norms(np.array([[0.0, 0.0], [1.0, np.inf]])) == [0.0, np.inf]


@pytest.mark.parametrize(
    "budget, most, measured",
    [(10**9, 50, range(1, 13)), (44 * 4, 50, [1, 4, 7, 10, 12]), (1, 50, [1, 12]), (10**9, 5, [1, 4, 7, 10, 12])],
)
def test_training_metrics_have_a_budget_of_samples(budget, most, measured, monkeypatch):
    """Beyond it they are measured every k-th epoch, and in the last; a resumed run measures in the same ones."""
    monkeypatch.setattr(epoch_metrics, "MEASURED", budget)
    monkeypatch.setattr(epoch_metrics, "MOST", most)
    monkeypatch.setattr(epoch_metrics, "MEASURED_SHARE", 0)
    net = registry.compose(["dense(3)"], input_shape=(4,))
    records = net.fit(X, LABELS, batch_size=8, epochs=12, validation=(X, LABELS)).epochs
    assert [record["epoch"] for record in records if "accuracy" in record] == list(measured)
    assert all("val_accuracy" in record for record in records)
    assert records[-1]["accuracy"] == np.mean(net.predict(X).argmax(1) == LABELS)
