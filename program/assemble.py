"""Compilation of a program's text: kernels first, then each function of the text, bound to each other by symbol.

Kernels and functions are registered with LLVM under names that contain the hash of everything that decides their code;
their callers compile only a call. So a program compiles in the time of its few lines, and a cached one loads in
milliseconds. For tiny networks (schedule.inline) everything is compiled into one function instead.
"""

import ast
from functools import cache as memoize
from math import prod
from pathlib import Path

from numba import njit, types

from ..kernels.compiler.cache import digest
from ..kernels.compiler.constant import ConstantCompiler
from ..kernels.compiler.kernel import COMPILING, FLOATS, INLINED, NO_WRAPPERS, compiled, external, symbol
from ..kernels.compiler.prepare import Item, Work, helped
from ..kernels.compiler.source import Source
from ..kernels.operations import Operation
from ..registry.sources import uncollected
from .calls import Var
from .direct import KEY as DIRECT_KEY
from .direct import Arguments, body_of, call_of, entry_symbol
from .fork import KEY as FORK_KEY
from .fork import fork, split
from .function import Function
from .function_type import Parameter
from .graph import Ref
from .plan import samples
from .slots import KEY as SLOTS_KEY
from .state import StateType

KEY = digest(Path(__file__).read_text(encoding="utf-8"))
_assembled: dict = {}  # key of a text -> its functions, which all networks with this text share


@COMPILING
@uncollected()
def assemble(code):
    """Compile a text; return its functions by name."""
    plan, real = code.plan, code.dtype.type
    inline = plan.shares.inline
    device = "few" if inline else code.device
    state = StateType(FLOATS[real])
    flats = state.dtypes()
    used = []

    def kernel_of(binding, signature):  # Numba keeps it for ever, so it must not hold the program
        kernel = _kernel(binding, device)
        if inline:
            dispatcher = kernel.inlined(signature, real)
            used.append(dispatcher.py_func.__name__)
            return dispatcher
        name = kernel.symbol(signature, real)
        used.append(name)
        return name

    # A kernel must be registered before code that calls it is loaded; first those that need no others.
    bound = [(binding, binding.signature(values, flats, real)) for binding, values in _bound(code)]
    kernels = {binding: _kernel(binding, device) for binding, _ in bound}
    if not inline:
        absent = dict.fromkeys((kernels[b], s) for b, s in bound if not kernels[b].stored(s, real))
        work = Work(_in_order(absent), real)
        with helped(work):
            while item := work.take():
                item.compile(real)
            work.wait()
    for binding, signature in bound:
        kernel_of(binding, signature)
    key = digest(code.source, code.layout, *sorted(set(used)), *state.key, inline, KEY, FORK_KEY, SLOTS_KEY, DIRECT_KEY)
    if key not in _assembled:
        words = {name: b.compiled(kernel_of, real, flats) for name, b in plan.bindings.items()}
        space = code.namespace(words)
        _assembled[key] = _Functions(code, space, state, key).build()
    return _assembled[key]


def _kernel(binding, device):
    return binding.kernel.on(device) if isinstance(binding.kernel, Operation) else binding.kernel


def _in_order(kernels):
    """Return items for all these kernels, pairs with a signature, and for what they call, which comes first."""
    linked = {kernel: tuple(kernel.source.linked()) for kernel, _ in kernels}
    needs = {function: tuple(Source(function).linked()) for functions in linked.values() for function in functions}
    items = [Item(function, None, inner) for function, inner in needs.items()]
    items += [Item(kernel, signature, linked[kernel]) for kernel, signature in kernels]
    return sorted(items, key=lambda item: (item.signature is not None, len(item.needs)))


def _bound(code):
    """Yield every binding with sample values of its arguments."""
    plan, labels = code.plan, code.task.labels
    flat, whole = types.Array(FLOATS[code.dtype.type], 1, "C"), types.Array(types.int64, 1, "C")
    for call in plan.calls():
        values = [call.values[name] for name in call.binding.names]
        yield (
            call.binding,
            [plan.slot(v) if isinstance(v, Ref) else v.kind() if isinstance(v, Var) else v for v in values],
        )
    for name, ref in samples(code.task):
        slot, source = plan.slot(ref), whole if ref.kind == "target" and labels else flat
        given = {"batch": slot, "source": source, "order": whole, "target": flat}
        binding = plan.bindings[name]
        yield binding, [given.get(argument, 0) for argument in binding.names]


