"""The functions of a text, compiled in the order in which they call each other."""

import ast
from functools import cache as memoize
from functools import partial
from math import prod
from pathlib import Path

from numba import njit, types

from ..kernels.compiler.cache import digest
from ..kernels.compiler.constant import ConstantCompiler
from ..kernels.compiler.lock import COMPILING
from ..kernels.compiler.machine_code import compiled, full_name, load, loaded, on_disk
from ..kernels.compiler.options import FLOATS, INLINED, NO_WRAPPERS
from ..kernels.compiler.part import ObjectCompiler, is_own
from ..kernels.compiler.symbols import external
from .c_functions import NAMES, CFunction
from .direct import KEY as DIRECT_KEY
from .direct import Arguments, body_of, call_of, entry_symbol
from .fork import KEY as FORK_KEY
from .fork import fork, split
from .function import Function
from .function_type import Parameter
from .overlap import IN_CODE
from .overlap import KEY as OVERLAP_KEY

UNLOADED = {**NO_WRAPPERS, "pipeline_class": ObjectCompiler}  # never called from Python

KEY = digest(Path(__file__).read_text(encoding="utf-8"), FORK_KEY, DIRECT_KEY, OVERLAP_KEY)


class Parameters:
    """The arguments of a text's functions, by their roles (see `Parameter`).

    Parameters
    ----------
    task : Task
    real : Numba type
        The type of the numbers.
    """

    def __init__(self, task, real):
        x, y = task.graph.input.shape, task.graph.output.shape
        self.labels = task.labels
        self.shapes = {"input": ("N", *x), "output": ("N", *y), "jacobian": ("N", prod(y), prod(x)), "labels": ("N",)}
        self.shapes |= {"weight": ("N",), "order": ("K",)}
        self.weighted = task.weighted
        self._real = real
        self.x = self.read("x", "input")

    def read(self, name, role):
        """Return an array that is only read; it may be a memory map."""
        dtype = types.intp if role in ("labels", "order") else self._real
        kind = types.Array(dtype, len(self.shapes[role]), "C", readonly=True)
        return Parameter(name, kind, self.shapes[role], role)

    def written(self, name, role):
        """Return an array for results."""
        kind = types.Array(self._real, len(self.shapes[role]), "C")
        return Parameter(name, kind, self.shapes[role], role, output=True)

    def samples(self, target, weight, *between):
        """Return the arrays of a training: x, the target, those `between`, and the weights if samples have them."""
        more = [self.read(weight, "weight")] if self.weighted else []
        return [self.x, self.target(target), *between, *more]

    def target(self, name):
        """Return the array of targets: labels, or values like the output."""
        return self.read(name, "labels" if self.labels else "output")


