"""A function of the text as lines: calls with their equations as comments, in columns.

A `Text` is the function's name, its arguments, and a body of lines, calls and indented bodies; `written` writes it.
"""

from dataclasses import dataclass, field
from textwrap import wrap

from ..calls import Call, Var

WIDTH = 116  # columns of a line of the text: marks of comments and docstrings may follow


@dataclass
class Text:
    """A function of the text; an item of the body is a line, a `Call`, or a list that is indented."""

    name: str
    arguments: str
    body: list = field(default_factory=list)
    title: str = ""
    block: tuple = ("n0", "n1")  # the numbers that the calls work on: from the first, below the second


def written(text, plan):
    """Return the lines of a function."""
    rows = list(_rows(text.body or ["pass"], plan, text.block, 1))
    column = max([len(line) for line, comment in rows if comment and len(line) + len(comment) <= WIDTH], default=0)
    lines = [f"def {text.name}({text.arguments}):", *([f'    """{text.title}"""'] if text.title else [])]
    for line, comment in rows:
        if comment and max(len(line), column) + len(comment) <= WIDTH:
            lines.append(f"{line:<{column}}  # {comment}")
        else:
            indent = line[: len(line) - len(line.lstrip())]
            lines += wrapped(comment, f"{indent}# ", f"{indent}#     ") if comment else []
            lines += wrapped(line, "", f"{indent}    ") if line.endswith(")") and '"' not in line else [line]
    return lines


def wrapped(text, first, further):
    """Break a text at blanks into lines of at most `WIDTH` columns, which begin with `first`, then `further`."""
    return wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=further, break_long_words=False, break_on_hyphens=False
    )  # fmt: skip


def _rows(body, plan, block, depth):
    """Yield (line, comment) of every item of a body."""
    indent = "    " * depth
    for item in body:
        if isinstance(item, list):
            yield from _rows(item, plan, block, depth + 1)
        elif isinstance(item, Call):
            yield f"{indent}{_call(item, plan, block)}", item.equation
        else:
            yield f"{indent}{item}", ""


def _call(call, plan, block):
    """Return the line of a call."""
    given = [_value(call.values[name], plan) for name in call.binding.free]
    return f"{call.binding.name}({', '.join(['s', *block, *given, *(['part'] if call.split else [])])})"


def _value(value, plan):
    return value.text if isinstance(value, Var) else plan.variables[value]
