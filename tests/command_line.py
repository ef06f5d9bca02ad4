"""Calls of the command line in this process, for tests."""

import json
import sys

import pytest
from click.testing import CliRunner
from nnjit.cli.main import nnjit as group

SMALL = ["--layers", "flatten dense(10)", "--epochs", "2"]
SCRIPT = [sys.executable, "-c", "from nnjit.cli.main import main; main()"]
# The same, whose runs draw no pictures.
UNDRAWN = [*SCRIPT[:2], f"from nnjit.training import run_and_draw as r; r._draw = lambda *_: None; {SCRIPT[2]}"]


def nnjit(*arguments, status=0, stdin=None, pictures=False, stream="output"):
    """Call the command line and return its output, or one stream; the exit status must be this one, no traceback.

    Runs draw only if `pictures` are asked for: to draw takes as long as the rest of a small run.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not pictures:
            patch.setattr("nnjit.training.run_and_draw._draw", lambda *_: None)
            patch.setattr("nnjit.launch.many.draw_together", lambda *_: [])
        result = CliRunner().invoke(group, list(map(str, arguments)), input=stdin)
    assert result.exception is None or type(result.exception) is SystemExit, result.exception
    assert result.exit_code == status, result.output
    return getattr(result, stream)


def records(path):
    """Read the log of a run."""
    return [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