class Functions:
    """Compiles the functions of a text.

    Parameters
    ----------
    code : Code
    space : dict
        The names of the text; a compiled function takes the place of the text's.
    state : StateType
    key : str
        The end of the functions' names in the cache.
    """

    def __init__(self, code, space, state, key):
        self.code, self.plan, self.task = code, code.plan, code.task
        self.space, self.state, self.key = space, state, key
        space.update(IN_CODE)
        self.of = Parameters(self.task, FLOATS[code.dtype.type])
        self._to_load: list = []  # name, function, signature, and the dispatcher if it had to be compiled

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
        trained = {}
        if self.task.loss is not None:
            trained = self._shards() if self.task.ranks > 1 else self._training()
        return trained | self._prediction()

    def _shards(self):
        intp = types.intp
        if "add_chunk" in self.space:
            self.bind("add_chunk", (self.state, intp))
        self._step("shard_samples", dict.fromkeys(("N0", "N1", "section"), intp), types.none, (intp,) * 5)
        self.fork("shard_step", {"s": self.state, "rate": types.float64, "clip": types.float64}
                  | dict.fromkeys(("N", "steps"), intp))  # fmt: skip
        self.bind("shard_step", (self.state, intp), types.float64)
        numbers = [Parameter(name, intp, None, "number") for name in ("first", "N0", "N1", "N", "section")]
        given = self.of.samples("targets", "weights", self.of.read("order", "order"), *numbers)
        return {
            "shard_gradient": self.entry("shard_gradient", given),
            "shard_update": self.entry("shard_update", numbers[3:4], types.float64),
        }

    def _training(self):
        self._step("train_step", {"rate": types.float64, "clip": types.float64})
        step = self.of.samples("target", "weight")
        epoch = self.of.samples("targets", "weights", self.of.read("order", "order"))
        return {
            "step": self._trains("step", step, self.task.batch_size),
            "epoch": self._trains("epoch", epoch),
        }

    def _trains(self, name, given, largest=None):
        """Return step or epoch; those of weighted samples, which are seldom called alone, have no direct calls."""
        direct = None
        if self.task.weighted:
            self.inline(f"{name}_samples")
        else:
            direct = self.direct(name, given, types.float64)
        return self.entry(name, given, types.float64, largest, direct)

    def _step(self, name, more, result=types.float64, numbers=(types.intp, types.intp)):
        """Bind the function that runs both passes on samples by their numbers."""
        intp, order, target = types.intp, self.of.read("order", "order").type, self.of.target("targets").type
        weights = self.of.read("weights", "weight").type
        local = dict.fromkeys(("first", "N", "seed", "steps"), intp) | more
        local |= {"s": self.state, "x": self.of.x.type, "targets": target, "order": order}
        self.fork(name, local | ({"weights": weights} if self.task.weighted else {}))
        given = (self.state, self.of.x.type, target, order, *numbers)
        self.bind(name, (*given, weights) if self.task.weighted else given, result)

    def _prediction(self):
        given = [self.of.x, self.of.written("y", "output")]
        self._samples("predict", given)
        return {"predict": self.entry("predict", given, direct=self.direct("predict", given))}

    def _gradient(self):
        self._step("mean_loss", {})
        self.inline("gradient_samples")
        self.bind("scale_chunk", (self.state, types.intp, types.float64))
        self.bind("update_samples", (self.state, types.float64), types.float64)
        given = self.of.samples("target", "weight")
        scale = Parameter("scale", types.float64, None, "number")
        return {
            "gradient": self.entry("gradient", given, types.float64, self.task.batch_size, text="loss_gradient"),
            "update": self.entry("update", [scale], types.float64, text="update_theta"),
        }

    def _vjp(self):
        ends = [self.of.written("y", "output"), self.of.written("dx", "input")]
        given = [self.of.x, self.of.read("dy", "output"), *ends, Parameter("training", types.boolean, None, "flag")]
        if self.plan.accumulate:
            self.bind("add_gradient", (self.state, types.intp))
        self.inline("clear_samples")
        self._linked("vjp", given)
        return {"vjp": self.entry("vjp", given), "clear": self.entry("clear", [])}

    def _jvp(self):
        ends = [self.of.written("y", "output"), self.of.written("dy", "output")]
        given = [self.of.x, self.of.read("dx", "input"), *ends]
        self._linked("jvp", given)
        return {"jvp": self.entry("jvp", given)}

    def _rows(self):
        given = [self.of.x, self.of.written("y", "output"), self.of.written("J", "jacobian")]
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
        parameters = [Parameter("state", self.state), *given]
        x, y = (self.of.shapes[role][1:] for role in ("input", "output"))
        function = self.named(text or name)
        in_c = partial(CFunction, space=self.space, key=self.key) if name in NAMES else None
        return Function(name, function, parameters, result, self.code.layout, x, y, largest, direct, in_c)

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
        self._to_load.append((label, function, signature, made))
        self.space[name] = external(linked, signature, result)
        return linked

    def load(self):
        """Load the linked functions; kernels are there now."""
        for label, function, signature, made in self._to_load:
            if made is None and loaded(label, signature, is_own(function), **UNLOADED):
                continue
            load(made or compiled(function, signature, **UNLOADED), signature)

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
