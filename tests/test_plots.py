"""Pictures show the whole log, readably, whatever the state of the run."""

import json
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nnjit import plots
from nnjit.cli.plot import plot
from nnjit.errors import DataError, NnjitError, UnknownName, UsageError
from nnjit.plots import (
    by_layer,
    confusion,
    filters,
    gradient_norms,
    learning_rate,
    loss,
    metrics,
    plane,
    residuals,
    run_log,
    samples,
    series,
    several,
    theme,
    update_ratio,
)
from safetensors.numpy import save_file

THREE = ["conv.1", "conv.3", "dense.7"]
THIRTY = ["conv.1", *(f"residual.{i}.conv.{j}" for i in range(2, 16) for j in (1, 3)), "dense.31"]


def records(layers=THREE, epochs=4, per=30, validation=True, seed=0):
    """Make log records of a run that learns: a step line for each step and an epoch line for each epoch."""
    random = np.random.default_rng(seed)
    lines = []
    for step in range(1, epochs * per + 1):
        norms = {name: float(0.5 * 0.8**i * random.lognormal(0, 0.2)) for i, name in enumerate(layers)}
        line = {
            "epoch": 1 + (step - 1) // per,
            "step": step,
            "seconds": 0.01 * step,
            "loss": float(2.3 * np.exp(-step / 30) * random.lognormal(0, 0.2)),
            "lr": 1e-3,
            "gradient_norm": float(np.sqrt(sum(v * v for v in norms.values()))),
            "gradient_norms": norms,
        }
        lines.append(line)
        if step % per:
            continue
        epoch = line["epoch"]
        end = {**line, "epoch_end": True, "accuracy": 1 - 0.5**epoch, "loss_name": "cross_entropy"}
        end["update_ratios"] = {name: 0.01 * (i + 1) / epoch for i, name in enumerate(layers)}
        if validation:
            end["val_loss"] = 1.0 / epoch + 0.1 * max(0, epoch - 3)
            end["val_accuracy"] = 0.95 - 0.5**epoch
            end["val_confusion"] = [[30 + epoch, 2, 0], [1, 40, 0], [0, 0, 0]]
        lines.append(end)
    return lines


def write(directory, lines, tail=""):
    directory.mkdir(parents=True, exist_ok=True)
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (directory / "log.jsonl").write_text(text + tail)
    return directory


@pytest.fixture
def run(tmp_path):
    return write(tmp_path / "digits", records())


@pytest.fixture
def figures(monkeypatch):
    """Keep the figures in the order they were drawn, instead of writing them."""
    seen = []
    monkeypatch.setattr(theme, "_write", lambda figure, target, suffix: seen.append(figure))
    return seen


