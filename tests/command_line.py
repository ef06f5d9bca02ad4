"""Calls of the command line in this process, for tests."""

import json
import sys

from click.testing import CliRunner
from nnjit.cli.main import nnjit as group

SMALL = ["--layers", "flatten dense(10)", "--epochs", "2"]
SCRIPT = [sys.executable, "-c", "from nnjit.cli.main import main; main()"]


def nnjit(*arguments, status=0, stdin=None, stream="output"):
    """Call the command line and return its output, or one stream; the exit status must be this one, no traceback."""
    result = CliRunner().invoke(group, list(map(str, arguments)), input=stdin)
    assert result.exception is None or type(result.exception) is SystemExit, result.exception
    assert result.exit_code == status, result.output
    return getattr(result, stream)


def records(path):
    """Read the log of a run."""
    return [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
