"""Places in an author's file: the line that raised an error, and the line that writes an array."""

import ast

from ..kernels.compiler.elementwise import Formula
from ..kernels.compiler.refusals import place


def author_line(error, file):
    """Return the line of a file that an error comes from: of the innermost frame there, or None.

    The error that an error replaced counts too.
    """
    line, seen = None, set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        step = error.__traceback__
        while step is not None:
            if step.tb_frame.f_code.co_filename == file:
                line = step.tb_lineno
            step = step.tb_next
        error = error.__cause__ or error.__context__
    return line


def placed(error, file):
    """Return the place that an error comes from in a file, in brackets behind a blank, or ""."""
    line = author_line(error, file) if file else None
    return "" if line is None else f" ({place(file, line)})"


def written_in(kernel, name):
    """Return the place where a kernel first writes an array, or that of the kernel itself."""
    source = kernel.source
    tree = source.tree()
    if isinstance(kernel, Formula):
        results = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Return)]
        return place(source.file, min(results, default=tree.lineno))
    names = {name}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for targets, values in _pairs(node):
                base = _base(values)
                if isinstance(targets, ast.Name) and base in names and not isinstance(values, ast.Subscript):
                    names.add(targets.id)
                elif isinstance(targets, ast.Subscript) and _base(targets) in names:
                    return place(source.file, targets.lineno)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Subscript) and _base(node.target) in names:
            return place(source.file, node.lineno)
    return place(source.file, tree.lineno)


def _pairs(node):
    """Yield (target, value) of an assignment, tuples taken apart."""
    for target in node.targets:
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            yield from zip(target.elts, node.value.elts, strict=False)
        elif isinstance(target, ast.Tuple):
            yield from ((each, node.value) for each in target.elts)
        else:
            yield target, node.value


def _base(node):
    """Return the name of the array that an expression such as ``y.reshape(n)[i]`` is a part of, or None."""
    while not isinstance(node, ast.Name):
        if isinstance(node, (ast.Subscript, ast.Attribute)):
            node = node.value
        elif isinstance(node, ast.Call):
            node = node.func
        else:
            return None
    return node.id
