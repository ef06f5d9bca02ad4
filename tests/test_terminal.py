"""Lines on terminals of any width, durations, and the progress of long reads and of `nnjit check`."""

import gzip
import io
import os
import re
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnjit.data.arrow_file import Arrow
from nnjit.data.csv_file import CSV
from nnjit.data.idx import read_idx
from nnjit.data.npz import NPZ
from nnjit.terminal import progress
from nnjit.terminal.live import fitted
from nnjit.terminal.progress import Progress, open_tracked
from nnjit.terminal.quantities import duration, sizes
from screen import Terminal, shown

UNITS = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}


@pytest.fixture
def terminal(monkeypatch):
    """Make standard error a terminal of 80 columns."""
    for name in ("NO_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    made = Terminal()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=made.stream))  # pytest sets sys.stderr again
    yield made
    made.close()


@given(st.floats(0, 1e7))
def test_a_duration_is_read_back(seconds):
    """Two units at most, each below the next larger one, within half of the smallest unit that is shown."""
    words = duration(seconds).split()
    numbers, units = [float(word) for word in words[::2]], words[1::2]
    assert len(units) in (1, 2) and len(duration(seconds)) <= 12
    for number, unit in zip(numbers, units, strict=True):
        assert number < {"ms": 100, "s": 60, "min": 60, "h": 24, "d": 1000}[unit]
    found = sum(number * UNITS[unit] for number, unit in zip(numbers, units, strict=True))
    digit = UNITS[units[-1]] * (0.1 if "." in words[0] else 1)
    assert abs(found - seconds) <= 0.51 * digit
    assert len(units) == 1 or list(UNITS).index(units[0]) - list(UNITS).index(units[1]) == 1


@given(st.integers(1, 10**14), st.floats(0, 1))
def test_sizes_have_one_unit(total, share):
    done = int(total * share)
    found = re.fullmatch(r"([\d.]+) of ([\d.]+) ([kMGT]?)B", sizes(done, total))
    unit = 1000.0 ** ("", "k", "M", "G", "T").index(found[3])
    for number, text in ((done, found[1]), (total, found[2])):
        assert abs(float(text) * unit - number) <= 0.0501 * unit
    assert float(found[2]) < 1001 or found[3] == "T"


CELLS = st.lists(st.tuples(st.integers(0, 4), st.text("abc", min_size=1, max_size=9)), min_size=1, max_size=6)


@given(CELLS, st.integers(1, 60))
def test_the_least_important_cells_are_left_out(cells, width):
    kept = fitted(cells, width)
    assert len("  ".join(kept)) <= width
    # As many as fit, the most important ones.
    order = sorted(range(len(cells)), key=lambda place: (cells[place][0], place))
    fitting = [
        [cells[place][1] for place in sorted(order[:count])]
        for count in range(1, len(cells) + 1)
        if len("  ".join(cells[place][1] for place in order[:count])) <= width
    ]
    if fitting:
        assert kept == fitting[-1]
    else:
        assert kept == [cells[order[0]][1][:width]]


# -- long works --------------------------------------------------------------------------------------------------------


def test_short_work_shows_nothing(terminal):
    with Progress("reading") as show:
        show(1, 2)
    assert terminal.text == ""


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_long_work_is_one_line_that_disappears(terminal, monkeypatch, width):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    terminal.resize(width)
    with Progress("certifying") as show:
        for done in range(40):
            now[0] += 0.3
            show(done, 40, f"conv({done}, 3)", "on (2, 6, 6), batch of 5")
            lines = terminal.lines()
            assert len(lines) == (done >= 3) and all(len(line) < width for line in lines)
    assert terminal.lines() == []
    last = shown(terminal.text.rpartition("\r")[0], width)[0]
    assert "97%" in last and "conv(39, 3)" in last and ("0.3 s left" in last) == (width >= 60)
    assert ("batch of 5" in last) == (width >= 80)


def test_threads_may_say_how_far_they_are(terminal, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    with Progress("reading images") as show:
        threads = [threading.Thread(target=lambda: [show(k, 50) for k in range(50)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        written = terminal.text.split("\r\x1b[2K")
    assert len(written) == 200 and all(re.fullmatch(r"reading images  \d+%  \d+ of 50.*", line) for line in written)


@pytest.mark.parametrize("term", ["dumb", None])
def test_nothing_on_a_dumb_terminal_or_in_a_file(terminal, monkeypatch, term):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    if term is None:
        monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=io.StringIO()))
    else:
        monkeypatch.setenv("TERM", term)
    with Progress("reading") as show:
        show(1, 2)
    assert terminal.text == ""


def test_reading_a_table_and_packed_images(terminal, monkeypatch, tmp_path):
    """The arrays are those of the files, and the line counts their bytes up to the last one."""
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    numbers = np.arange(60_000.0).reshape(-1, 3)
    path = tmp_path / "table.csv"
    path.write_text("a,b,y\n" + "".join("{:.0f},{:.0f},{:.0f}\n".format(*row) for row in numbers))
    read = CSV(str(path), label="y", target="value", validation=0).load().train
    np.testing.assert_array_equal(np.column_stack([read.x, read.y]), numbers)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 28, 28), np.uint8)
    packed = tmp_path / "images.gz"
    packed.write_bytes(gzip.compress(bytes([0, 0, 8, 3]) + np.array(pixels.shape, ">u4").tobytes() + pixels.tobytes()))
    np.testing.assert_array_equal(read_idx(packed), pixels)
    assert "reading table.csv" in terminal.text and "reading images.gz" in terminal.text
    assert terminal.text.count("100%") >= 2 and terminal.lines() == []


@pytest.mark.parametrize("suffix", ["parquet", "feather", "npz"])
def test_long_reads_of_archives_and_typed_tables_say_how_far_they_are(terminal, monkeypatch, tmp_path, suffix):
    """By row groups, or by bytes; a reading that takes less than `PATIENCE` says nothing."""
    path, numbers = str(tmp_path / f"table.{suffix}"), np.random.default_rng(0).random((20_000, 3))
    if suffix == "npz":
        np.savez_compressed(path, x=numbers[:, :2], y=numbers[:, 2:])
        reader = NPZ(path, validation=0)
    else:
        pa = pytest.importorskip("pyarrow")
        from pyarrow import feather, parquet

        table = pa.table(dict(zip("aby", numbers.T, strict=True)))
        if suffix == "parquet":
            parquet.write_table(table, path, row_group_size=3000)
        else:
            feather.write_feather(table, path, chunksize=3000)
        reader = Arrow(path, label="y", target="value", validation=0)
    reader.load()
    assert terminal.text == ""
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    read = reader.load().train
    np.testing.assert_array_equal(np.column_stack([read.x, read.y]), numbers)
    shares = [int(share) for share in re.findall(rf"reading table.{suffix}  (\d+)%", terminal.text)]
    assert len(set(shares)) > 5 and 90 < shares[-1] <= max(shares) <= 100 and terminal.lines() == []
    assert shares[-5:] == sorted(shares[-5:]), "after what is at the end of the file and read first"
    assert (f"{len(numbers)} of {len(numbers)}" in terminal.text) == (suffix == "parquet")


def test_a_tracked_file_without_a_size(tmp_path):
    """A pipe has none; it is read nevertheless."""
    ours, its = os.pipe()
    os.write(its, b"abc")
    os.close(its)
    with Progress("reading", "bytes") as show, open_tracked(ours, show) as file:
        assert file.read() == b"abc"