def curve(axes, gid):
    """Return all lines of this meaning, as (x, y) arrays."""
    return [np.array(line.get_data(), dtype=float) for line in axes.get_lines() if line.get_gid() == gid]


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def png_size(path):
    """Read width and height from the PNG header, independently of matplotlib."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


# The log


def test_read_gives_the_columns_of_the_log(run):
    log = run_log.read(run)
    steps = [line for line in records() if "epoch_end" not in line]
    assert log.name == "digits" and len(log.steps) == 120 and len(log.epochs) == 4 and log.unreadable == 0
    x, y = log.series("loss")
    np.testing.assert_array_equal(x, np.arange(1, 121))
    np.testing.assert_array_equal(y, [line["loss"] for line in steps])
    np.testing.assert_array_equal(
        log.series("gradient_norms/conv.3")[1], [line["gradient_norms"]["conv.3"] for line in steps]
    )
    x, y = log.series("val_loss", of="epochs", x="epoch")
    np.testing.assert_allclose(np.stack([x, y]), [[1, 2, 3, 4], [1, 1 / 2, 1 / 3, 0.35]])
    assert log.layers("gradient_norms") == THREE
    assert log.best_epoch()["epoch"] == 3


def test_read_ignores_a_torn_last_line_and_counts_a_torn_middle_one(tmp_path):
    lines = records(epochs=1, per=5)
    torn = run_log.read(write(tmp_path / "a", lines, tail='{"epoch": 2, "step": 6, "lo'))
    assert len(torn.steps) == 5 and len(torn.epochs) == 1 and torn.unreadable == 0
    whole = run_log.read(write(tmp_path / "b", lines, tail=json.dumps({"epoch": 2, "step": 6, "loss": 1.5})))
    assert [record["step"] for record in whole.steps] == [1, 2, 3, 4, 5, 6]
    middle = run_log.read(write(tmp_path / "c", [lines[0], '{"step": 2', "[1]", '{"step": "3"}', *lines[3:]]))
    assert [record["step"] for record in middle.steps] == [1, 4, 5] and middle.unreadable == 3


def test_read_takes_null_for_not_finite_and_leaves_out_what_is_absent(tmp_path):
    lines = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": None}, {"step": 3}, '{"step": 4, "loss": Infinity}']
    x, y = run_log.read(write(tmp_path / "a", lines)).series("loss")
    np.testing.assert_array_equal(x, [1, 2, 4])
    np.testing.assert_array_equal(y, [2.0, np.nan, np.inf])


def test_read_keeps_the_later_of_steps_logged_twice(tmp_path):
    first = records(epochs=2, per=5, seed=0)  # killed after step 10, resumed from the checkpoint of step 5
    again = [line for line in records(epochs=3, per=5, seed=1) if line["step"] > 5]
    log = run_log.read(write(tmp_path / "a", [*first, *again]))
    steps = [line for line in [*first[:6], *again] if "epoch_end" not in line]
    assert [record["step"] for record in log.steps] == list(range(1, 16))
    np.testing.assert_array_equal(log.series("loss")[1], [line["loss"] for line in steps])
    assert [record["step"] for record in log.epochs] == [5, 10, 15]


def test_read_names_the_directory_the_log_and_near_runs(tmp_path):
    write(tmp_path / "digits_adam", records(epochs=1, per=2))
    with pytest.raises(UnknownName, match=r"digits_adm: no such run.*log\.jsonl.*did you mean .*digits_adam\?"):
        run_log.read(tmp_path / "digits_adm")
    with pytest.raises(DataError, match=r"not a run directory.*log\.jsonl.*it holds the runs .*digits_adam"):
        run_log.read(tmp_path)
    (tmp_path / "digits").mkdir()
    with pytest.raises(DataError, match=r"digits: not a run directory.*did you mean .*digits_adam\?"):
        run_log.read(tmp_path / "digits")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="file: not a run directory"):
        run_log.read(tmp_path / "file")
    with pytest.raises(DataError, match=r"log\.jsonl: expected a log with at least one step"):
        run_log.read(write(tmp_path / "empty", []))


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = ["loss", "gradient_norm", "gradient_norms", "accuracy", "val_loss", "update_ratios", "val_confusion", "epoch"]
RECORD = st.fixed_dictionaries(
    {"step": st.integers(1, 10**6)},
    optional={"epoch_end": st.booleans(), **{key: JSON for key in KEYS}},
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=20) | RECORD.map(lambda record: json.dumps(record).encode()), max_size=8))
def test_any_log_is_read_or_refused_in_one_sentence(tmp_path_factory, lines):
    directory = tmp_path_factory.mktemp("any")
    (directory / "log.jsonl").write_bytes(b"\n".join(lines))
    try:
        log = run_log.read(directory)
    except NnjitError as error:
        assert "log.jsonl" in str(error) and "\n" not in str(error)
        return
    for of in ("steps", "epochs"):
        assert (np.diff(log.series("step", of=of)[1]) > 0).all()
    for module in map(plots.picture, plots.PICTURES):
        if module.has_data(log) and module is not confusion:
            assert len(log.steps) + len(log.epochs) > 0
    if confusion.has_data(log):
        try:
            counts = confusion.matrix(log)[0]
            assert counts.ndim == 2 and counts.min() >= 0
        except DataError as error:
            assert "val_confusion" in str(error)


@settings(max_examples=8, deadline=None)
@given(st.lists(RECORD, min_size=1, max_size=6))
def test_any_records_are_drawn_or_refused_in_one_sentence(tmp_path_factory, lines):
    directory = write(tmp_path_factory.mktemp("any"), lines)
    for name in plots.PICTURES:
        try:
            plots.draw([directory], name, directory / f"{name}.png")
        except NnjitError as error:
            assert "\n" not in str(error)


# The arithmetic of curves

FLOATS = st.floats(-1e6, 1e6) | st.just(float("nan")) | st.just(float("inf"))


@settings(max_examples=100, deadline=None)
@given(st.lists(FLOATS, min_size=1, max_size=40), st.sampled_from([1, 3, 5, 11, 101]))
def test_running_mean_is_the_mean_of_the_finite_neighbours(values, window):
    y = np.array(values)
    naive = []
    for i in range(len(y)):
        near = [v for v in values[max(0, i - window // 2) : i + window // 2 + 1] if np.isfinite(v)]
        naive.append(sum(near) / len(near) if near else np.nan)
    np.testing.assert_allclose(series.running_mean(y, window), naive, rtol=1e-9, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.lists(FLOATS, min_size=1, max_size=200), st.integers(1, 6))
def test_thinning_keeps_ends_order_extremes_and_gaps(values, bins):
    x, y = np.arange(len(values)), np.array(values)
    few_x, few_y = series.thin(x, y, bins)
    np.testing.assert_array_equal(few_y, y[few_x])
    assert (np.diff(few_x) > 0).all() and few_x[0] == 0 and few_x[-1] == len(x) - 1
    assert len(few_x) <= max(4 * bins, 3 * bins + 2)
    finite, kept = y[np.isfinite(y)], few_y[np.isfinite(few_y)]
    if len(finite):
        assert kept.min() == finite.min() and kept.max() == finite.max()
    assert np.isfinite(few_y).all() == np.isfinite(y).all()


@pytest.mark.parametrize(
    "values, log",
    [
        ([1.0, 10.1], True),
        ([1.0, 9.9], False),
        ([0.0, 100.0], False),
        ([-1.0, 100.0], False),
        ([1.0, np.nan, 20.0, np.inf], True),
        ([np.nan], False),
        ([], False),
    ],
)
def test_log_axis_for_positive_values_over_more_than_a_decade(values, log):
    assert series.wants_log(np.array(values)) is log


# loss


def test_loss_draws_raw_smoothed_and_validation_as_logged(run, figures, tmp_path):
    loss.draw([run], tmp_path / "loss.png")
    axes = figures[0].axes[0]
    log = run_log.read(run)
    (raw,), (smooth,), (val,) = curve(axes, "raw"), curve(axes, "smooth"), curve(axes, "validation")
    np.testing.assert_array_equal(raw, log.series("loss"))
    np.testing.assert_allclose(smooth[1][60], raw[1][58:63].mean())
    np.testing.assert_array_equal(val, log.series("val_loss", of="epochs"))
    np.testing.assert_allclose(curve(axes, "best"), [[[90], [1 / 3]]])
    assert axes.get_yscale() == "log" and axes.get_xlabel() == "step" and axes.get_ylabel() == "loss: cross_entropy"
    assert labels(axes)[-1] == "best: 0.3333, epoch 3" and "training, mean of 5 steps" in labels(axes)
    (top,) = axes.child_axes  # epochs, of 30 steps
    assert top.get_xlabel() == "epoch"
    np.testing.assert_allclose(np.multiply(top.get_xlim(), 30), axes.get_xlim())


def test_the_loss_is_named_by_the_log_or_else_by_the_config(tmp_path, figures):
    lines = [line for line in records(epochs=1) if "epoch_end" not in line]
    run = write(tmp_path / "a", lines)
    assert run_log.read(run).loss_name == ""
    (run / "config.toml").write_text('[training]\nloss = "huber(delta=2.0)"\n')
    loss.draw([run], tmp_path / "l.png")
    assert figures[0].axes[0].get_ylabel() == "loss: huber(delta=2.0)"
    write(run, [*lines, {**lines[-1], "epoch_end": True, "loss_name": "mse of scaled targets"}])
    assert run_log.read(run).loss_name == "mse of scaled targets"
    (run / "config.toml").write_text("training = 3")
    assert run_log.read(write(run, lines)).loss_name == ""


def test_runs_of_other_losses_have_axes_apart(tmp_path, figures):
    runs = []
    for name in ("cross_entropy", "mse of scaled targets", "cross_entropy"):
        lines = [{**line, "loss_name": name} if "epoch_end" in line else line for line in records()]
        runs.append(write(tmp_path / f"run{len(runs)}", lines))
    loss.draw(runs, tmp_path / "l.png")
    panels = figures[0].axes
    assert [axes.get_ylabel() for axes in panels] == [
        *["loss: cross_entropy"] * 2,
        *["loss: mse of scaled targets"] * 2,
    ]
    assert [len(curve(axes, "training")) + len(curve(axes, "validation")) for axes in panels] == [2, 2, 1, 1]
    styles = [(line.get_color(), line.get_linestyle()) for axes in panels[::2] for line in axes.get_lines()]
    assert len(set(styles)) == 3


def test_loss_without_validation_has_training_only(tmp_path, figures):
    loss.draw([write(tmp_path / "a", records(validation=False))], tmp_path / "loss.png")
    axes = figures[0].axes[0]
    assert not curve(axes, "validation") and not curve(axes, "best") and len(axes.get_lines()) == 2


def test_loss_is_linear_within_a_decade_or_with_negative_values(tmp_path, figures):
    for name, values in (("narrow", [1.0, 2.0, 1.5]), ("negative", [-1.0, 50.0, 2.0])):
        lines = [{"step": i + 1, "loss": value} for i, value in enumerate(values)]
        loss.draw([write(tmp_path / name, lines)], tmp_path / "loss.png")
        assert figures[-1].axes[0].get_yscale() == "linear"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 119), st.floats(1e6, 1e30), st.booleans())
def test_a_loss_outside_of_the_axis_is_marked_and_named(tmp_path, figures, step, factor, up):
    lines = records()
    (record,) = [line for line in lines if line["step"] == step + 1 and "epoch_end" not in line]
    record["loss"] *= factor if up else 1 / factor
    loss.draw([write(tmp_path / "a", lines)], tmp_path / "loss.png")
    axes = figures[-1].axes[0]
    low, high = axes.get_ylim()
    losses = np.array([line["loss"] for line in lines if "epoch_end" not in line])
    assert not low < record["loss"] < high and ((losses > low) & (losses < high)).sum() == 119
    ((x, y),) = curve(axes, "above" if up else "below")
    assert list(x) == [step + 1] and (y[0] > 0.9 if up else y[0] < 0.1)
    extreme = f"{'largest' if up else 'smallest'} {record['loss']:.3g}"
    assert f"{'above' if up else 'below'} the axis: 1, {extreme}" in labels(axes)
    ((_, smooth),) = curve(axes, "smooth")
    assert np.nanmax(smooth) < high and np.nanmin(smooth) > low


@settings(max_examples=100, deadline=None)
@given(st.lists(FLOATS, max_size=60), st.lists(FLOATS, max_size=10))
def test_the_inner_range_leaves_out_few_values_and_only_far_ones(first, second):
    found = series.inner_range(np.array(first), np.array(second))
    finite = [sorted(v for v in values if np.isfinite(v)) for values in (first, second)]
    if not any(finite):
        assert found is None
        return
    low, high = found
    for values in finite:
        beyond = [v for v in values if v < low or v > high]
        most = -(-len(values) // 200) if len(values) >= 20 else 0
        assert sum(v < low for v in beyond) <= most and sum(v > high for v in beyond) <= most
    assert low in [*finite[0], *finite[1]] and high in [*finite[0], *finite[1]]


def test_a_curve_without_far_values_is_whole(tmp_path, figures):
    lines = [{"step": i + 1, "loss": 2.0 - 0.01 * i} for i in range(150)]
    loss.draw([write(tmp_path / "a", lines)], tmp_path / "loss.png")
    low, high = figures[0].axes[0].get_ylim()
    assert low < 0.51 and high > 2.0 and not curve(figures[0].axes[0], "above")


def test_loss_marks_values_that_are_not_finite(tmp_path, figures):
    lines = records()
    lines[10]["loss"] = lines[11]["loss"] = None
    lines[-1]["val_loss"] = None
    loss.draw([write(tmp_path / "a", lines)], tmp_path / "loss.png")
    axes = figures[0].axes[0]
    crosses = [line for line in axes.get_lines() if line.get_marker() == "x"]
    assert [list(line.get_xdata()) for line in crosses] == [[11, 12], [120]]
    assert labels(axes)[-2:] == ["training not finite (2)", "validation not finite (1)"]


def test_loss_of_nothing_but_nan_is_still_a_picture(tmp_path, figures):
    loss.draw([write(tmp_path / "a", [{"step": 1, "loss": None}])], tmp_path / "loss.png")
    assert labels(figures[0].axes[0])[-1] == "training not finite (1)"


def test_loss_of_a_single_step_is_a_visible_point_at_a_whole_number(tmp_path, figures):
    loss.draw([write(tmp_path / "a", records(epochs=1, per=1))], tmp_path / "loss.png")
    axes = figures[0].axes[0]
    assert axes.get_lines()[0].get_marker() == "o"
    assert [tick for tick in axes.get_xticks() if np.diff(axes.get_xlim()) and tick % 1] == []


def test_loss_of_epochs_only_falls_back_on_the_epoch_means(tmp_path, figures):
    lines = [line for line in records() if "epoch_end" in line]
    loss.draw([write(tmp_path / "a", lines)], tmp_path / "loss.png")
    np.testing.assert_array_equal(curve(figures[0].axes[0], "raw")[0][0], [30, 60, 90, 120])


def test_loss_of_two_runs_has_a_panel_for_training_and_one_for_validation(run, tmp_path, figures):
    other = write(tmp_path / "_50$_$", records(["dense.1"], seed=1))
    loss.draw([run, other], tmp_path / "loss.png")
    training, validation = figures[0].axes
    for index, directory in enumerate((run, other)):
        log = run_log.read(directory)
        x, y = curve(validation, "validation")[index]
        np.testing.assert_array_equal((x, y), log.series("val_loss", of="epochs"))
        x, y = curve(training, "training")[index]
        np.testing.assert_array_equal(x, log.series("loss")[0])
        np.testing.assert_allclose(y[60], log.series("loss")[1][58:63].mean())
        for axes, kind in ((training, "training"), (validation, "validation")):
            lines = [line for line in axes.get_lines() if line.get_gid() == kind]
            assert lines[index].get_color() == theme.PALETTE[index]
    assert labels(validation)[:2] == ["digits: best 0.3333, epoch 3", r" _50\$_\$: best 0.3333, epoch 3"]


def test_ten_runs_have_ten_styles_and_names(tmp_path, figures):
    runs = [write(tmp_path / f"run{i}", records(epochs=2, seed=i)) for i in range(10)]
    loss.draw(runs, tmp_path / "l.png")
    metrics.draw(runs, tmp_path / "m.png")
    kinds = ("training", "validation", "accuracy", "val_accuracy")
    for axes, kind in zip(figures[0].axes + figures[1].axes, kinds, strict=True):
        lines = [line for line in axes.get_lines() if line.get_gid() == kind]
        assert len({(line.get_color(), line._unscaled_dash_pattern) for line in lines}) == len(lines) == 10
    assert [text.partition(":")[0] for text in labels(figures[0].axes[1])] == [f"run{i}" for i in range(10)]


@pytest.mark.parametrize("count", [1, 6, 10, 24, 60])
def test_no_style_occurs_twice(count):
    styles = {(str(style["color"]), str(style["linestyle"])) for style in theme.run_styles(count)}
    assert len(styles) == count


def test_a_directory_of_seeds_is_a_mean_and_a_band(tmp_path, figures):
    folder = tmp_path / "seeds"
    logs = [run_log.read(write(folder / f"seed-{i}", records(epochs=3, seed=i))) for i in range(3)]
    (folder / "many.toml").write_text("[many]\nseeds = [0, 1, 2]\n")
    alone = write(tmp_path / "alone", records(epochs=3, seed=7))
    loss.draw([folder, alone], tmp_path / "l.png")
    training, validation = figures[0].axes
    ((x, mean),) = curve(training, "mean")
    smooth = [series.running_mean(log.series("loss")[1], 5) for log in logs]
    np.testing.assert_array_equal(x, logs[0].series("loss")[0])
    np.testing.assert_allclose(mean, np.mean(smooth, axis=0))
    (band,) = training.collections
    edge = band.get_paths()[0].vertices
    top = [edge[edge[:, 0] == step, 1].max() for step in x]
    np.testing.assert_allclose(top, np.mean(smooth, axis=0) + np.std(smooth, axis=0, ddof=1))
    assert len(curve(training, "run")) == 3 and len(curve(training, "training")) == 1
    assert labels(validation)[0] == "seeds, mean of 3 runs: best 0.3333 ± 0"
    metrics.draw([folder], tmp_path / "m.png")
    (label,) = labels(figures[1].axes[1])
    assert label.startswith("seeds, mean of 3 runs: last 0.825 ± ")
    confusion.draw([folder], tmp_path / "c.png")
    assert [text.get_text() for text in figures[2].axes[0].texts] == ["99", "6", "3", "120"]


def test_the_mean_of_runs_reaches_as_far_as_all_of_them(tmp_path):
    x, mean, deviation = several.mean_and_deviation(
        [(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 3, 4])), (np.array([1.0, 3, 5]), np.array([3.0, np.nan, 7]))]
    )
    np.testing.assert_array_equal(x, [1, 3])
    np.testing.assert_allclose(mean, [2, 3])
    np.testing.assert_allclose(deviation, [np.std([1, 3], ddof=1), 0])


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path, figures):
    twins = [write(tmp_path / parent / "run", records(epochs=1)) for parent in ("a", "b")]
    loss.draw(twins, tmp_path / "loss.png")
    first, second = labels(figures[0].axes[1])[:2]
    assert first != second


# gradient norms


def lightness(colour):
    """CIE-like luminance of an RGBA colour."""
    return float(np.dot(colour[:3], [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("layers", [THREE, THIRTY], ids=["3", "30"])
def test_gradient_norms_one_line_a_layer_in_depth_order_plus_the_total(tmp_path, figures, layers):
    run = write(tmp_path / "a", records(layers))
    gradient_norms.draw([run], tmp_path / "gradient_norms.png")
    axes = figures[0].subfigs[0].axes[0]
    drawn = [line for line in axes.get_lines() if line.get_gid() in {*layers, "total"}]
    assert [line.get_gid() for line in drawn] == [*layers, "total"]
    shades = [lightness(line.get_color()) for line in drawn[:-1]]
    assert shades == sorted(shades) and len(set(shades)) == len(layers) and shades[-1] < 0.75
    # A layer that makes up nearly all of the total is seen on it.
    assert drawn[-1].get_linewidth() > 2 * max(line.get_linewidth() for line in drawn[:-1])
    assert drawn[-1].get_zorder() < min(line.get_zorder() for line in drawn[:-1])
    log = run_log.read(run)
    for name, line in zip(layers, drawn, strict=False):
        x, y = log.series(f"gradient_norms/{name}")
        np.testing.assert_array_equal(line.get_xdata(), x)
        np.testing.assert_allclose(line.get_ydata(), series.running_mean(y, 5))
    assert len(curve(axes, "raw")) == (3 if len(layers) == 3 else 0)
    assert axes.get_yscale() == "log" and axes.get_xlabel() == "step" and axes.get_ylabel() == "gradient norm"
    if len(layers) == 3:
        assert labels(axes) == ["total", *layers]
    else:
        bar = figures[0].subfigs[0].axes[1]
        assert [text.get_text() for text in bar.get_yticklabels()] == layers
        assert bar.yaxis_inverted() and labels(axes) == ["total"]


def test_gradient_norms_marks_zeros_of_each_layer_below_everything(tmp_path, figures):
    lines = records()
    for line in lines[20:40]:
        line["gradient_norms"]["conv.3"] = 0.0
    for line in lines[50:54]:
        line["gradient_norms"]["dense.7"] = 0.0
    gradient_norms.draw([write(tmp_path / "a", lines)], tmp_path / "g.png")
    axes = figures[0].subfigs[0].axes[0]
    (x, y), (late_x, late_y) = curve(axes, "zero")
    assert list(x) == [line["step"] for line in lines[20:40] if "epoch_end" not in line]
    assert list(late_x) == [line["step"] for line in lines[50:54] if "epoch_end" not in line]
    assert len({*y}) == len({*late_y}) == 1 and y[0] > late_y[0] > axes.get_ylim()[0]
    ((_, drawn),) = curve(axes, "conv.3")
    means = [v for name in THREE for v in curve(axes, name)[0][1] if np.isfinite(v)]
    assert np.isnan(drawn[x.astype(int) - 1]).all() and y[0] < min(means)
    assert labels(axes) == ["total", "conv.1", f"conv.3 (0 at {len(x)} of 120)", f"dense.7 (0 at {len(late_x)} of 120)"]


def test_gradient_norms_all_zero_stay_on_a_linear_axis(tmp_path, figures):
    lines = [{"step": i, "gradient_norm": 0.0, "gradient_norms": {"dense.1": 0.0}} for i in (1, 2, 3)]
    gradient_norms.draw([write(tmp_path / "a", lines)], tmp_path / "g.png")
    axes = figures[0].subfigs[0].axes[0]
    assert axes.get_yscale() == "linear"
    np.testing.assert_array_equal(curve(axes, "dense.1"), [[[1, 2, 3], [0, 0, 0]]])


def test_gradient_norms_marks_null(tmp_path, figures):
    lines = records()
    lines[-2]["gradient_norm"] = lines[-2]["gradient_norms"]["dense.7"] = None
    gradient_norms.draw([write(tmp_path / "a", lines)], tmp_path / "g.png")
    axes = figures[0].subfigs[0].axes[0]
    (cross,) = [line for line in axes.get_lines() if line.get_marker() == "x"]
    assert list(cross.get_xdata()) == [120] and labels(axes)[-1] == "not finite"


def test_gradient_norms_of_two_runs_with_different_layers(run, tmp_path, figures):
    other = write(tmp_path / "deep", records(THIRTY, seed=2))
    gradient_norms.draw([run, other], tmp_path / "g.png")
    first, second = (part.axes[0] for part in figures[0].subfigs)
    assert [line.get_gid() for line in first.get_lines() if line.get_gid() in THREE] == THREE
    assert [line.get_gid() for line in second.get_lines() if line.get_gid() in THIRTY] == THIRTY
    assert first.get_ylim() == second.get_ylim()
    assert [axes.get_title(loc="left").split(" ")[0] for axes in (first, second)] == ["digits", "deep"]


def test_a_common_range_has_common_ticks(run, tmp_path, figures):
    """A run of few decades beside one of many: labels of both are as far apart."""
    lines = records(seed=2)
    for line in lines:
        for name in line.get("gradient_norms", {}):
            line["gradient_norms"][name] *= 10.0 ** (-line["step"] / 20)
    gradient_norms.draw([run, write(tmp_path / "small", lines)], tmp_path / "g.png")
    first, second = (part.axes[0] for part in figures[0].subfigs)
    ticks, other = ([float(y) for y in axes.get_yticks()] for axes in (first, second))
    assert ticks == other and len(ticks) < 15


# the others


@pytest.mark.parametrize("per", [30, 1])
def test_the_rule_of_thumb_of_update_ratio_is_that_of_an_epoch(tmp_path, figures, per):
    update_ratio.draw([write(tmp_path / "a", records(per=per))], tmp_path / "u.png")
    axes = figures[0].subfigs[0].axes[0]
    for i, name in enumerate(THREE):
        ((x, y),) = curve(axes, name)
        np.testing.assert_allclose([x, y], [[1, 2, 3, 4], 0.01 * (i + 1) / np.arange(1, 5)])
    assert axes.get_yscale() == "log"
    bands = [patch for patch in axes.patches if patch.get_gid() == "band"]
    if per == 1:
        assert not bands and list(curve(axes, "guide")[0][1]) == [1e-3, 1e-3]
        return
    ends = [bands[0].get_y(), bands[0].get_y() + bands[0].get_height()]
    np.testing.assert_allclose(ends, [1e-3 * np.sqrt(30), 1e-3 * 30])
    assert not curve(axes, "guide") and any("0.001 a step, 30 steps" in text for text in labels(axes))


def test_learning_rate_by_step(run, tmp_path, figures):
    learning_rate.draw([run], tmp_path / "lr.png")
    np.testing.assert_array_equal(curve(figures[0].axes[0], "learning rate")[0], run_log.read(run).series("lr"))


def test_metrics_has_a_panel_a_metric_and_both_curves(tmp_path, figures):
    lines = records()
    for line in lines:
        if "epoch_end" in line:
            line["val_mae"] = 0.1 * line["epoch"]
    metrics.draw([write(tmp_path / "a", lines)], tmp_path / "m.png")
    accuracy, mae = figures[0].axes
    assert (accuracy.get_ylabel(), mae.get_ylabel(), mae.get_xlabel()) == ("accuracy", "mae", "epoch")
    np.testing.assert_allclose(curve(accuracy, "accuracy")[0][1], [0.5, 0.75, 0.875, 0.9375])
    np.testing.assert_allclose(curve(accuracy, "val_accuracy")[0][1], [0.45, 0.7, 0.825, 0.8875])
    assert labels(accuracy) == ["training, all samples: last 0.9375", "validation: last 0.8875"]
    assert labels(mae) == ["validation: last 0.4"]


def test_metrics_of_every_third_epoch_are_one_line(tmp_path, figures):
    """Epochs without them leave no gap and are not marked as not finite."""
    lines = records(epochs=7)
    for line in lines:
        if line["epoch"] not in (1, 4, 7):
            line.pop("accuracy", None)
    metrics.draw([write(tmp_path / "a", lines)], tmp_path / "m.png")
    (axes,) = figures[-1].axes
    curves = {line.get_gid(): line for line in axes.get_lines()}
    assert curves["accuracy"].get_xdata().tolist() == [1, 4, 7] and np.isfinite(curves["accuracy"].get_ydata()).all()
    assert curves["val_accuracy"].get_xdata().tolist() == list(range(1, 8))
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == [f"training, all samples: last {1 - 0.5**7:.4g}", f"validation: last {0.95 - 0.5**7:.4g}"]


def test_metrics_say_that_those_of_training_come_from_a_sample(tmp_path, figures):
    lines = [line | {"metric_samples": 1000} if "epoch_end" in line else line for line in records()]
    runs = [write(tmp_path / "some", lines), write(tmp_path / "all", records())]
    metrics.draw(runs[:1], tmp_path / "m.png")
    (accuracy,) = figures[0].axes
    assert labels(accuracy) == ["training, 1000 samples: last 0.9375", "validation: last 0.8875"]
    metrics.draw([runs[0], write(tmp_path / "too", lines)], tmp_path / "m.png")
    titles = [axes.get_title(loc="left") for axes in figures[1].axes]
    assert titles == ["training, 1000 samples", "validation"]


def test_filters_takes_the_first_convolution_by_depth_of_the_best_network(run, tmp_path, figures):
    random = np.random.default_rng(0)
    w = random.normal(size=(5, 2, 3, 4)).astype(np.float32)
    late = random.normal(size=(4, 5, 3, 3)).astype(np.float32)
    save_file({"theta": w.ravel(), "conv.10.W": late, "residual.9.conv.1.W": w}, run / "best.safetensors")
    save_file({"conv.1.W": late}, run / "last.safetensors")
    path, name, weights = filters.convolution(run_log.read(run))
    assert (path.name, name) == ("best.safetensors", "residual.9.conv.1.W")
    np.testing.assert_array_equal(weights, w)
    filters.draw([run], tmp_path / "f.png")
    images = figures[0].subfigs[0].axes[0].get_images()
    np.testing.assert_array_equal([image.get_array() for image in images], w.reshape(10, 3, 4))
    limit = np.abs(w).max()
    assert {image.get_clim() for image in images} == {(-limit, limit)}
    boxes = [image.get_extent() for image in images]  # (left, right, bottom, top), pairwise disjoint
    for i, (left, right, bottom, top) in enumerate(boxes):
        for other in boxes[:i]:
            assert right <= other[0] or other[1] <= left or bottom <= other[3] or other[2] <= top


def test_filters_of_one_dimension_are_lines_and_of_three_middle_slices(run, tmp_path, figures):
    line = np.random.default_rng(0).normal(size=(3, 2, 5))
    save_file({"conv1d.1.W": line}, run / "last.safetensors")
    filters.draw([run], tmp_path / "f.png")
    drawn = [panel.get_lines()[1:] for panel in figures[0].subfigs[0].axes if panel.get_visible()]
    np.testing.assert_array_equal([[line.get_ydata() for line in lines] for lines in drawn], line)
    solid = np.random.default_rng(1).normal(size=(2, 1, 5, 3, 3))
    save_file({"conv.1.W": solid}, run / "last.safetensors")
    filters.draw([run], tmp_path / "f.png")
    images = figures[1].subfigs[0].axes[0].get_images()
    np.testing.assert_array_equal([image.get_array() for image in images], solid[:, 0, 2])


def test_filters_of_a_layer_that_is_named(run, tmp_path):
    late = np.random.default_rng(0).normal(size=(4, 5, 3, 3)).astype(np.float32)
    save_file({"conv.10.W": late, "conv.2.W": late[:2], "dense.12.W": np.ones((3, 2))}, run / "best.safetensors")
    log = run_log.read(run)
    assert filters.convolution(log)[1] == "conv.2.W"
    for name in ("conv.10", "conv.10.W"):
        np.testing.assert_array_equal(filters.convolution(log, name)[2], late)
    with pytest.raises(UnknownName, match=r"no convolution 'conv\.1'; did you mean conv\.10\?.* are conv\.2, conv\.10"):
        filters.draw([run], tmp_path / "f.png", "conv.1")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 64), st.integers(1, 8))
def test_filters_leave_no_blank_if_a_grid_near_the_page_has_none(n, m):
    blocks, rows, columns = filters._grid(np.zeros((n, m, 3, 3)))
    assert rows == m and blocks == -(-n // columns) and 1 <= columns <= n
    if n in (4, 6, 8, 12, 16, 24, 32, 48, 64) and m == 1:
        assert blocks * columns == n


def test_filters_without_a_convolution_or_of_a_damaged_file(run, tmp_path):
    save_file({"dense.1.W": np.ones((3, 2))}, run / "last.safetensors")
    with pytest.raises(DataError, match=r"digits: nothing to draw, .* best\.safetensors .*weights of a convolution"):
        filters.draw([run], tmp_path / "f.png")
    (run / "best.safetensors").write_bytes(b"\x10")
    with pytest.raises(DataError, match=r"best\.safetensors: expected saved tensors"):
        filters.draw([run], tmp_path / "f.png")


def test_confusion_draws_counts_of_the_best_epoch_and_shares_of_the_row(run, tmp_path, figures):
    confusion.draw([run], tmp_path / "c.png")
    axes = figures[0].axes[0]
    np.testing.assert_allclose(axes.get_images()[0].get_array(), [[33 / 35, 2 / 35, 0], [1 / 41, 40 / 41, 0], [0] * 3])
    assert {(t.get_position(), t.get_text()) for t in axes.texts} == {
        ((0, 0), "33"),
        ((1, 0), "2"),
        ((0, 1), "1"),
        ((1, 1), "40"),
    }
    assert axes.get_title(loc="left") == "digits: 96.05 % right\n76 validation samples, epoch 3"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")


@pytest.mark.parametrize("table", [[[1, 2]], [[1, 2], [3]], [[1, -1], [0, 1]], [["a"]], 3, [[0.5]], [[None]], []])
def test_confusion_refuses_what_is_no_square_table_of_counts(tmp_path, table):
    run = write(tmp_path / "a", [{"step": 7, "epoch": 1, "epoch_end": True, "val_confusion": table}])
    with pytest.raises(DataError, match=r"log\.jsonl: val_confusion of step 7 .* square table of counts"):
        confusion.draw([run], tmp_path / "c.png")


# what was predicted


def predict(run, kind="classes", count=40, size=3, seed=0, **more):
    """Save predictions as a run does at its end; return them."""
    random = np.random.default_rng(seed)
    if kind == "classes":
        true, predicted = random.integers(0, size, (2, count)).astype(np.int32)
        tensors = {"true": true, "predicted": predicted, "confidence": random.random(count).astype(np.float32)}
    elif kind == "labels":
        tensors = dict(zip(("true", "predicted"), random.random((2, count, size)) > 0.5, strict=True))
    else:
        true = random.normal(0, 100, (count, size))
        tensors = {"true": true, "predicted": true + random.normal(0, 9, true.shape)}
    about = {"format": 1, "kind": kind, "data": "validation", "samples": count, "epoch": 3, "confidence": "probability"}
    about |= {"classes": None, "targets": None, "inputs": None}
    about |= {key: more.pop(key) for key in list(more) if key in about}
    tensors |= more
    save_file(tensors, run / "predictions.safetensors", {"nnjit": json.dumps(about)})
    return tensors


def images(count=4):
    random = np.random.default_rng(3)
    return {
        "x": random.random((count, 1, 8, 8)), "x_of": np.arange(count, dtype=np.int32),
        "mistakes_x": random.random((2, 1, 8, 8)), "mistakes_of": np.array([7, 9], np.int32),
    }  # fmt: skip


def plane_of(kind, cells=20):
    first = np.linspace(0, 1, cells)
    points = np.random.default_rng(4).random((12, 2))
    if kind == "classes":
        over, true = np.int32(first[None, :] + first[:, None] > 1), np.int32(points.sum(axis=1) > 1)
    else:
        over = np.stack(np.meshgrid(first, first), axis=-1)
        true = points.copy()
    return {"plane": over, "points": points, "points_true": true, "low": np.zeros(2), "high": np.ones(2)}


def test_confusion_is_counted_from_the_predictions_with_names(run, tmp_path, figures):
    names = ["cat", "dog", "$owl$", "never"]
    tensors = predict(run, classes=names, samples=4000)
    counts, classes, measured = confusion.matrix(run_log.read(run))
    expected = np.zeros((4, 4), int)
    for i, j in zip(tensors["true"], tensors["predicted"], strict=True):
        expected[i, j] += 1
    np.testing.assert_array_equal(counts, expected)
    assert measured == "40 of 4,000 validation samples, epoch 3"
    confusion.draw([run], tmp_path / "c.png")
    axes = figures[0].axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["cat", "dog", r"\$owl\$", "never"] == classes


def test_confusion_of_a_hundred_classes_has_sparse_names_and_no_numbers(run, tmp_path, figures):
    names = [f"class number {i}" for i in range(100)]
    predict(run, count=3000, size=100, classes=names)
    confusion.draw([run], tmp_path / "c.png")
    axes = figures[0].axes[0]
    figures[0].canvas.draw()
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert not axes.texts and 10 <= len(boxes) <= confusion.MOST_NAMES
    assert not any(a.overlaps(b) for a, b in pairwise(boxes)) and "most often: class number" in axes.get_xlabel()


def test_residuals_of_each_target_by_name(run, tmp_path, figures):
    tensors = predict(run, "values", size=2, targets=["price [$]", "rent"])
    tensors["predicted"][5, 1] = 1e6
    predict(run, "values", size=2, targets=["price [$]", "rent"], predicted=tensors["predicted"])
    residuals.draw([run], tmp_path / "r.png")
    panels = np.array(figures[0].axes).reshape(2, 2)
    for k, (name, (left, right)) in enumerate(zip((r"price [\$]", "rent"), panels, strict=True)):
        true, predicted = tensors["true"][:, k], tensors["predicted"][:, k]
        np.testing.assert_array_equal(curve(left, "predicted")[0], [true, predicted])
        np.testing.assert_array_equal(curve(right, "residual")[0], [predicted, predicted - true])
        assert left.get_xlabel() == f"true: {name}" and right.get_xlabel() == f"predicted: {name}"
        r2 = 1 - np.square(predicted - true).sum() / np.square(true - true.mean()).sum()
        assert f"R² {r2:.3g}" in left.get_title(loc="left")
    assert "40 validation samples, epoch 3" in panels[0, 0].get_title(loc="left")
    assert list(curve(panels[1, 1], "above")[0][0]) == [1e6] and not curve(panels[0, 1], "above")


def test_samples_shows_images_with_class_and_probability_and_mistakes(run, tmp_path, figures):
    tensors = predict(run, classes=["cat", "dog", "owl"], **images())
    samples.draw([run], tmp_path / "s.png")
    some, mistakes = figures[0].axes
    shown = [np.asarray(image.get_array()) for image in some.get_images()]
    low, high = tensors["x"].min(), tensors["x"].max()
    np.testing.assert_allclose(shown, (tensors["x"][:, 0] - low) / (high - low))
    for k, text in enumerate(some.texts):
        name = ["cat", "dog", "owl"][tensors["predicted"][k]]
        assert text.get_text().startswith(f"{name} {tensors['confidence'][k]:.2f}")
        assert ("is " in text.get_text()) == (tensors["predicted"][k] != tensors["true"][k])
    wrong = (tensors["predicted"] != tensors["true"]).sum()
    assert mistakes.get_title(loc="left") == f"the 2 most confident of {wrong} mistakes" and len(mistakes.texts) == 2


@pytest.mark.parametrize("kind", ["classes", "values"])
def test_plane_of_two_inputs(run, tmp_path, figures, kind):
    tensors = predict(run, kind, size=2, inputs=["length", "width"], **plane_of(kind))
    plane.draw([run], tmp_path / "p.png")
    axes = figures[0].axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("length", "width")
    if kind == "values":
        offsets = axes.collections[-1]
        np.testing.assert_array_equal(offsets.get_offsets(), tensors["points"])
        np.testing.assert_array_equal(offsets.get_array(), tensors["points_true"][:, 0])
        return
    (image,) = axes.get_images()
    assert image.origin == "lower" and tuple(image.get_extent()) == (0, 1, 0, 1)
    colours = np.asarray(image.get_array()).reshape(400, 3)
    for c in (0, 1):
        assert len(np.unique(colours[tensors["plane"].ravel() == c], axis=0)) == 1
        drawn = curve(axes, f"class {c}")[0].T
        np.testing.assert_array_equal(drawn, tensors["points"][tensors["points_true"] == c])
    assert labels(axes) == ["true: 0", "true: 1"]


def test_labels_are_counted_as_found_missed_and_not_there(run, tmp_path, figures):
    tensors = predict(run, "labels", size=3, targets=["rain", "snow", "wind"])
    plots.draw([run], "labels", tmp_path / "l.png")
    axes = figures[0].axes[0]
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    found, missed, wrong = ([bar.get_width() for bar in container] for container in axes.containers)
    for row, name in enumerate(names):
        true, predicted = (tensors[key][:, ["rain", "snow", "wind"].index(name)] for key in ("true", "predicted"))
        expected = [sum(true & predicted), sum(true & ~predicted), -sum(~true & predicted)]
        assert [found[row], missed[row], wrong[row]] == expected


@pytest.mark.parametrize("text", [b"\x10", b""])
def test_damaged_predictions_are_refused_in_one_sentence(run, tmp_path, text):
    (run / "predictions.safetensors").write_bytes(text)
    with pytest.raises(DataError, match=r"predictions\.safetensors: expected saved predictions"):
        residuals.draw([run], tmp_path / "r.png")


# the page


KINDS = {"labels": "labels", "residuals": "values"}


@pytest.mark.parametrize("name", list(plots.PICTURES))
@pytest.mark.parametrize("layers", [THREE, THIRTY], ids=["3", "30"])
def test_no_legend_over_the_curves_and_nothing_off_the_page(tmp_path, figures, name, layers):
    runs = [write(tmp_path / f"a_rather_long_name_of_a_run_{i}", records(layers, epochs=2, seed=i)) for i in (0, 1)]
    for run in runs:
        save_file({"conv.1.W": np.random.default_rng(0).normal(size=(8, 3, 3, 3))}, run / "best.safetensors")
        predict(run, KINDS.get(name, "classes"), **(images() if name == "samples" else {}),
                **(plane_of("classes") if name == "plane" else {}))  # fmt: skip
    for chosen in (runs[:1], runs):
        plots.draw(chosen, name, tmp_path / "x.png")
        figure = figures.pop()
        figure.canvas.draw()
        page = figure.bbox
        boxes = [axes.get_tightbbox() for axes in figure.axes]
        assert all(box.width > 20 and box.height > 20 for box in boxes)
        for axes in figure.axes:
            tight = axes.get_tightbbox()
            assert tight.x0 >= -1 and tight.y0 >= -1 and tight.x1 <= page.width + 1 and tight.y1 <= page.height + 1
            if axes.get_legend():
                _check_legend(axes, axes.get_legend().get_window_extent(), page)
            for axis in (axes.xaxis, axes.yaxis):
                ticks = [t.get_window_extent() for t in axis.get_ticklabels(which="both") if t.get_text()]
                ticks = [box for box in ticks if box.width and page.overlaps(box)]
                assert not any(a.overlaps(b) for i, a in enumerate(ticks) for b in ticks[:i])


@pytest.mark.parametrize("step", [1, 20, 60, 100, 119])
def test_a_legend_covers_no_mark(tmp_path, figures, step):
    lines = records()
    for line in lines:
        if line["step"] == step:
            line["loss"] *= 1e6
            line["gradient_norm"] *= 1e6
        if line["step"] == 121 - step:
            line["loss"] = line["gradient_norm"] = None
    run = write(tmp_path / "a", lines)
    for name in ("loss", "gradient_norms"):
        plots.draw([run], name, tmp_path / "x.png")
        (figure,) = figures[-1:]
        axes = figure.axes[0]
        assert curve(axes, "above")
        _check_legend(axes, axes.get_legend().get_window_extent(), figure.bbox)


def _check_legend(axes, box, page):
    """Check that a legend is on the page, inside its axes or off them, and that no curve passes under it."""
    assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.width + 1 and box.y1 <= page.height + 1
    room = axes.get_window_extent()
    assert not box.overlaps(room) or (box.y0 >= room.y0 - 1 and box.y1 <= room.y1 + 1)
    for bar in [bar for bars in axes.containers for bar in bars]:
        assert not bar.get_window_extent().overlaps(box)
    for line in axes.get_lines():
        points = line.get_transform().transform(np.column_stack(line.get_data(orig=False)).astype(float))
        for t in np.linspace(0, 1, 21):  # and points between two of the curve
            between = points[:-1] + t * np.diff(points, axis=0) if len(points) > 1 else points
            inside = (between > (box.x0, box.y0)).all(axis=1) & (between < (box.x1, box.y1)).all(axis=1)
            assert not inside.any() or line.get_gid() == "guide", line.get_gid()


def test_thirty_names_in_the_colour_bar_do_not_touch(tmp_path, figures):
    gradient_norms.draw([write(tmp_path / "a", records(THIRTY, epochs=1))], tmp_path / "g.png")
    figures[0].canvas.draw()
    boxes = [text.get_window_extent() for text in figures[0].subfigs[0].axes[1].get_yticklabels()]
    tops = sorted((box.y0, box.y1) for box in boxes)
    assert len(tops) == 30 and all(low[1] <= high[0] + 2 for low, high in pairwise(tops))
    assert by_layer.LEGEND_LAYERS < 30


def test_drawing_leaves_the_users_matplotlib_alone(run, tmp_path):
    script = f"""
