"""Lines that a run shows: of epochs through a pipe and on terminals of any width, quick and slow ones."""

import io
import math
import re
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnjit.terminal import output
from nnjit.training import progress
from nnjit.training.history import History
from screen import Terminal, shown

RUN = SimpleNamespace(
    progress={"seconds": 0.0, "best": None},
    settings=SimpleNamespace(epochs=12, patience=None),
    lines=[],
)


@pytest.fixture
def terminal(monkeypatch):
    """Make standard output a terminal, and the clock one that the test sets."""
    for name in ("NO_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    made, clock = Terminal(), [1000.0]
    monkeypatch.setattr(output, "sys", SimpleNamespace(stdout=made.stream))
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    made.clock = clock
    yield made
    made.close()


def record(epoch, each=1.0, **numbers):
    return {"epoch": epoch, "step": 97 * epoch, "seconds": each * epoch, "loss": 2.0 / epoch, **numbers}


def lines_of(records, epochs, reporter=progress.Lines, remarks=()):
    """Return the lines that a reporter prints for records."""
    stream, history = io.StringIO(), History(remarks=list(remarks))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "sys", SimpleNamespace(stdout=stream))
        with reporter() as made:
            made.start(epochs)
            for each in records:
                made.epoch(each)
                history.add([each | {"epoch_end": True}])
            made.end(history)
    return stream.getvalue().splitlines()


def epochs_of(lines):
    return [int(found[1]) for line in lines if (found := re.match(r"epoch +(\d+)/", line))]


# -- which epochs have a line ------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.floats(1e-6, 20), st.integers(0, 2**32))
def test_the_pace_of_lines(epochs, each, seed):
    """First, last and best are there; slow epochs all are; quick ones at a readable pace, in few lines."""
    figures = [math.sin(seed + 1.7 * epoch) + 2 for epoch in range(1, epochs + 1)]
    records = [record(epoch, each, val_loss=figure) for epoch, figure in enumerate(figures, 1)]
    lines = lines_of(records, epochs)
    found, best = epochs_of(lines), figures.index(min(figures)) + 1
    assert len(set(found)) == len(found) and {1, best, epochs} <= set(found)
    assert set(range(1, min(epochs, 20))) <= set(found), "short runs have all"
    regular = [epoch for epoch in found if epoch not in (best, epochs)]
    assert all((b - a) * each >= 0.49 or b - a >= a / 20 for a, b in pairwise(regular) if a >= 20)
    assert len(found) <= 22 + 19 * math.log10(max(epochs, 10)) + 2 * epochs * each
    assert len(found) == epochs or each < 10
    # Marked is each line that is the lowest so far, and after all lines at least the best of all.
    lowest = [epoch for epoch in found if figures[epoch - 1] == min(figures[:epoch])]
    assert [epoch for line in lines if "  best  " in line for epoch in epochs_of([line])] == lowest
    assert ("quick" in "".join(lines)) == (len([e for e in found if e != best]) < epochs - 1) or epochs <= 30


@pytest.mark.parametrize("each", [0.5, 30.0, 7200.0])
def test_slow_epochs_all_have_a_line(each):
    assert epochs_of(lines_of([record(epoch, each) for epoch in range(1, 51)], 50)) == list(range(1, 51))


def test_a_compiling_first_epoch_does_not_count_for_the_pace():
    records = [record(epoch, 1e-4) for epoch in range(1, 5001)]
    for each in records:
        each["seconds"] += 60.0
    assert len(epochs_of(lines_of(records, 5000))) < 80


def test_lines_of_a_run_that_fails_end_with_its_last_epoch():
    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(output, "sys", SimpleNamespace(stdout=stream))
        with progress.Lines() as made:
            made.start(1000)
            for epoch in range(1, 346):
                made.epoch(record(epoch, 1e-5))
            raise ZeroDivisionError
    assert epochs_of(stream.getvalue().splitlines())[-1] == 345


# -- what the lines say ------------------------------------------------------------------------------------------------


def test_numbers_line_up_in_columns():
    """Also those that are not measured after each epoch; the words between them are at the same columns."""
    some = [record(e, 100.0, val_loss=10.0**-e, accuracy=0.5) for e in range(1, 6)]
    for each in some[1:3]:
        del each["accuracy"]
    lines = lines_of(some, 5)
    assert [line.index("val_loss") for line in lines] == [lines[0].index("val_loss")] * 5
    assert [line.rstrip().endswith("s") for line in lines] == [True] * 5
    times = [re.search(r"\d+ (min \d+ )?s$", line).start() for line in lines]
    assert times[1:3] == times[:1] * 2 and "accuracy" not in lines[1]
    for line, each in zip(lines, some, strict=True):
        assert f"val_loss {each['val_loss']:.4g} " in line


def test_remarks_follow_the_last_epoch():
    assert lines_of([record(1)], 1, remarks=["a is 0", "b is"])[-2:] == ["note: a is 0", "note: b is"]


def test_a_run_of_many_says_nothing_while_it_trains(capsys):
    weighted = SimpleNamespace(**vars(RUN) | {"lines": ["units: y / 2", "the loss is weighted by class"]})
    with progress.Silent() as reporter:
        reporter.begin(weighted)
        reporter.say(["validation: 3 rows"])
        reporter.epoch(record(1))
        reporter.end(History(stopped="because", remarks=["it is"]))
    assert capsys.readouterr().out == ""


