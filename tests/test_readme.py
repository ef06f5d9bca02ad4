"""README.md and docs/compiled.md: every block of Python runs whole, and the command line accepts every command.

The blocks for bash are run as a whole by .ci/run.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import command_line
import pytest
from nnjit import registry
from nnjit.cli.main import nnjit

ROOT = Path(__file__).resolve().parent.parent
TEXT, GUIDE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/compiled.md"))
BLOCKS = {language: re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL) for language in ("python", "bash", "sh")}


def test_every_block_is_of_a_known_language():
    assert sum(map(len, BLOCKS.values())) == TEXT.count("```") // 2


PYTHON = [*BLOCKS["python"], *re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)]


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_python(here, number):
    """Run it as a file in an empty folder, with warnings as errors."""
    (here / "readme.py").write_text(PYTHON[number])
    done = subprocess.run([sys.executable, "-W", "error", "readme.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_layer_passes_its_check(here):
    """The layer that README.md shows is right: gradients, threads, races."""
    (block,) = [block for block in BLOCKS["python"] if "@register" in block]
    (here / "readme.py").write_text(block)
    try:
        said = command_line.nnjit("check", "scale", "--plugin", "readme.py")
    finally:
        if "scale" in registry.names():
            registry.unregister("scale")
    assert "PASS" in said and "FAIL" not in said


def commands():
    """Return all `nnjit ...` of the blocks and of the prose, as lists of words."""
    lines = [line for block in BLOCKS["bash"] + BLOCKS["sh"] for line in re.split(r"&&|\n", block)]
    lines += re.findall(r"`(nnjit [^`]*)`", TEXT)
    for line in lines:
        words = shlex.split(line)
        if words and words[0].endswith("nnjit"):
            yield [word for word in words[1:] if not word.startswith("[") and not word.endswith("]")]


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_commands_are_read(words):
    """Their commands and options exist, and take such values."""
    context = click.Context(nnjit)
    group, (name, *rest) = nnjit, words
    found = group.get_command(context, name)
    assert found is not None
    if not rest:  # the prose names the command alone
        return
    rest = ["DIR" if re.fullmatch(r"[A-Z_]+(\.\.\.)?", word) else word for word in rest]
    with found.make_context(name, rest, parent=context) as inner:
        if isinstance(found, click.Group) and inner._protected_args + inner.args:
            assert (inner._protected_args + inner.args)[0] in found.commands


def test_options_in_the_table_exist():
    """`--option` after a command, in its row of the table."""
    rows = [(name, row) for row in TEXT.splitlines() for name in re.findall(r"^\| `nnjit (\w+)", row)]
    assert len(rows) >= 9
    for name, row in rows:
        command = nnjit.get_command(click.Context(nnjit), name)
        known = {option for parameter in command.params for option in parameter.opts}
        for option in re.findall(r"--[a-z-]+", row):
            assert option in known, (name, option)