import sys, matplotlib
matplotlib.rcParams["lines.linewidth"] = 7.0
matplotlib.rcParams["text.usetex"] = True
raw = lambda: {{key: dict.__getitem__(matplotlib.rcParams, key) for key in matplotlib.rcParams}}  # resolves no backend
before = raw()
from nnjit import plots
for name in ("loss", "gradient_norms", "metrics", "update_ratio", "confusion"):
    plots.draw([{str(run)!r}], name, {str(tmp_path)!r} + "/" + name + ".png")
assert "matplotlib.pyplot" not in sys.modules
assert raw() == before
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_start_path_imports_nothing_heavy():
    """The command loads nothing before it runs, the pictures no matplotlib before they are drawn."""
    script = (
        "import sys, nnjit.cli.plot\n"
        "heavy = 'numpy', 'matplotlib', 'numba', 'safetensors', 'rich', 'pydantic'\n"
        "print([m for m in heavy if m in sys.modules])\n"
        "import nnjit.plots\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["[]", "['numpy']"], done.stdout + done.stderr


@pytest.mark.parametrize(
    "suffix, magic", [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")]
)
def test_the_suffix_says_the_format_and_the_same_run_gives_the_same_file(run, tmp_path, suffix, magic):
    first, second = (loss.draw([run], tmp_path / f"{i}.{suffix}").read_bytes() for i in (1, 2))
    assert first.startswith(magic) and first == second


def test_a_failed_write_keeps_the_old_picture_and_no_rubbish(run, tmp_path, monkeypatch):
    target = tmp_path / "loss.png"
    target.write_text("old")

    def fail(self, path, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.raises(NnjitError, match=r"loss\.png: the picture cannot be written \(No space left on device\)"):
        loss.draw([run], target)
    assert target.read_text() == "old" and {path.name for path in tmp_path.iterdir()} == {"loss.png", "digits"}


def test_a_picture_in_no_directory_or_of_no_format_is_refused(run, tmp_path):
    with pytest.raises(NnjitError, match="cannot be written"):
        loss.draw([run], tmp_path / "nowhere" / "loss.png")
    for name in ("loss.jpg", "loss"):
        with pytest.raises(UsageError, match=r"must end in \.png, \.svg or \.pdf"):
            loss.draw([run], tmp_path / name)


def test_unknown_picture_has_a_near_miss():
    with pytest.raises(UnknownName, match=r"unknown picture 'gradient_norm'; did you mean gradient_norms\?.*confusion"):
        plots.picture("gradient_norm")


# nnjit plot


def call(*arguments):
    return CliRunner().invoke(plot, [str(argument) for argument in arguments])


def test_plot_draws_all_there_is_data_for_into_the_run_and_says_where(run):
    result = call(run)
    assert result.exception is None
    names = ("loss", "metrics", "learning_rate", "gradient_norms", "update_ratio", "confusion")
    written = [run / f"{name}.png" for name in names]
    assert result.output.split() == [str(path) for path in written]
    assert png_size(run / "loss.png") == (1152, 756)
    assert all(png_size(path)[0] > 900 and 10_000 < path.stat().st_size < 1_000_000 for path in written)


def test_plot_of_a_directory_of_seeds_draws_what_shows_them_together(tmp_path):
    folder = tmp_path / "seeds"
    for i in range(2):
        write(folder / f"seed-{i}", records(epochs=2, seed=i))
    (folder / "many.toml").write_text("[many]\nseeds = [0, 1]\n")
    (folder / "seed-2").mkdir()
    (folder / "seed-2" / "log.jsonl").touch()  # begun, without a step
    result = call(folder)
    assert result.exception is None
    assert [line.rpartition("/")[2] for line in result.output.split()] == [
        "loss.png", "metrics.png", "learning_rate.png", "confusion.png",
    ]  # fmt: skip
    assert (folder / "loss.png").is_file()


def test_plot_of_a_layer_means_filters(run, tmp_path):
    save_file({"conv.1.W": np.ones((4, 1, 3, 3)), "conv.3.W": np.ones((4, 4, 3, 3))}, run / "best.safetensors")
    assert call(run, "--layer", "conv.3").output.split() == [str(run / "filters.png")]
    assert "did you mean conv.3" in str(call(run, "--layer", "conv.4").exception)
    assert type(call(run, "--layer", "conv.3", "--what", "loss").exception) is UsageError


def test_plot_of_several_runs_goes_to_the_current_directory(run, tmp_path, monkeypatch):
    other = write(tmp_path / "other", records(["dense.1"], validation=False))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    result = call(run, other, "--what", "loss", "--what", "confusion", "--format", "svg")
    assert result.exception is None
    assert result.stdout.split() == ["loss.svg", "confusion.svg"]
    assert {path.name for path in here.iterdir()} == {"loss.svg", "confusion.svg"}
    assert "confusion: " in result.stderr and "other is left out" in result.stderr


def test_plot_into_a_new_directory_or_a_file(run, tmp_path):
    assert call(run, "--what", "gradient-norms", "--output", tmp_path / "new" / "v1.2").exception is None
    assert (tmp_path / "new" / "v1.2" / "gradient_norms.png").is_file()
    assert call(run, "--what", "loss", "--output", tmp_path / "curve.pdf").output.split() == [
        str(tmp_path / "curve.pdf")
    ]


@pytest.mark.parametrize(
    "arguments, kind, sentence",
    [
        (["--what", "los"], UnknownName, "unknown picture 'los'; did you mean loss"),
        (["--what", "filters"], DataError, "needs best.safetensors"),
        (["--output", "x.png"], UsageError, "is one file for 6 pictures"),
        (["--what", "loss", "--output", "x.jpg"], UsageError, "must end in .png, .svg or .pdf, got .jpg"),
        (["--what", "loss", "--output", "x.png", "--format", "svg"], UsageError, "name different formats"),
        (["--output", "LOG"], UsageError, "cannot be made a directory"),
    ],
)
def test_plot_refuses_in_one_sentence(run, tmp_path, monkeypatch, arguments, kind, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "LOG").write_text("a file")
    before = sorted(tmp_path.rglob("*"))
    result = call(run, *arguments)
    assert type(result.exception) is kind and sentence in str(result.exception)
    assert "\n" not in str(result.exception) and sorted(tmp_path.rglob("*")) == before


def test_plot_of_a_torn_log_says_what_it_left_out(tmp_path):
    lines = records(epochs=1)
    run = write(tmp_path / "a", [*lines[:5], '{"step": 6, "lo', *lines[6:]])
    result = call(run, "--what", "loss")
    assert result.exception is None and "1 unreadable line" in result.stderr


def test_plot_help_names_every_picture():
    text = call("--help").output
    assert all(name in text for name in plots.PICTURES)
