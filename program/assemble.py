"""Compilation of a program's text: kernels first, then each function of the text, bound to each other by symbol.

Kernels and functions are registered with LLVM under names that contain the hash of everything that decides their code;
their callers compile only a call. So a program compiles in the time of its few lines, and a cached one loads in
milliseconds. For tiny networks (schedule.inline) everything is compiled into one function instead.
"""

import ast
from functools import cache as memoize
from pathlib import Path

import numpy as np
from numba import njit, typeof, types

from ..kernels.compiler.cache import digest
from ..kernels.compiler.constant import ConstantCompiler
from ..kernels.compiler.kernel import (
    COMPILING,
    FLOATS,
    INLINED,
    NO_WRAPPERS,
    compiled,
    external,
    full_name,
    load,
    loaded,
    on_disk,
)
from ..kernels.compiler.part import ObjectCompiler, is_own
from ..kernels.compiler.prepare import Item, Work, helped
from ..kernels.compiler.source import all_called
from ..kernels.operations import Operation
from ..registry.sources import uncollected
from .calls import Var
from .direct import KEY as DIRECT_KEY
from .direct import Arguments, body_of, call_of, entry_symbol
from .fork import KEY as FORK_KEY
from .fork import fork, split
from .function import Function, Parameter
from .graph import Ref
from .slots import KEY as SLOTS_KEY
from .slots import Slot, sizes

UNLOADED = {**NO_WRAPPERS, "pipeline_class": ObjectCompiler}  # never called from Python

KEY = digest(Path(__file__).read_text(encoding="utf-8"))
_assembled: dict = {}  # key of a text -> its functions, which all networks with this text share


@COMPILING
@uncollected()
def assemble(program):
    """Compile a program's text; return its functions by name: predict, and step and epoch with a loss."""
    plan, real = program.plan, program.dtype.type
    inline = plan.shares.inline
    device = _folder(program)
    state = typeof(program.state)
    flats = state.dtypes()

    def kernel_of(binding, signature):  # Numba keeps it for ever, so it must not hold the program
        kernel = _kernel(binding, device)
        if inline:
            return kernel.inlined(signature, real, unreached[binding])
        return kernel.named.get((signature, real)) or kernel.symbol(signature, real, unreached[binding])

    bound, unreached = [(b, b.signature(values, flats, real)) for b, values in _bound(program)], not_reached(program)
    kernels = {} if inline else {binding: _kernel(binding, device) for binding, _ in bound}
    absent = [(kernels[b], s, unreached[b]) for b, s in bound if b in kernels and not kernels[b].stored(s, real)]
    used = {made if isinstance(made, str) else made.py_func.__name__ for made in (kernel_of(*each) for each in bound)}
    key = digest(program.source, *sorted(used), *state.key, inline, KEY, FORK_KEY, SLOTS_KEY, DIRECT_KEY)
    work = Work(_in_order(absent), real)
    with helped(work):
        # The program's functions know kernels by name, so a second process may compile kernels meanwhile.
        made = None
        if key not in _assembled:
            words = {name: b.compiled(kernel_of, real, flats) for name, b in plan.bindings.items()}
            made = _Functions(program, program.namespace(words), state, key)
            functions = made.build()
        while item := work.take():
            item.compile(real)
        work.wait()
    for binding, signature in [] if inline else bound:  # registered before code that calls it is loaded
        kernels[binding].symbol(signature, real, unreached[binding])
    if made:
        made.load()
        _assembled[key] = functions
    return _assembled[key]


def _folder(program):
    return "few" if program.plan.shares.inline else program.device


def _kernel(binding, device):
    return binding.kernel.on(device) if isinstance(binding.kernel, Operation) else binding.kernel


def _in_order(kernels):
    """Return items for kernels, each with its signature and unreached functions, and for what they call, first."""
    items: dict = {}
    for kernel, signature, unreached in kernels:
        needs = tuple(kernel.source.linked(unreached))
        items.setdefault((kernel, signature), Item(kernel, signature, needs, unreached))
        for function in needs:
            items.setdefault(function, Item(function, None, tuple(all_called(function.told()[1]))))
    return sorted(items.values(), key=lambda item: (item.signature is not None, len(item.needs)))


def not_reached(program):
    """Map each binding to the `seldom` functions that its kernel does not reach, from the shapes of its arguments."""
    plan, real, device = program.plan, program.dtype.type, _folder(program)
    block = plan.shares.samples if plan.shares.narrow is None else plan.task.batch_size
    found: dict = dict.fromkeys(plan.bindings.values(), frozenset())
    for call in plan.calls():
        binding = call.binding
        n = block if binding.parts is None else plan.task.batch_size  # the most samples of a call
        values = binding.values([call.values[name] for name in binding.free])
        slots = (plan.slot(v) if isinstance(v, Ref) else v for v in values)
        given = [np.broadcast_to(real(0), sizes(v, binding.form, n)) if isinstance(v, Slot) else v for v in slots]
        found[binding] = _kernel(binding, device).not_reached(given)
    return found


def _bound(program):
    """Yield every binding with sample values of its arguments."""
    plan = program.plan
    real = FLOATS[program.dtype.type]
    flat, whole = types.Array(real, 1, "C"), types.Array(types.int64, 1, "C")
    ins, outs = program.input, program.output
    for call in plan.calls():
        values = [call.values[name] for name in call.binding.names]
        yield (
            call.binding,
            [plan.slot(v) if isinstance(v, Ref) else v.kind() if isinstance(v, Var) else v for v in values],
        )
    if program.loss is not None:
        target = plan.slot(Ref("target", None))
        yield plan.bindings["batch_gather"], [flat, whole, 0, 0, ins]
        yield plan.bindings["batch_gather"], [whole if program.labels else flat, whole, 0, 0, target]
    yield plan.bindings["batch_copy"], [flat, 0, ins]
    yield plan.bindings["batch_put"], [outs, 0, flat]