def test_runs_at_the_same_time_do_not_say_that_they_compile(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    for reporter, said in ((progress.Quiet, "compiling 22 kernels ...\n"), (progress.Silent, "")):
        with reporter() as reporting:
            reporting.compiling(0, 22)
            if reporting._later is not None:
                reporting._later.join()
        assert capsys.readouterr().out == said


# -- on a terminal -----------------------------------------------------------------------------------------------------


def follow(terminal, look, epochs=12, each=47.3, steps=97):
    """Show a run on a terminal, with some steps of each epoch; call `look(lines)` after all that is written."""
    with progress.LiveLine() as reporter:
        reporter.compiling(0, 22)
        look(terminal.lines())
        reporter.begin(RUN)
        for epoch in range(1, epochs + 1):
            for done in (steps // 3, 2 * steps // 3, steps):
                terminal.clock[0] += each / 3
                reporter.progress(epoch, done, steps, 2.3 / epoch)
                look(terminal.lines())
            reporter.epoch(record(epoch, each, val_loss=2 / epoch, val_accuracy=1 - 0.9 / epoch, val_f1=0.5))
            look(terminal.lines())
        reporter.end(History())
    look(terminal.lines())


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 300])
def test_no_line_of_an_epoch_wraps(terminal, width):
    """One line is rewritten below those that stay; what matters most is on narrow terminals too."""
    terminal.resize(width)
    seen = []
    follow(terminal, seen.append)
    assert all(len(line) < width for lines in seen for line in lines)
    whole = seen[-1]
    assert len(whole) == 12 and epochs_of(whole) == list(range(1, 13))
    cells = ["  val_loss ", "  best", "  loss ", "  val_accuracy ", r"  \d+ s$", "  val_f1 "]
    shows = [cell for cell in cells if re.search(cell, whole[0])]
    assert shows == cells[: {20: 0, 40: 2, 60: 3, 80: 4, 120: 6, 300: 6}[width]]
    live = [lines[-1] for lines in seen if re.match(r"epoch \d+/12  (step|loss|\d)", lines[-1] if lines else "")]
    assert len(live) >= 30 or width == 20
    if width >= 40:
        assert all("left" in line and ("loss" in line or width == 40) for line in live[1:-3])
    assert ("best 0.2222 (epoch 9)" in " ".join(live)) == (width >= 80)
    assert ("step 32/97" in " ".join(live)) == (width >= 60)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_rewritten_line_is_never_that_of_an_ended_epoch(terminal, width):
    """Below the line of an epoch comes what follows: the next epoch and the time left, or nothing after the last."""
    terminal.resize(width)
    seen = []
    follow(terminal, seen.append, epochs=5)
    screens = [epochs_of(lines) for lines in seen[1:]]
    assert all(len(set(epochs)) == len(epochs) for epochs in screens), "no epoch is there twice"
    after = [lines[-1] for lines in seen[4::4]]  # right after the line of an epoch
    assert [re.match(r"epoch +(\d+)/12  ", line)[1] for line in after] == ["2", "3", "4", "5", "6"]
    assert all("left" in line and "step" not in line and "  loss" not in line for line in after)


def test_nothing_is_rewritten_after_the_last_epoch(terminal):
    with progress.LiveLine() as reporter:
        reporter.start(3)
        for epoch in range(1, 4):
            terminal.clock[0] += 1
            reporter.progress(epoch, 7, 7, 0.5)
            reporter.epoch(record(epoch))
        assert epochs_of(terminal.lines()) == [1, 2, 3] and not terminal.text.endswith("left")
        reporter.end(History())


def test_time_left_is_that_of_a_steady_run(terminal):
    left = []

    def look(lines):
        if found := re.search(r"  ([\d.]+) (min (\d+) )?s left$", lines[-1] if lines else ""):
            left.append(60 * float(found[1]) + float(found[3]) if found[2] else float(found[1]))

    follow(terminal, look, each=30.0, steps=90)
    expected = [360 - 10 * k for k in range(1, 36)]
    assert [x for k, x in enumerate(left) if k == 0 or x != left[k - 1]] == pytest.approx(expected, abs=1)


def test_a_terminal_that_changes_its_width(terminal):
    widths = iter([30, 100, 50, 20, 120] * 20)

    def look(lines):
        terminal.resize(next(widths))
        terminal.rewritten = len(terminal.text)

    # Each line is as wide as the terminal was when it was written.
    terminal.resize(120)
    follow(terminal, look)
    assert epochs_of(shown(terminal.text, 120)) == list(range(1, 13))


def test_very_quick_epochs_do_not_flood_a_terminal(terminal):
    with progress.LiveLine() as reporter:
        reporter.start(100_000)
        for epoch in range(1, 100_001):
            terminal.clock[0] += 1e-5
            reporter.progress(epoch, 1, 1, 0.5)
            reporter.epoch(record(epoch, 1e-5))
        reporter.end(History())
    assert len(terminal.text) < 20_000
    assert epochs_of(terminal.lines())[-1] == 100_000 and len(terminal.lines()) < 110


@pytest.mark.parametrize("name, value", [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_styles_where_none_are_wanted(terminal, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stdout=terminal.stream))
    with progress.reporter() as reporter:
        assert isinstance(reporter, progress.LiveLine) == (name != "TERM")
        reporter.begin(RUN)
        reporter.epoch(record(1))
        reporter.end(History(remarks=["it is"]))
    styles = re.findall(r"\x1b\[([\d;]*)m", terminal.text)
    assert not [style for style in styles if re.search(r"3\d", style)], "no colours"
    assert "epoch  1/12  best  loss 2" in "\n".join(terminal.lines()) and terminal.text.isascii()
    assert name != "TERM" or "\x1b" not in terminal.text