class _Functions:
    """Compiles the functions of a text in the order in which they call each other."""

    def __init__(self, code, space, state, key):
        self.code, self.plan, self.task, self.space, self.state, self.key = (
            code,
            code.plan,
            code.task,
            space,
            state,
            key,
        )
        graph, real, intp = self.task.graph, FLOATS[code.dtype.type], types.intp
        self.input_shape, self.output_shape = graph.input.shape, graph.output.shape
        ins, outs, sizes = (
            len(self.input_shape) + 1,
            len(self.output_shape) + 1,
            types.Array(intp, 1, "C", readonly=True),
        )
        # What is only read may be a memory map.
        given = {name: types.Array(real, rank, "C", readonly=True) for name, rank in (("input", ins), ("output", outs))}
        made = {
            name: types.Array(real, rank, "C") for name, rank in (("input", ins), ("output", outs), ("jacobian", 3))
        }
        target = sizes if self.task.labels else given["output"]
        shapes = {
            "input": ("N", *self.input_shape), "output": ("N", *self.output_shape), "labels": ("N",), "order": ("K",),
            "jacobian": ("N", prod(self.output_shape), prod(self.input_shape)),
        }  # fmt: skip
        kinds = {"order": sizes, "labels": sizes, **given}
        self.given = lambda name, role: Parameter(name, kinds[role], shapes[role], role)
        self.made = lambda name, role: Parameter(name, made[role], shapes[role], role, output=True)
        self.target = lambda name: self.given(name, "labels" if self.task.labels else "output")
        self.x, self.target_type = self.given("x", "input"), target

    def build(self):
        """Return the functions by name."""
        intp, boolean = types.intp, types.boolean
        block, whole = (self.state, intp, intp, intp, boolean), (self.state, intp, intp, intp, boolean, intp)
        for each in self.plan.passes:
            self.bind(each.name, whole if each.split else block)
        if self.task.loss is not None:
            self.inline("chunk_bounds", "cost", "record")
            self.bind("chunk_norm", (self.state, intp, intp))
            self.bind("update_chunk", (self.state, intp, types.float64, intp, types.float64))
        if self.task.derivative:
            return getattr(self, f"_{self.task.derivative}")()
        trained = self._training() if self.task.loss is not None else {}
        return trained | self._prediction()

    def _training(self):
        self._step("train_step", {"rate": types.float64, "clip": types.float64})
        given = [self.x, self.target("target")]
        step = self.entry("step", given, types.float64, self.task.batch_size, self.direct("step", given, types.float64))
        given = [self.x, self.target("targets"), self.given("order", "order")]
        return {
            "step": step,
            "epoch": self.entry("epoch", given, types.float64, direct=self.direct("epoch", given, types.float64)),
        }

    def _step(self, name, more):
        """Bind the function that runs both passes on samples by their numbers."""
        intp, order = types.intp, self.given("order", "order").type
        local = dict.fromkeys(("first", "N", "seed", "steps"), intp) | more
        local |= {"s": self.state, "x": self.x.type, "targets": self.target_type, "order": order}
        self.fork(name, local)
        self.bind(name, (self.state, self.x.type, self.target_type, order, intp, intp), types.float64)

    def _prediction(self):
        given = [self.x, self.made("y", "output")]
        self._samples("predict", given)
        return {"predict": self.entry("predict", given, direct=self.direct("predict", given))}

    def _gradient(self):
        self._step("mean_loss", {})
        self.inline("gradient_samples")
        self.bind("scale_chunk", (self.state, types.intp, types.float64))
        self.bind("update_samples", (self.state, types.float64), types.float64)
        scale = Parameter("scale", types.float64, None, "number")
        return {
            "gradient": self.entry(
                "gradient", [self.x, self.target("target")], types.float64, self.task.batch_size, text="loss_gradient"
            ),
            "update": self.entry("update", [scale], types.float64, text="update_theta"),
        }

    def _vjp(self):
        given = [self.x, self.given("dy", "output"), self.made("y", "output"), self.made("dx", "input")]
        given.append(Parameter("training", types.boolean, None, "flag"))
        if self.plan.accumulate:
            self.bind("add_gradient", (self.state,))
        self._linked("vjp", given)
        return {"vjp": self.entry("vjp", given), "clear": self.entry("clear", [])}

    def _jvp(self):
        given = [self.x, self.given("dx", "input"), self.made("y", "output"), self.made("dy", "output")]
        self._linked("jvp", given)
        return {"jvp": self.entry("jvp", given)}

    def _rows(self):
        given = [self.x, self.made("y", "output"), self.made("J", "jacobian")]
        self._linked("jacobian", given)
        return {"jacobian": self.entry("jacobian", given)}

    _columns = _rows

    def _samples(self, name, given):
        """Take the parallel loops out of the function that runs on arrays which fit."""
        local = dict.fromkeys(("first", "n", "N", "seed", "steps"), types.intp)
        self.fork(f"{name}_samples", local | {"s": self.state} | {each.name: each.type for each in given})

    def _linked(self, name, given):
        self._samples(name, given)
        self.bind(f"{name}_samples", (self.state, *(each.type for each in given)))

    def named(self, name):
        function = self.space[name]
        function.__name__ = function.__qualname__ = f"{name}_{self.key}"
        return function

    def direct(self, name, given, result=types.none):
        """Return a function that compiles a text's function for direct calls and returns the symbol."""
        inline = self.plan.shares.inline
        arguments = Arguments(
            name, self.state, self.code.sizes, [each.type for each in given], [each.shape[1:] for each in given], inline
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

    def entry(self, name, given, result=types.none, largest=None, direct=None, text=None):
        """Return a function that is called from outside; `text` is its name in the text, if that is another."""
        parameters, shapes = [Parameter("state", self.state), *given], (self.input_shape, self.output_shape)
        function = self.named(text or name)
        return Function(name, function, parameters, result, self.code.layout, *shapes, largest, direct)

    def bind(self, name, signature, result=types.none):
        """Link a function, or inline it in a tiny network."""
        if self.plan.shares.inline:
            self.inline(name)
        else:
            self.link(name, signature, result)

    def link(self, name, signature, result=types.none):
        """Compile a function and put the call of its symbol in its place; return the symbol."""
        # It is never called from Python, so it needs no wrappers.
        linked = symbol(compiled(self.named(name), signature, **NO_WRAPPERS), signature)
        self.space[name] = external(linked, signature, result)
        return linked

    def fork(self, name, variables):
        """Take the parallel loops out of a function with local variables of the given types."""
        function, tasks = split(self.code.source, name, set(variables))
        file = self.space[name].__code__.co_filename
        exec(compile(ast.Module([*tasks, function], []), file, "exec"), self.space)
        for k, task in enumerate(tasks):
            signature = (types.intp, *(variables[argument.arg] for argument in task.args.args[1:]))
            self.space[f"{name}_fork_{k}"] = fork(self.link(task.name, signature), signature)

    def inline(self, *names):
        for name in names:
            self.space[name] = njit(**INLINED)(self.space[name])
