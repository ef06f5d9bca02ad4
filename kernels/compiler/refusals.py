"""Errors of a kernel that does not compile, in one sentence: the author's line, the reason, the remedy."""

import ast
import linecache
import os
import re
from contextlib import suppress

import numpy as np

from .machine_code import first_line

MAKERS = {"zeros", "ones", "empty", "full", "array", "arange", "linspace", "eye", "concatenate", "stack", "copy"}
MAKERS |= {"zeros_like", "ones_like", "empty_like", "full_like", "tile", "repeat", "append", "sort"}
PLACES = re.compile(r'File "(.*?)", line (\d+)|at (\S+?\.py) \((\d+)\)')


def place(file, line):
    """Return ``file, line 12, 'its text'``; the file is relative to the current folder if it lies below it."""
    near = os.path.relpath(file) if os.path.isabs(file) else file
    text = linecache.getline(file, line).strip()
    return f"{file if near.startswith('..') else near}, line {line}" + (f", {text!r}" if text else "")


def explained(kernel, error):
    """Return why a kernel does not compile, as a sentence.

    Parameters
    ----------
    kernel : Kernel
    error : NumbaError or SyntaxError
    """
    function = kernel.function
    name = f"{function.__module__}.{function.__qualname__} does not compile: "
    source = kernel.source
    if made := _made(source):
        what, line = made
        return (
            f"{name}{what} makes an array in {place(source.file, line)}, and a kernel has no memory of its own: declare"
            " the array in the layer's scratch() and take it as an argument, or compute with numbers"
        )
    first, last = source.first_line, source.first_line + source.text.count("\n")
    if isinstance(error, SyntaxError):
        remedy = "write the outer loop over what is independent as 'for i in prange(n)', and loops inside it with range"
        return f"{name}{error.msg} ({place(source.file, source.tree().lineno)}): {remedy}"
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    found = [(a or c, int(b or d)) for a, b, c, d in PLACES.findall(text)]
    own = [n for file, n in found if os.path.abspath(file) == os.path.abspath(source.file) and first <= n <= last]
    line = own[0] if own else source.tree().lineno
    reason = first_line(text.replace("File ", "file "))
    lines = [each.strip() for each in text.splitlines()]
    signature = next((each.lstrip("> ") for each in lines if each.startswith(">>>")), "")
    return f"{name}Numba refuses {place(source.file, line)}: {reason.rstrip(':. ')}{': ' * bool(signature)}{signature}"


def _made(source):
    """Return the first call of the kernel's own text that makes an array and its line, or None."""
    for node in ast.walk(source.tree()):
        if not isinstance(node, ast.Call):
            continue
        with suppress(AttributeError, KeyError):
            if isinstance(node.func, ast.Attribute) and node.func.attr in MAKERS:
                owner = source.function.__globals__.get(getattr(node.func.value, "id", None))
                if owner is np or node.func.attr == "copy":
                    return ast.unparse(node.func), node.lineno
    return None
