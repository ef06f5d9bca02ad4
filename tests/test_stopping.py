"""Early stopping and callbacks of a training, against a plain rule and the same run without them."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from command_line import SMALL, nnjit, records
from hypothesis import given, settings
from hypothesis import strategies as st
from nnjit import registry
from nnjit.data.split import Split
from nnjit.errors import SpecError
from nnjit.storage import checkpoint
from nnjit.storage.run_directory import RunDirectory
from nnjit.training import run_and_draw, several, trainer
from nnjit.training.config import resolve
from nnjit.training.settings import Settings
from nnjit.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("linked")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 4)).astype(np.float32)
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
HELD = X[:15], LABELS[::-1][:15]  # of wrong labels, so that the loss on them soon rises
OPTIONS = {"batch_size": 8, "optimizer": "sgd(lr=2, momentum=0.5)", "schedule": "exponential(0.8)"}


def network(seed=0, layers=("dense(3)",)):
    return registry.compose(list(layers), input_shape=(4,), seed=seed)


def expected_end(figures, patience, min_delta):
    """Return the epoch after which a training with these figures ends: a plain loop over them."""
    reference, waited = None, 0
    for epoch, figure in enumerate(figures, start=1):
        if np.isfinite(figure) and (reference is None or figure < reference - min_delta):
            reference, waited = figure, 0
        else:
            waited += 1
        if waited == patience:
            return epoch
    return len(figures)


# -- early stopping ----------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 6), st.sampled_from([0, 1e-3, 0.05, 1.0]), st.integers(0, 50), st.booleans(), st.integers(1, 20),
    st.booleans(),
)  # fmt: skip
def test_patience_is_the_plain_rule(patience, min_delta, seed, validate, epochs, in_a_row):
    """The epoch of the end is that of the rule, on the figures of the whole run, and the parameters are the best."""
    held = HELD if validate else None
    thetas, net = [], network(seed)
    whole = net.fit(
        X, LABELS, epochs=epochs, validation=held, callbacks=[lambda _: thetas.append(net.theta.copy())], **OPTIONS
    )
    assert np.array_equal(net.theta, thetas[-1]), "without patience the last parameters stay"
    figures = whole.column("val_loss" if validate else "loss")
    end = expected_end(figures, patience, min_delta)
    best = int(np.argmin(figures[:end])) + 1
    net = network(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "SHORT", 10.0 if in_a_row else 0)
        history = net.fit(
            X, LABELS, epochs=epochs, validation=held, patience=patience, min_delta=min_delta, **OPTIONS
        )  # fmt: skip
    assert len(history.epochs) == end and history.restored == best
    assert np.array_equal(net.theta, thetas[best - 1])
    assert (history.stopped is None) == (end == epochs)
    if history.stopped:
        assert ("val_loss" if validate else "loss") in history.stopped and f"{patience} epoch" in history.stopped
        assert history.epochs[-1]["stopped"] == history.stopped and history.epochs[-1]["restored"] == best
        assert f"epoch {end}:" in history.ending() and f"epoch {best} " in history.ending()
        assert f"{figures[best - 1]:.4g}" in history.ending()
    if validate:
        found = net.evaluate(*HELD, loss="cross_entropy")["loss"]
        assert found == pytest.approx(figures[best - 1], rel=1e-5)


@pytest.mark.parametrize("output", [False, True])
def test_buffers_are_restored_too(output, tmp_path, monkeypatch):
    monkeypatch.setattr(run_and_draw, "_draw", lambda *_: None)
    kept, layers = [], ("dense(6)", "batchnorm", "dense(3)")
    net = network(layers=layers)
    net.fit(X, LABELS, epochs=9, validation=HELD, callbacks=[lambda _: kept.append(net.flat_buffers.copy())], **OPTIONS)
    net, path = network(layers=layers), tmp_path / "run" if output else None
    history = net.fit(X, LABELS, epochs=9, validation=HELD, patience=3, output=path, **OPTIONS)
    assert history.restored < len(history.epochs), "otherwise this shows nothing"
    assert np.array_equal(net.flat_buffers, kept[history.restored - 1])


def test_without_a_finite_figure_the_last_parameters_stay(monkeypatch):
    measure = trainer.EpochMetrics.measure
    monkeypatch.setattr(trainer.EpochMetrics, "measure", lambda *a: measure(*a) | {"val_loss": float("nan")})
    monkeypatch.setattr(trainer, "SHORT", 0)
    net, thetas = network(), []
    history = net.fit(
        X, LABELS, epochs=9, validation=HELD, patience=3, callbacks=[lambda _: thetas.append(net.theta.copy())]
    )
    assert len(history.epochs) == 3 and history.restored is None and history.stopped
    assert np.array_equal(net.theta, thetas[-1]) and "restored" not in history.ending()
    assert "best: no epoch" in repr(history)


def train(path, epochs, patience, resume=False, stop_at=None, min_delta=0.0):
    """Train into a directory, or continue it; a signal may come after an epoch."""

    class Reporter:
        def begin(self, made):
            self.trainer = made

        def progress(self, *details):
            pass

        def epoch(self, record):
            if record["epoch"] == stop_at:
                self.trainer._signal = signal.SIGTERM

        def end(self, history):
            pass

    net = network()
    options = Settings(**OPTIONS, epochs=epochs, patience=patience, min_delta=min_delta)
    if not resume:
        made = Trainer(net, Split(X, LABELS), Split(*HELD), options, Reporter())
        return net, made.run(made.record(path, ""))
    tensors, about = checkpoint.read(path / "last.safetensors")
    made = Trainer(net, Split(X, LABELS), Split(*HELD), options, Reporter(), checkpoint=(tensors, about["progress"]))
    return net, made.run(RunDirectory(path))


def left(path, net):
    """Return what a run left: parameters, checkpoints and log, without times."""
    found = {"theta": net.theta.tobytes()}
    found["log"] = [json.loads(line) | {"seconds": 0} for line in (path / "log.jsonl").read_text().splitlines()]
    for name in ("best", "last"):
        tensors, about = checkpoint.read(path / f"{name}.safetensors")
        about["progress"] |= {"seconds": 0, "epochs": 0}
        found[name] = {key: array.tobytes() for key, array in tensors.items()}, about
    return found


@pytest.mark.parametrize("stop_at", range(1, 8))
def test_a_resumed_run_stops_at_the_same_epoch(stop_at, tmp_path, monkeypatch):
    """Interrupted before the best epoch, at it, and in the epochs without an improvement."""
    monkeypatch.setattr(trainer, "SHORT", 0)
    net, history = train(tmp_path / "whole", 30, 4)
    end, best = len(history.epochs), history.restored
    assert 1 < best < end < 8 and history.stopped
    _, first = train(tmp_path / "parts", 30, 4, stop_at=min(stop_at, end))
    if stop_at < end:
        assert first.interrupted and first.restored is None and first.stopped is None
    again, second = train(tmp_path / "parts", 30, 4, resume=True)
    assert (len(second.epochs), second.restored, second.stopped) == (end, best, history.stopped)
    assert left(tmp_path / "whole", net) == left(tmp_path / "parts", again)


def test_a_run_that_stopped_goes_on_with_more_patience(tmp_path, monkeypatch):
    """It ends as a run with that patience from the start, but for the record that says where it stopped first."""
    monkeypatch.setattr(trainer, "SHORT", 0)
    train(tmp_path / "parts", 30, 2)
    net, history = train(tmp_path / "parts", 30, 5, resume=True)
    whole, expected = train(tmp_path / "whole", 30, 5)
    assert repr(history) == repr(expected) and len(history.epochs) > 5
    found, wanted = left(tmp_path / "parts", net), left(tmp_path / "whole", whole)
    first = next(record for record in found["log"] if "stopped" in record)
    assert first.pop("stopped") and first.pop("restored")
    assert found == wanted


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"patience": 0}, ["patience", "from 1", "0"]),
        ({"patience": -3}, ["patience", "from 1", "-3"]),
        ({"patience": 2.5}, ["patience", "whole number", "2.5"]),
        ({"patience": True}, ["patience", "whole number", "True"]),
        ({"patience": "5"}, ["patience", "whole number", "5"]),
        ({"patience": 3, "min_delta": -0.1}, ["min_delta", "from 0", "-0.1"]),
        ({"patience": 3, "min_delta": float("nan")}, ["min_delta", "number", "nan"]),
        ({"patience": 3, "min_delta": float("inf")}, ["min_delta", "finite", "inf"]),
        ({"min_delta": 0.1}, ["min_delta", "give patience"]),
    ],
)
def test_wrong_patience_is_refused(wrong, words):
    net = network()
    before = net.theta.copy()
    with pytest.raises(SpecError) as caught:
        net.fit(X, LABELS, **wrong)
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)
    assert np.array_equal(net.theta, before)
    with pytest.raises(SpecError) as caught:
        resolve({"training": wrong}, "my.toml")
    assert "my.toml" in str(caught.value) and f"training.{list(wrong)[-1]}: " in str(caught.value)


def test_patience_on_the_command_line(here):
    """The run ends early and says so; it goes on with more patience, and its config holds the number."""
    arguments = [*SMALL, "--optimizer", "sgd(lr=30)", "--batch-size", 256, "--epochs", 40]  # it cannot settle
    output = nnjit("run", *arguments, "--patience", 3, "--output", "run").splitlines()
    epochs = [record for record in records(here / "run") if record.get("epoch_end")]
    figures = [record["val_loss"] for record in epochs]
    end, best = len(epochs), int(np.argmin(figures)) + 1
    assert end == expected_end(figures, 3, 0) < 40
    (line,) = [line for line in output if line.startswith("stopped")]
    assert f"epoch {end}:" in line and f"epoch {best} (val_loss {figures[best - 1]:.4g})" in line
    assert checkpoint.read(here / "run")[1]["progress"]["epoch"] == best, "what predict and evaluate read"
    assert "patience = 3" in (here / "run/config.toml").read_text()
    assert f"stopped after epoch {end}:" in nnjit("run", "--resume", "run")
    nnjit("run", "--resume", "run", "--patience", 40)
    assert len([record for record in records(here / "run") if record.get("epoch_end")]) == 40
    assert "patience = 40" in (here / "run/config.toml").read_text()


# -- callbacks ---------------------------------------------------------------------------------------------------------


class Listener:
    """Notes all calls."""

    def __init__(self):
        self.calls = []

    def begin(self, made):
        self.calls.append(("begin", type(made).__name__))

    def progress(self, epoch, done, steps, loss):
        self.calls.append(("progress", epoch, done, steps, loss))

    def epoch(self, record):
        self.calls.append(("epoch", record["epoch"]))

    def end(self, history):
        self.calls.append(("end", history))


def test_every_event_reaches_every_callback_in_order():
    first, second, seen = Listener(), Listener(), []
    history = network().fit(X, LABELS, epochs=3, batch_size=48, callbacks=(first, seen.append, second))
    assert [call[0] for call in first.calls] == ["begin", *["progress", "epoch"] * 3, "end"]
    assert first.calls == second.calls and first.calls[-1][1] is history
    assert [record["epoch"] for record in seen] == [1, 2, 3] and seen == history.epochs
    assert [call[1:4] for call in first.calls if call[0] == "progress"] == [(1, 1, 1), (2, 1, 1), (3, 1, 1)]


@pytest.mark.parametrize("answer", [True, np.True_, np.float64(1) > 0])
@pytest.mark.parametrize("kind", ["function", "method"])
def test_true_stops_after_the_epoch(answer, kind, monkeypatch):
    def enough(record):
        return answer if record["epoch"] == 4 else None

    class Enough:
        epoch = staticmethod(enough)

    monkeypatch.setattr(trainer, "SHORT", 10.0)
    after, net = Listener(), network()
    history = net.fit(X, LABELS, epochs=30, callbacks=[enough if kind == "function" else Enough(), after], **OPTIONS)
    plain = network()
    plain.fit(X, LABELS, epochs=4, **OPTIONS)
    assert len(history.epochs) == 4 and np.array_equal(net.theta, plain.theta)
    assert ("enough" if kind == "function" else "Enough") in history.stopped and history.restored is None
    assert after.calls[-2:] == [("epoch", 4), ("end", history)], "the others have the epoch too"
    assert history.stopped in repr(history)


@pytest.mark.parametrize("answer", [1, "yes", [True], np.ones(2), False, np.False_, None])
def test_no_other_answer_stops(answer):
    history = network().fit(X, LABELS, epochs=3, callbacks=[lambda record: answer])
    assert len(history.epochs) == 3 and history.stopped is None


def test_a_stop_after_the_last_epoch_is_no_early_end():
    history = network().fit(X, LABELS, epochs=3, callbacks=[lambda record: record["epoch"] == 3])
    assert len(history.epochs) == 3 and history.stopped is None and history.ending() == ""


def test_a_callback_stops_a_run_with_patience():
    """The best parameters are restored whichever way it ends."""
    thetas, net = [], network()

    def enough(record):
        thetas.append(net.theta.copy())
        return record["epoch"] == 5

    history = net.fit(X, LABELS, epochs=30, validation=HELD, patience=10, callbacks=[enough], **OPTIONS)
    best = int(np.argmin(history.column("val_loss")))
    assert best < 4 and history.restored == best + 1 and np.array_equal(net.theta, thetas[best])
    assert "enough" in history.stopped


def test_a_callback_has_the_network_of_its_epoch(monkeypatch):
    """So epochs run one by one with one that may stop; one that only has other methods leaves them in a row."""
    rows, run = [], several.Several.run

    def counted(self, *arguments):
        rows.append(run(self, *arguments))
        return rows[-1]

    monkeypatch.setattr(several.Several, "run", counted)
    monkeypatch.setattr(trainer, "SHORT", 10.0)
    net, found = network(), []

    def measure(record):
        found.append((record["val_accuracy"], np.mean(net.predict(HELD[0]).argmax(1) == HELD[1])))

    watched = net.fit(X, LABELS, epochs=30, validation=HELD, callbacks=[measure], **OPTIONS)
    assert all(logged == measured for logged, measured in found) and len(found) == 30 and not rows

    class Progress:
        seen = 0

        def progress(self, epoch, done, steps, loss):
            self.seen = max(self.seen, epoch)

    free, only = network(), Progress()
    history = free.fit(X, LABELS, epochs=30, validation=HELD, callbacks=[only], **OPTIONS)
    assert max(rows) > 1 and only.seen == 30 and np.array_equal(free.theta, net.theta)
    without = [[{k: v for k, v in r.items() if k != "seconds"} for r in each.epochs] for each in (history, watched)]
    assert without[0] == without[1]


@pytest.mark.parametrize("method", ["epoch", "progress", "begin", "end"])
def test_an_error_in_a_callback_is_raised_after_the_checkpoints(method, tmp_path, monkeypatch):
    monkeypatch.setattr(run_and_draw, "_draw", lambda *_: None)

    class Fault(Exception):
        pass

    class Broken:
        def __getattr__(self, name):
            if name != method:
                raise AttributeError(name)
            return self.fail

        def fail(self, *details):
            if method != "epoch" or details[0]["epoch"] == 3:
                raise Fault

    net = network()
    with pytest.raises(Fault):
        net.fit(X, LABELS, epochs=9, callbacks=[Broken()], output=tmp_path / "run", **OPTIONS)
    tensors, about = checkpoint.read(tmp_path / "run/last.safetensors")
    epoch = {"epoch": 3, "progress": 0, "begin": 0, "end": 9}[method]
    assert about["progress"]["epoch"] == epoch
    if epoch:
        assert np.array_equal(tensors["dense.1.W"], net.parameters["dense.1.W"])
        assert checkpoint.read(tmp_path / "run/best.safetensors")[1]["progress"]["epoch"] <= epoch
    net.fit(X, LABELS, epochs=1)  # it is not left as if a training ran


class Keras:
    def on_epoch_end(self, epoch, logs):
        pass


class Misspelled:
    def epochs(self, record):
        pass


@pytest.mark.parametrize(
    "callbacks, words",
    [
        (len, ["callbacks", "list", "len"]),
        ("epoch", ["callbacks", "list", "epoch"]),
        (3, ["callbacks", "list", "3"]),
        ([3], ["callbacks[0]", "begin, progress, epoch or end", "3"]),
        ([len, None], ["callbacks[1]", "None"]),
        ([Listener], ["callbacks[0]", "Listener()"]),
        ([Keras()], ["callbacks[0]", "epoch or end"]),
        ([Misspelled()], ["callbacks[0]", "did you mean epoch?"]),
    ],
)
def test_callbacks_of_other_kinds_are_refused(callbacks, words):
    with pytest.raises(SpecError) as caught:
        network().fit(X, LABELS, callbacks=callbacks)
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


def test_the_example_of_the_documentation(capsys):
    text = (Path(__file__).parents[1] / "docs" / "api.md").read_text(encoding="utf-8")
    code = text.partition("## Callbacks")[2].partition("```python\n")[2].partition("```")[0]
    names = {"net": network(), "x": X, "y": LABELS, "x_val": X, "y_val": LABELS}
    exec(code.replace("500", "60").replace("0.1)", "0.9)"), names)
    assert "BelowLimit returned True" in capsys.readouterr().out
