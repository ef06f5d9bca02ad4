"""Five syntax-tree rewrites that turn a kernel's source into the function to compile.

1. ``for i in prange(n)`` runs from ``n * _part // _parts`` to ``n * (_part + 1) // _parts``: one compilation serves
   serial runs (part 0 of 1) and threads (one part each), and any number of parts gives the same bits.
2. A float literal or a global float becomes ``_real(...)``, the type of the arrays, so that a float32 kernel is not
   promoted to float64; ``float(...)`` means the same.
3. np.exp and similar functions become the device's versions, if it has faster ones.
4. ``total += term`` becomes ``total = _add(total, term)``, a sum whose order LLVM may choose. LLVM may regroup nothing
   else, so that a formula is computed as written.
5. The name of the function gets a hash of everything that determines its code.
"""

import ast
import inspect
import math
import textwrap
import types as python_types

import numpy as np

from . import cache, reached


class Source:
    """The text and tree of a function, and the hash of everything it refers to; SpecError if there is no text."""

    def __init__(self, function):
        self.function = function
        self.label = label(function)

    def __getattr__(self, name):  # the text is read at its first use: code on disk is found without it
        if name not in ("text", "first_line", "file"):
            raise AttributeError(name)
        lines, self.first_line = reached.written(self.function)
        self.text = textwrap.dedent("".join(lines))
        self.file = inspect.getsourcefile(self.function) or "<nnjit>"
        return self.__dict__[name]

    def tree(self):
        """Parse the function definition to a new tree, without decorators."""
        definition = ast.parse(self.text).body[0]
        ast.increment_lineno(definition, self.first_line - 1)
        definition.decorator_list = []
        definition.returns = None
        for argument in definition.args.args:
            argument.annotation = None
        return definition

    def told(self):
        """Return the hash of this source and what it uses, and the `linked` functions that it calls itself."""
        seen: set = set()
        key = cache.digest(*reached.texts(self.function, seen))
        functions = (each for each in seen - {self.function} if inspect.isfunction(each))
        found = [function for function in functions if hasattr(function, "register")]
        return key, sorted(found, key=lambda function: (function.__module__, function.__code__.co_firstlineno))

    def key(self):
        """Hash this source and, through its globals, every function, constant and helper it uses."""
        return self.told()[0]

    def linked(self, unreached=()):
        """List the `linked` functions that this one reaches if it does not reach some of those it calls."""
        return all_called(self.told()[1], unreached)

    def register(self, real):
        """Register the `linked` functions that this one calls, as required before its code is loaded."""
        for function in self.told()[1]:
            function.register(real)


def all_called(functions, unreached=()):
    """List `linked` functions and those that they call, but for the `unreached` and what only these call."""
    found: dict = {}
    left = list(functions)
    while left:
        function = left.pop(0)
        if function not in found and function not in unreached:
            found[function] = None
            left += function.told()[1]
    return list(found)


def label(function):
    """Return the first part of a compiled function's name."""
    name = function.__qualname__.replace("<locals>.", "").replace(".", "_")
    return f"{(function.__module__ or '').rpartition('.')[2]}_{name}"


class _Real(ast.NodeTransformer):
    """Rewrites 2 and 3: floats take the type of the arrays; functions become the device's."""

    def __init__(self, namespace, functions):
        self.namespace, self.functions = namespace, functions

    def _wrap(self, node):
        call = ast.Call(ast.Name("_real", ast.Load()), [node], [])
        return ast.copy_location(call, node)

    def visit_Constant(self, node):
        return self._wrap(node) if type(node.value) is float else node

    def visit_Name(self, node):
        if isinstance(node.ctx, ast.Load) and type(self.namespace.get(node.id)) is float:
            return self._wrap(node)
        return node

    def visit_Attribute(self, node):
        if isinstance(node.value, ast.Name):
            module = self.namespace.get(node.value.id)
            if isinstance(module, python_types.ModuleType):
                value = getattr(module, node.attr, None)
                if type(value) is float:
                    return self._wrap(node)
                if module in (np, math) and node.attr in self.functions:
                    return ast.copy_location(ast.Name("_" + node.attr, ast.Load()), node)
        return self.generic_visit(node)

    def visit_Call(self, node):
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "float":
            node.func = ast.copy_location(ast.Name("_real", ast.Load()), node.func)
        return node


def real(definition, namespace, functions=()):
    """Apply rewrites 2 and 3 to the body of a definition; argument names hide globals of the same name.

    A function np.f or math.f whose name is among `functions` becomes _f, which the namespace must hold.
    """
    local = {a.arg for a in definition.args.args}
    visible = {k: v for k, v in namespace.items() if k not in local}
    transformer = _Real(visible, functions)
    definition.body = [transformer.visit(statement) for statement in definition.body]
    return definition


class _Sums(ast.NodeTransformer):
    """Rewrite 4, for variables only: terms added to an array element keep the order of the loops."""

    def visit_AugAssign(self, statement):
        name = statement.target
        if not isinstance(statement.op, ast.Add) or not isinstance(name, ast.Name):
            return statement
        call = ast.Call(ast.Name("_add", ast.Load()), [ast.Name(name.id, ast.Load()), statement.value], [])
        return ast.copy_location(ast.Assign([name], call), statement)


def sums(definition):
    """Apply rewrite 4 to a definition; the namespace must contain ``_add``."""
    return ast.fix_missing_locations(_Sums().visit(definition))


def partition(definition):
    """Apply rewrite 1; return the number of top-level prange loops."""
    found, body = 0, []
    for statement in definition.body:
        if (
            isinstance(statement, ast.For)
            and isinstance(statement.iter, ast.Call)
            and isinstance(statement.iter.func, ast.Name)
            and statement.iter.func.id == "prange"
        ):
            found += 1
            body += _share(statement)
        else:
            body.append(statement)
    definition.body = body
    arguments = definition.args.args
    arguments.extend(ast.copy_location(ast.arg(name), definition) for name in ("_part", "_parts"))
    return found


def _share(loop):
    """Restrict ``for i in prange(n)`` to one part. LLVM must see that i is not negative, or it does not vectorise."""
    n, i = ast.unparse(loop.iter.args[0]), ast.unparse(loop.target)
    text = f"""
_first = max(({n}) * _part // _parts, 0)
for _i in range(({n}) * (_part + 1) // _parts - _first):
    {i} = _first + _i
"""
    first, share = ast.parse(text).body
    for node in (*ast.walk(first), *ast.walk(share)):
        ast.copy_location(node, loop)
    share.body += loop.body
    return [first, share]


def build(definition, name, file, namespace):
    """Compile a definition under `name` and return the Python function."""
    definition.name = name
    module = ast.Module([definition], [])
    ast.fix_missing_locations(module)
    space = dict(namespace)
    exec(compile(module, file, "exec"), space)
    return space[name]
