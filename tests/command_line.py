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
    """Call the command line and return its output, or one stream; the exit status must be this one (None: any).

    Runs draw only if `pictures` are asked for: to draw takes as long as the rest of a small run.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not pictures:
            patch.setattr("nnjit.training.run_and_draw._draw", lambda *_: None)
            patch.setattr("nnjit.launch.many.draw_together", lambda *_: [])
        result = CliRunner().invoke(group, list(map(str, arguments)), input=stdin)
    assert result.exception is None or type(result.exception) is SystemExit, result.exception
    assert status in (None, result.exit_code), result.output
    return getattr(result, stream)


# A metric whose second measurement in a training, if there is a file WAIT, lasts until the process gets a signal.
WAITING = """
import os, signal, time
from pathlib import Path
from nnjit.registry import metrics
from nnjit.training.metrics.of_classes import Accuracy
from nnjit.training.signals import Listening

HERE = Path(__file__).parent

def listening():
    return isinstance(getattr(signal.getsignal(signal.SIGINT), "__self__", None), Listening)

@metrics.register("NAME")
class Waiting(Accuracy):
    count = 0

    def part(self, predictions):
        self.count += listening()
        while self.count >= 2 and listening() and (HERE / "WAIT").exists():
            (HERE / f"waits-{os.getpid()}").touch()
            time.sleep(0.01)
        return super().part(predictions)
"""


def waiting(folder):
    """Write a plug-in that makes runs wait for a signal; return the options that load it, and those that use it."""
    name = f"waiting_{folder.name}"  # a name is registered once
    (folder / "waiting.py").write_text(WAITING.replace("NAME", name))
    return ["--plugin", folder / "waiting.py"], ["--metrics", name]


def all_wait(folder, count):
    """Tell whether as many runs wait for a signal."""
    return len(list(folder.glob("waits-*"))) == count


def records(path):
    """Read the log of a run."""
    return [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
