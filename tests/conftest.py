"""What all tests share: compiled code of one test run is kept in one directory, apart from the user's own cache."""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# Before nnjit is imported, for this process and those that tests start.
os.environ["NNJIT_CACHE_DIR"] = os.environ.get("NNJIT_TEST_CACHE_DIR") or str(HERE.parent / ".pytest_cache" / "nnjit")
os.environ.setdefault("MPLBACKEND", "Agg")
sys.path.insert(0, str(HERE))  # layer_runner, command_line


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The directory of a small run; not to be changed."""
    from command_line import SMALL, nnjit

    path = tmp_path_factory.mktemp("trained") / "run"
    nnjit("run", *SMALL, "--output", path)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current directory of the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