class _Functions:
    """Compiles the functions of a text in the order in which they call each other."""

    def __init__(self, program, space, state, key):
        self.program, self.plan, self.space, self.state, self.key = program, program.plan, space, state, key
        self._linked = []  # name, function, signature, and the dispatcher if it had to be compiled

    def build(self):
        plan, program = self.plan, self.program
        real, intp, boolean = FLOATS[program.dtype.type], types.intp, types.boolean
        block, whole = (self.state, intp, intp, intp, boolean), (self.state, intp, intp, intp, boolean, intp)
        ins, outs = (("N", *value.shape) for value in (program.network.graph.input, program.network.graph.output))
        x = types.Array(real, len(ins), "C", readonly=True)  # an input may be a memory map
        y = types.Array(real, len(outs), "C")
        order = types.Array(intp, 1, "C", readonly=True)
        for each in plan.passes:
            self.bind(each.name, whole if each.split else block)
        functions = {}
        if program.loss is not None:
            target = order if program.labels else types.Array(real, len(outs), "C", readonly=True)
            wanted = ("N",) if program.labels else outs
            self.inline("chunk_bounds", "cost", "record")
            self.bind("chunk_norm", (self.state, intp, intp))
            self.bind("update_chunk", (self.state, intp, types.float64, intp, types.float64))
            local = dict.fromkeys(("first", "N", "seed", "steps"), intp) | dict.fromkeys(
                ("rate", "clip"), types.float64
            )
            self.fork("train_step", local | {"s": self.state, "x": x, "targets": target, "order": order})
            self.bind("train_step", (self.state, x, target, order, intp, intp), types.float64)
            given = [Parameter("x", x, ins), Parameter("target", target, wanted)]
            direct = self.direct("step", given, types.float64)
            functions["step"] = self.entry("step", given, types.float64, program.batch_size, direct)
            given = [Parameter("x", x, ins), Parameter("targets", target, wanted), Parameter("order", order, ("K",))]
            direct = self.direct("epoch", given, types.float64)
            functions["epoch"] = self.entry("epoch", given, types.float64, direct=direct)
        self.fork("predict_samples", dict.fromkeys(("first", "N", "seed"), intp) | {"s": self.state, "x": x, "y": y})
        given = [Parameter("x", x, ins), Parameter("y", y, outs)]
        functions["predict"] = self.entry("predict", given, direct=self.direct("predict", given))
        return functions

    def named(self, name):
        function = self.space[name]
        function.__name__ = function.__qualname__ = f"{name}_{self.key}"
        return function

    def direct(self, name, given, result=types.none):
        """Return a function that compiles a text's function for direct calls and returns the symbol."""
        program = self.program
        sizes = {field: getattr(program.state, field).size for field in self.state.dtypes()}
        inline = self.plan.shares.inline
        arguments = Arguments(
            name, self.state, sizes, [each.type for each in given], [each.shape[1:] for each in given], inline
        )
        body, space, key = njit(**INLINED)(self.space[f"{name}_samples"]), {}, self.key

        @COMPILING
        @memoize
        def register():
            names = ", ".join(f"a{i}" for i in range(len(arguments.signature)))
            space["body"] = body_of(arguments, body)
            exec(f"def direct({names}):\n    return body({names})", space)
            space["direct"].__name__ = space["direct"].__qualname__ = f"direct_{name}_{key}"
            late = {"pipeline_class": ConstantCompiler} if inline else {}
            dispatcher = compiled(space["direct"], arguments.signature, **NO_WRAPPERS, **late)
            return entry_symbol(dispatcher, arguments.signature)

        self.space[f"{name}_samples"] = call_of(arguments, register, result)
        return register

    def entry(self, name, arrays, result=types.none, largest=None, direct=None):
        """Return a function that is called from outside."""
        shapes = self.program.network.input_shape, self.program.network.output_shape
        parameters = [Parameter("state", self.state), *arrays]
        return Function(name, self.named(name), parameters, result, self.program.layout, *shapes, largest, direct)

    def bind(self, name, signature, result=types.none):
        """Link a function, or inline it in a tiny network."""
        if self.plan.shares.inline:
            self.inline(name)
        else:
            self.link(name, signature, result)

    def link(self, name, signature, result=types.none):
        """Compile a function, if it is not on disk, and put the call of its symbol in its place; return the symbol."""
        function = self.named(name)
        label, own = function.__name__, is_own(function)
        linked = full_name(label, own, **UNLOADED)
        made = None if on_disk(label, own, **UNLOADED) else compiled(function, signature, **UNLOADED)
        self._linked.append((label, function, signature, made))
        self.space[name] = external(linked, signature, result)
        return linked

    def load(self):
        """Load the linked functions; kernels are there now."""
        for label, function, signature, made in self._linked:
            if made is None and loaded(label, signature, is_own(function), **UNLOADED):
                continue
            load(made or compiled(function, signature, **UNLOADED), signature)

    def fork(self, name, variables):
        """Take the parallel loops out of a function with local variables of the given types."""
        function, tasks = split(self.program.source, name, set(variables))
        file = self.space[name].__code__.co_filename
        exec(compile(ast.Module([*tasks, function], []), file, "exec"), self.space)
        for k, task in enumerate(tasks):
            signature = (types.intp, *(variables[argument.arg] for argument in task.args.args[1:]))
            self.space[f"{name}_fork_{k}"] = fork(self.link(task.name, signature), signature)

    def inline(self, *names):
        for name in names:
            self.space[name] = njit(**INLINED)(self.space[name])
