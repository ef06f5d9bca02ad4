"""Parallel loops of a program's text, without a run of Numba's parallel compiler for every program.

``for p in prange(BLOCKS): ...`` becomes a task, a function of p compiled like any other, and a call that runs the task
for every p on Numba's threads. One function runs the tasks of all programs; it is compiled once, and compiled code
finds its address in a word of memory. In a process made by fork, which lacks the threads of its parent, that word is 0,
and a task runs for one p after the other. The blocks are the same, and so are the bits. A loop of one p, such as that
of a single sample in a program for large batches, wakes no thread.

Numba's threading layer "workqueue" aborts the process when a second parallel loop begins before the first one has
ended. With it a loop uses threads only if it is called from a Python thread (Numba's workers are not) while no other
loop of nnjit uses them; else it runs for one p after the other.
"""

import ast
import ctypes
import os
from pathlib import Path

import llvmlite.binding as llvm
from llvmlite import ir
from numba import prange, threading_layer, types
from numba.core import cgutils
from numba.extending import intrinsic

from ..kernels.compiler.cache import digest
from ..kernels.compiler.machine_code import compiled, symbol
from ..kernels.compiler.options import NO_WRAPPERS
from ..kernels.compiler.symbols import call_symbol, external, intrinsic_of

KEY = digest(Path(__file__).read_text(encoding="utf-8"))

RUNNER, LAUNCHING = "nnjit.fork_runner", "nnjit.fork_launching"
# The address of the function that runs tasks on threads, or 0; 1 while a loop uses the threads (workqueue only).
_words = {name: ctypes.c_int64(0) for name in (RUNNER, LAUNCHING)}
for _name, _word in _words.items():
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_word))  # threads may still read it while the interpreter ends
    llvm.add_symbol(_name, ctypes.addressof(_word))
llvm.add_symbol(
    "nnjit.thread_state", ctypes.cast(ctypes.pythonapi.PyGILState_GetThisThreadState, ctypes.c_void_p).value
)
_forked = False  # whether this process was made by fork


def _after_fork():
    global _forked
    _forked = True
    _words[RUNNER].value = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def split(text, name, known):
    """Take the parallel loops out of a function of a program's text.

    Parameters
    ----------
    text : str
        The program's text.
    name : str
        The name of the function.
    known : set of str
        The local variables that a loop may read.

    Returns
    -------
    function : ast.FunctionDef
        Its loop k is a call ``{name}_fork_{k}(count, *variables)``.
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
    """Return an intrinsic ``(count, *arguments)`` that runs the registered code `task` for p = 0 .. count - 1.

    p is the task's first argument.
    """
    _start_threads()

    def generate(context, builder, sig, values):
        count, *values = values
        packed = cgutils.alloca_once(builder, ir.LiteralStructType([value.type for value in values]))
        for i, value in enumerate(values):
            builder.store(value, cgutils.gep_inbounds(builder, packed, 0, i))
        address = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [address, ir.IntType(64)])
        one = ir.Function(builder.module, kind, f"{task}.one")  # the task for one p, its other arguments from memory
        one.linkage = "internal"
        inside = ir.IRBuilder(one.append_basic_block())
        memory = inside.bitcast(one.args[0], packed.type)
        loaded = [inside.load(cgutils.gep_inbounds(inside, memory, 0, i)) for i in range(len(values))]
        call_symbol(context, inside, task, signature, [one.args[1], *loaded])
        inside.ret_void()
        runner = builder.load(_word_in(builder, RUNNER))
        alone = builder.icmp_signed("<=", count, ir.Constant(count.type, 1))  # a few samples, one block
        with builder.if_else(builder.or_(alone, cgutils.is_null(builder, runner))) as (serial, parallel):
            with serial, cgutils.for_range(builder, count) as loop:
                builder.call(one, [builder.bitcast(packed, address), loop.index])
            with parallel:
                kind = context.call_conv.get_function_type(types.none, (types.intp,) * 3)
                places = [cgutils.alloca_once(builder, argument.pointee) for argument in kind.args[:2]]
                numbers = [count, *(builder.ptrtoint(pointer, ir.IntType(64)) for pointer in (one, packed))]
                builder.call(builder.inttoptr(runner, kind.as_pointer()), [*places, *numbers])
        return context.get_dummy_value()

    sig = types.none(*signature)
    return intrinsic_of([f"a{i}" for i in range(len(signature))], lambda typing, given: (sig, generate))


def _word_in(builder, name):
    """Return a pointer to one of `_words`."""
    return builder.module.globals.get(name) or ir.GlobalVariable(builder.module, ir.IntType(64), name)


@intrinsic
def _call(typing, address, data, i):
    """Call the function at an address with a pointer and a number."""

    def generate(context, builder, sig, values):
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, ir.IntType(64)])
        function = builder.inttoptr(values[0], kind.as_pointer())
        builder.call(function, [builder.inttoptr(values[1], pointer), values[2]])
        return context.get_dummy_value()

    return types.none(types.intp, types.intp, types.intp), generate


@intrinsic
def _in_python_thread(typing):
    """Tell whether Python started this thread; Numba's workers are not Python threads."""

    def generate(context, builder, sig, values):
        kind = ir.FunctionType(ir.IntType(8).as_pointer(), [])
        state = builder.call(cgutils.get_or_insert_function(builder.module, kind, "nnjit.thread_state"), [])
        return cgutils.is_not_null(builder, state)

    return types.boolean(), generate


@intrinsic
def _begin(typing):
    """Take the threads for a loop; return False if another loop uses them."""

    def generate(context, builder, sig, values):
        number = ir.IntType(64)
        pair = builder.cmpxchg(_word_in(builder, LAUNCHING), number(0), number(1), "acq_rel", "acquire")
        return builder.extract_value(pair, 1)

    return types.boolean(), generate


@intrinsic
def _end(typing):
    def generate(context, builder, sig, values):
        builder.store_atomic(ir.IntType(64)(0), _word_in(builder, LAUNCHING), "release", 8)
        return context.get_dummy_value()

    return types.none(), generate


def _start_threads():
    """Compile the function that runs tasks on Numba's threads, unless this process was made by fork."""
    if _forked or _words[RUNNER].value:
        return

    def on_threads(count, address, data):
        for i in prange(count):
            _call(address, data, i)

    def one_loop_at_once(count, address, data):
        if _in_python_thread() and _begin():
            run(count, address, data)
            _end()
        else:
            for i in range(count):
                _call(address, data, i)

    function = _registered(on_threads, parallel=True)
    if threading_layer() == "workqueue":
        run = external(function, (types.intp,) * 3)
        function = _registered(one_loop_at_once)
    _words[RUNNER].value = llvm.address_of_symbol(function)


def _registered(function, **options):
    function.__name__ = function.__qualname__ = f"fork_{function.__name__}_{KEY}"
    signature = (types.intp,) * 3
    return symbol(compiled(function, signature, **NO_WRAPPERS, **options), signature)
