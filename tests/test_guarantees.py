"""Every promise in docs/guarantees.md names existing tests."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEST = re.compile(r"`(tests/\w+\.py)::(\w+)`")


def test_every_promise_names_its_test():
    text = (ROOT / "docs" / "guarantees.md").read_text()
    functions = {
        path: {node.name for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.FunctionDef)}
        for path in {path for path, _ in TEST.findall(text)}
    }
    assert [f"{path}::{name}" for path, name in TEST.findall(text) if name not in functions[path]] == []
    promises = re.split(r"^- ", text, flags=re.M)[1:]
    assert len(promises) > 80
    # A limit of Numba's or of nnjit's is not a promise, and says so.
    limits = [p for p in promises if not TEST.search(p)]
    assert [p for p in limits if not re.search(r"limit|Nothing checks|Not tested|cannot tell", p)] == []
