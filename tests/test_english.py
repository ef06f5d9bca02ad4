"""Plain English in the documents, docstrings and comments, by the rule in CONTRIBUTING.md."""

import ast
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/architecture.md",
    "docs/augmentation.md",
    "docs/guarantees.md",
    "docs/images.md",
    "docs/lecture.md",
    "docs/metrics.md",
    "docs/mpi.md",
    "docs/plots.md",
    "docs/scale.md",
    "docs/sweep.md",
    "docs/tables.md",
]
BANNED = [
    r"anew",
    r"what is none",
    r"(is|are|be) told",
    r"told apart",
    r"(no|some)body",
    r"whoever",
    r"of (its|their|one's) own(?! \w)",
    r"so many",
    r"(hears|asks for)",
    r"(?<!there )(is|are) no (array|class|config|file|number|text)s?",
    r"(a|one) (line|name|number|panel|row) an? (class|column|epoch|feature|file|layer|map|run|sample|step)",
    r"(?:^|(?<=[.:] ))(Of|What|Where|Whether)(?= )",  # a sentence begins with its subject or an imperative
]
BANNED = re.compile("|".join(rf"(?:(?<!\w){phrase}(?!\w))" for phrase in BANNED))


def texts(path):
    """Yield (line, text) of each docstring and comment of a Python file, or of each paragraph of a document."""
    source = path.read_text()
    if path.suffix == ".md":
        source = re.sub(r"```.*?```", lambda code: "\n" * code[0].count("\n"), source, flags=re.DOTALL)
        for found in re.finditer(r"(?:.+\n)+", source):
            yield source[: found.start()].count("\n") + 1, found[0]
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            yield getattr(node, "lineno", 1), ast.get_docstring(node) or ""
    with open(path, "rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string.lstrip("# ")


def files():
    for path in sorted(ROOT.glob("**/*.py")):
        name = path.relative_to(ROOT).as_posix()
        hidden = any(part.startswith((".", "runs", "build")) for part in path.relative_to(ROOT).parts)
        if not hidden:
            yield name


@pytest.mark.parametrize("name", [*DOCUMENTS, "CHANGELOG.md", "docs/api.md", *files()])
def test_no_banned_phrase(name):
    found = [(line, BANNED.search(" ".join(text.split()))) for line, text in texts(ROOT / name)]
    assert [f"{name}:{line}: {phrase[0]!r}" for line, phrase in found if phrase] == []
