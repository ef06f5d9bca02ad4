"""Parallel loops of a program's text, without a run of Numba's parallel compiler for every program.

``for p in prange(BLOCKS): ...`` becomes a task, a function of p compiled like any other, and a call that runs the task
for every p on Numba's threads. What runs tasks is one function for all programs, compiled once.
"""

import ast
import inspect
import sys

from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from ..kernels.cache import digest
from ..kernels.compiler import call_symbol, compiled, symbol

KEY = digest(inspect.getsource(sys.modules[__name__]))


def split(text, name, known):
    """A function of a program's text with its parallel loops taken out.

    Parameters
    ----------
    text : str
        The program's text.
    name : str
        The function.
    known : set of str
        Its local variables that a loop may read.

    Returns
    -------
    function : ast.FunctionDef
        Loop k is a call ``{name}_fork_{k}(count, *variables)`` in it.
    tasks : list of ast.FunctionDef
        ``{name}_task_{k}(p, *variables)``.
    """
    found = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == name]
    loops = _Loops(name, known)
    return loops.visit(found[0]), loops.tasks


class _Loops(ast.NodeTransformer):
    def __init__(self, name, known):
        self.name, self.known, self.tasks = name, known, []

    def visit_For(self, loop):
        if not (isinstance(loop.iter, ast.Call) and ast.unparse(loop.iter.func) == "prange"):
            return self.generic_visit(loop)
        read = {node.id for part in loop.body for node in ast.walk(part) if isinstance(node, ast.Name)}
        names, k = sorted(read & self.known), len(self.tasks)
        heading = f"def {self.name}_task_{k}({', '.join([loop.target.id, *names])}):\n    pass"
        task = ast.copy_location(ast.parse(heading).body[0], loop)
        task.body = loop.body
        self.tasks.append(ast.fix_missing_locations(task))
        count = ast.unparse(loop.iter.args[0])
        call = ast.parse(f"{self.name}_fork_{k}({', '.join([count, *names])})").body[0]
        return ast.fix_missing_locations(ast.copy_location(call, loop))


def fork(task, signature):
    """An intrinsic ``(count, *arguments)``: the registered code `task` with p = 0 .. count - 1 before the arguments."""
    runner = _runner()

    def generate(context, builder, sig, values):
        count, *values = values
        room = cgutils.alloca_once(builder, ir.LiteralStructType([value.type for value in values]))
        for i, value in enumerate(values):
            builder.store(value, cgutils.gep_inbounds(builder, room, 0, i))
        address = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [address, ir.IntType(64)])
        one = ir.Function(builder.module, kind, f"{task}.one")  # the task for one p, its other arguments from memory
        one.linkage = "internal"
        inside = ir.IRBuilder(one.append_basic_block())
        memory = inside.bitcast(one.args[0], room.type)
        loaded = [inside.load(cgutils.gep_inbounds(inside, memory, 0, i)) for i in range(len(values))]
        call_symbol(context, inside, task, signature, [one.args[1], *loaded])
        inside.ret_void()
        numbers = [count, *(builder.ptrtoint(pointer, ir.IntType(64)) for pointer in (one, room))]
        call_symbol(context, builder, runner, (types.intp,) * 3, numbers)
        return context.get_dummy_value()

    names = ", ".join(f"a{i}" for i in range(len(signature)))
    space = {"result": (types.none(*signature), generate)}
    exec(f"def call(typing, {names}):\n    return result", space)
    return intrinsic(space["call"])


@intrinsic
def _call(typing, address, data, i):
    """The function at an address, of a pointer and a number."""

    def generate(context, builder, sig, values):
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, ir.IntType(64)])
        function = builder.inttoptr(values[0], kind.as_pointer())
        builder.call(function, [builder.inttoptr(values[1], pointer), values[2]])
        return context.get_dummy_value()

    return types.none(types.intp, types.intp, types.intp), generate


def _runner():
    """The symbol of the function that runs tasks on Numba's threads."""

    def run(count, address, data):
        for i in prange(count):
            _call(address, data, i)

    run.__name__ = run.__qualname__ = f"fork_{KEY}"
    signature = (types.intp,) * 3
    wrappers = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return symbol(compiled(run, signature, parallel=True, **wrappers), signature)
