"""Fixtures of all tests; compiled code of a test run is kept in one directory, apart from the user's cache."""

import gc
import os
import signal
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# set before nnjit is imported, for this process and those that tests start
os.environ["NNJIT_CACHE_DIR"] = os.environ.get("NNJIT_TEST_CACHE_DIR") or str(HERE.parent / ".pytest_cache" / "nnjit")
os.environ.setdefault("MPLBACKEND", "Agg")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's background; processes of tests would ignore it too
    signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, str(HERE))  # layer_runner, command_line
gc.set_threshold(20_000, 20, 10)  # compilers make many objects that stay, or leave in cycles, until they end

from nnjit.kernels.compiler import second  # noqa: E402

possible = second.possible
if "PYTEST_XDIST_WORKER" in os.environ:  # all processors are busy, and each helper process takes 1.5 s to start
    second.possible = lambda: False


def pytest_collection_finish():
    gc.freeze()  # thousands of tests and their options


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Make a small run, whose directory tests must not change."""
    from command_line import SMALL, nnjit

    path = tmp_path_factory.mktemp("trained") / "run"
    nnjit("run", *SMALL, "--output", path, pictures=True)
    return path


@pytest.fixture(scope="module", autouse=True)
def lasting():
    """Let the collector forget what a file has left: a process holds millions of Numba's objects in the end."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def linked():
    """Call kernels of small networks by symbol: inlined, each network has all of them compiled once more."""
    with pytest.MonkeyPatch.context() as patch:
        inline_nothing(patch)
        yield


@pytest.fixture
def by_symbol(monkeypatch):
    """Do the same as `linked` for one test."""
    inline_nothing(monkeypatch)


def inline_nothing(patch):
    for name in ("INLINE", "FEW_INLINE", "FEW_PASSED"):
        patch.setattr(f"nnjit.program.schedule.{name}", 0)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Give the test an empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def two_processors(monkeypatch):
    """Let a second process compile, as on a machine with an idle processor."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(second, "possible", possible)
