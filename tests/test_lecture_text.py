"""docs/lecture.md quotes lines of programs and names tests that exist."""

import ast
import re
from pathlib import Path

import pytest
from nnjit import registry
from nnjit.program.program import Program
from nnjit.training.config import Config

HERE = Path(__file__).parent
TEXT = (HERE.parent / "docs" / "lecture.md").read_text()
QUOTES = re.findall(r"^```python (.+?)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
NAMED = [tuple(found.split()) for found in re.findall(r"`(test_\w+\.py:\s+\w+)`", TEXT)]


@pytest.fixture(scope="module")
def sources():
    config = Config()
    digits = registry.compose(["minmax(0, 16)", *config.model.layers], (1, 8, 8))  # as a run does
    points = registry.compose("dense(2) sigmoid dense(3) sigmoid dense(2) sigmoid", (2,), dtype="float64")
    training = config.training
    return {
        "digits": Program(digits, training.loss, training.optimizer, training.batch_size).source,
        "ten points": Program(points, "quadratic", "sgd(lr=0.05)", 10).source,
    }


@pytest.mark.parametrize("network, quote", QUOTES, ids=[quote[:24] for _, quote in QUOTES])
def test_quoted_lines_stand_in_the_program(network, quote, sources):
    """Compare without blanks before a comment: they depend on the longest call of the function."""
    lines = [" ".join(line.split()) for line in sources[network].splitlines()]
    for line in quote.splitlines():
        line = " ".join(line.split())
        table = not re.search(r"[(=]s\b|^s\.|\"\"\"", line)  # a row of the head may continue
        assert any(each.startswith(line) if table else each == line for each in lines), line


def test_each_equation_is_quoted_and_proved():
    """Each of (1) to (5) is in a line of a program, and in a section that names a test."""
    quoted = "".join(quote for _, quote in QUOTES)
    for number in range(1, 6):
        assert f"({number})" in quoted
    sections = re.split(r"^## ", TEXT, flags=re.MULTILINE)[2:]  # without the head and the notation
    assert all("test_" in section and "```python" in section for section in sections)
    assert TEXT.count("```") == 2 * len(QUOTES)


@pytest.mark.parametrize("file, name", NAMED)
def test_named_tests_exist(file, name):
    tree = ast.parse((HERE / file.rstrip(":")).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
