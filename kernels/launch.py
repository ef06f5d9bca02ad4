"""How a kernel runs on CUDA: the same source, compiled for the threads of a grid, and bound once to its arrays.

A `Kernel` (compiler.py) is a loop whose iterations are independent. On CUDA ``for i in prange(n)`` becomes a
grid-stride loop: thread t of T does i = t, t + T, t + 2 T, ... What a loop cannot say (sums over a block of threads,
tiles in shared memory) is written for the threads of a block and marked `block_kernel`; the twin in kernels/cuda is
then a `launcher`: a function that takes the arrays and returns the launches, each a grid for one such kernel.

A formula that reads what the kernel before has made is applied where that stores it (`fused`): the store's statement is
rewritten, so the number need not go through memory.

Three more rewrites of the syntax tree: floats take the type of the arrays (source.py), NumPy's scalar functions become
those of the CUDA maths library, and a number that changes from step to step (`Now`) is read from the device's memory,
so that a launch which is bound to its arrays never has to be bound again.

Nothing is compiled when this file is imported, and nothing here needs a GPU before something is launched.
"""

import ast
import inspect
import math
import re
import sys
import threading
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache as memoize
from functools import cached_property

import numpy as np
from numba import config, cuda
from numba.core.registry import CPUDispatcher

from . import source
from .elementwise import Formula
from .vector import load4, store4

SIMULATED = bool(getattr(config, "ENABLE_CUDASIM", False))
THREADS = 4 if SIMULATED else 256  # of a block; the simulator starts a thread of the system for each
GRID = 2 if SIMULATED else 1024  # blocks, at most, of a grid-stride loop
INLINED = {} if SIMULATED else {"forceinline": True}
real = None  # in a block kernel: the floating-point type of the arrays
# NumPy's scalar functions that CUDA has under the same name in math; there they keep float32.
MATH = {"exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh"}
MATH |= {"floor", "ceil", "isnan", "isinf", "isfinite"}
SHAPE = {"shape", "size", "ndim", "dtype"}  # of an array: what can be asked without reading it
PRECISION = ContextVar("precision", default="float32")  # of products: float32, or what a form of tensor.py rounds to


@contextmanager
def precision(name):
    """Within, launches of products are made for this precision."""
    token = PRECISION.set(name)
    try:
        yield
    finally:
        PRECISION.reset(token)


@dataclass(frozen=True)
class Now:
    """A number that a kernel reads from the device when it runs.

    Parameters
    ----------
    text : str
        An expression over the flat arrays ``_counters``, ``_rates`` and ``_log`` of the program's state.
    kind : int or float
    """

    text: str
    kind: type = int

    def __add__(self, number):
        return Now(f"({self.text}) + {number}", self.kind)


@dataclass(eq=False)
class Launch:
    """One CUDA kernel with its grid and its arguments.

    `completes` has a pair (array, again) for every array whose numbers it leaves final and could apply a formula to;
    ``again(finish, kept, out, x, y)`` is the launch that does (see `fused`).
    """

    kernel: object
    grid: tuple
    threads: int
    arguments: tuple
    completes: tuple = ()

    def on(self, stream=0):
        """What is called with the arguments to launch it."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Grid size")  # Numba would have all grids large
            return self.kernel[self.grid, self.threads, stream]

    def __call__(self, stream=0):
        self.on(stream)(*self.arguments)


class Launcher:
    """A twin in kernels/cuda that says itself which kernels run on which grid; called on arrays it runs them."""

    form = None

    def __init__(self, function):
        self.function, self.__name__, self.__doc__ = function, function.__name__, function.__doc__
        self.__wrapped__ = function
        self.arguments = tuple(inspect.signature(function).parameters)

    def __repr__(self):
        return f"<launcher {self.function.__module__}.{self.__name__}({', '.join(self.arguments)})>"

    def __call__(self, *arguments):
        run(self, *arguments)


def launcher(function):
    """Decorator: a function from arrays and numbers to a list of `Launch`."""
    return Launcher(function)


def launches(kernel, arguments, flats=(), guarded=False):
    """The launches of a kernel on arguments.

    Parameters
    ----------
    kernel : Kernel or Launcher
    arguments : sequence
        Arrays (all of one floating-point type), numbers, tuples of whole numbers; `Now` where a kernel reads a number
        itself (loops only).
    flats : sequence of arrays
        The counters, rates and log that `Now` refers to.
    guarded : bool
        A loop that does nothing while the stop flag, the fourth of the counters, is set.
    """
    if isinstance(kernel, Launcher):
        return [launch for launch in kernel.function(*arguments) if launch is not None]
    real = real_of(arguments)
    now = tuple((name, value) for name, value in zip(kernel.arguments, arguments, strict=True) if type(value) is Now)
    count = _extent(kernel, real)(*map(_sample, arguments))
    if count == 0:
        return []
    given = [_number(value, real) for value in arguments if type(value) is not Now]
    read = flats if now or guarded else ()

    def made(end=None, *more):
        aligned = all(address(a) % 16 == 0 for a in (*arguments, *more) if getattr(a, "ndim", 0))
        fours = isinstance(kernel, Formula) and aligned
        code = _loop(kernel, real, now, guarded, fours, end)
        return Launch(code, (blocks(-(-count // 4) if fours else count),), THREADS, (*given, *more, *read))

    if guarded:
        return [made()]
    return [_completing(made, _stored(kernel, real), dict(zip(kernel.arguments, arguments, strict=True)))]


def blocks(count):
    """How many blocks of a grid-stride loop of so many iterations."""
    return min(GRID, -(-count // THREADS))


def launch(kernel, grid, threads, *arguments):
    """A `Launch` of a block kernel; None for an empty grid."""
    grid = grid if isinstance(grid, tuple) else (grid,)
    if not min(grid):
        return None
    real = real_of(arguments)
    given = tuple(_number(a, real) for a in arguments)

    def made(end=None, *more):
        return Launch(kernel.on(real, end), grid, threads, (*given, *more))

    return _completing(made, kernel.stored, dict(zip(kernel.arguments, arguments, strict=True)))


def completing(make, array):
    """The launch that `make` makes, which completes an array and can be made again with a formula; see `Launch`."""
    made = make()
    made.completes = ((array, make),)
    return made


def _completing(make, names, arguments):
    """The launch that ``make()`` makes, which completes the arguments of some names by statements of its own."""

    def ending(name, array):
        def again(finish, kept, *arrays):
            return make(End(name, finish, kept), *(each.reshape(array.shape) for each in arrays))

        return array, again

    made = make()
    made.completes = tuple(ending(name, arguments[name]) for name in names)
    return made


def fused(noted, formula, arguments, passing=()):
    """Launches with a formula applied by those of them that complete what it reads; None where that cannot be.

    So the formula costs no pass over memory of its own.

    Parameters
    ----------
    noted : list of Launch
        Those of the kernel before.
    formula : Formula
    arguments : sequence
        The formula's; what it writes shares no memory with what the launches read.
    passing : collection of str
        Names of arguments that nobody else reads: they are not written then.
    """
    given = dict(zip(formula.arguments, arguments, strict=True))
    if any(type(value) is Now for value in arguments):
        return None
    arrays = {name: value for name, value in given.items() if hasattr(value, "shape")}
    out = arrays.pop(formula.output)
    for name, array in arrays.items():
        touching = [each for each in noted if any(_same(array, a) for a in each.arguments)]
        ways = [[again for done, again in each.completes if _same(array, done)] for each in touching]
        if touching and array.size == out.size and all(ways):
            finish = _finish(formula, name, tuple((key, given[key]) for key in formula.scalars))
            more = finish, name not in passing, out, arrays.get("x", out), arrays.get("y", out)
            ends = {id(each): again for each, (again,) in zip(touching, ways, strict=True)}
            return [ends[id(each)](*more) if id(each) in ends else each for each in noted]
    return None


def _same(array, other):
    """Whether two arguments are the same numbers."""
    return getattr(other, "ndim", 0) > 0 and array.size == other.size and address(array) == address(other)


def run(kernel, *arguments):
    """Run a kernel once on NumPy arrays: they are copied to the device and, written, back."""
    there = {id(a): cuda.to_device(a) for a in arguments if isinstance(a, np.ndarray)}
    for each in launches(kernel, [there.get(id(a), a) for a in arguments]):
        each()
    for array in arguments:
        if isinstance(array, np.ndarray) and array.size:
            array[...] = there[id(array)].copy_to_host()


def real_of(arguments):
    """The floating-point type of the first array that has one."""
    return next((a.dtype.type for a in arguments if getattr(getattr(a, "dtype", None), "kind", "") == "f"), np.float64)


def workspace(shape, like):
    """An uninitialised array beside `like`, of its type and in its memory; it lives as long as its launch."""
    return np.empty(shape, like.dtype) if isinstance(like, np.ndarray) else cuda.device_array(shape, like.dtype)


def address(array):
    """Where an array begins, on the device or, simulated, in memory."""
    if isinstance(array, np.ndarray):
        return array.ctypes.data
    return array._ary.ctypes.data if SIMULATED else array.device_ctypes_pointer.value or 0


def table(numbers, like, dtype=np.int32):
    """Whole numbers that a kernel looks up, in the memory of `like`."""
    numbers = np.ascontiguousarray(numbers, dtype)
    return numbers if isinstance(like, np.ndarray) else cuda.to_device(numbers)


def _number(value, real):
    """Floats as the arrays' type."""
    return real(value) if type(value) is float else value


# -- a loop as a kernel ------------------------------------------------------------------------------------------------


@memoize
def _loop(kernel, real, now, guarded, fours, end=None):
    """The CUDA kernel of a `Kernel`: its loop strides over the grid."""
    definition, namespace = _definition(kernel, real)
    if fours:
        definition = ast.parse(_by_fours(kernel, end)).body[0]
        namespace |= {"load4": load4, "store4": store4}
    if end is not None:
        definition = _ended(definition, end)
        namespace |= {"_finish": end.finish}
    for statement in definition.body:
        if _is_loop(statement):
            count = ast.unparse(statement.iter.args[0])
            text = f"range(_cuda.grid(1), {count}, _cuda.gridsize(1))"
            statement.iter = ast.copy_location(ast.parse(text, mode="eval").body, statement.iter)
    return _compiled(_reading(definition, now, guarded), kernel, real, {**namespace, "_cuda": cuda})


def _by_fours(kernel, end):
    """A formula's loop with 128-bit loads and stores, which hide the latency of memory."""
    head, _, body = kernel.text.strip().splitlines()
    written, value = kernel.output, kernel.value
    read = dict.fromkeys(re.findall(r"(\w+)\[i\]", value))
    loads = [f"            {', '.join(f'{a}{k}' for k in range(4))} = load4({a}, 4 * j)" for a in read]
    values = [re.sub(r"(\w+)\[i\]", rf"\g<1>{k}", value) for k in range(4)]
    stores = [f"            z0, z1, z2, z3 = {', '.join(values)}"]
    if end is None or end.kept:
        stores.append(f"            store4({written}, 4 * j, z0, z1, z2, z3)")
    if end is not None:
        finished = ", ".join(f"_finish(z{k}, _x, _y, 4 * j + {k})" for k in range(4))
        stores.append(f"            store4(_out, 4 * j, {finished})")
    return "\n".join(
        [
            head,
            f"    for j in prange(({written}.size + 3) // 4):",
            f"        if 4 * j + 4 <= {written}.size:",
            *loads,
            *stores,
            "        else:",
            f"            for i in range(4 * j, {written}.size):",
            f"                {body.strip()}",
        ]
    )


@memoize
def _extent(kernel, real):
    """The number of iterations, as a Python function of the kernel's arguments: what precedes the loop, then n."""
    definition, namespace = _definition(kernel, real)
    body = []
    for statement in definition.body:
        if _is_loop(statement):
            body.append(ast.copy_location(ast.Return(statement.iter.args[0]), statement))
            break
        body.append(statement)
    definition.body = body
    function = source.build(definition, "extent", kernel.source.file, namespace)

    def extent(*arguments):
        with np.errstate(all="ignore"):
            return int(function(*arguments))

    return extent


def _sample(value):
    """What stands for an argument where only shapes matter: an array of zeros that takes no memory."""
    if type(value) is Now:
        return value.kind(1)
    if hasattr(value, "shape") and not isinstance(value, np.generic):
        return np.broadcast_to(np.zeros((), value.dtype), value.shape)
    return value


def _definition(kernel, real):
    """A fresh tree of a kernel with its floats typed, and the names it knows."""
    if isinstance(kernel, Formula):
        return ast.parse(kernel.text).body[0], {"formula": _scalar(kernel, real)}
    namespace = {**kernel.function.__globals__, "_real": real}
    definition = source.real(kernel.source.tree(), namespace)
    if sum(map(_is_loop, definition.body)) != 1:
        raise SyntaxError(f"{kernel!r} must hold exactly one top-level 'for ... in prange(n)' loop")
    return definition, namespace


@memoize
def _scalar(formula, real):
    """A formula's scalar function, for the device."""
    definition, namespace = formula.scalar(real)
    return cuda.jit(device=True)(_built(definition, formula.source, {**namespace, "_real": real}))


@dataclass(frozen=True)
class End:
    """What is done where a kernel stores into its argument `name`: the formula; `kept`: the number is stored too."""

    name: str
    finish: object
    kept: bool


@memoize
def _stored(kernel, real):
    """Names of the arrays that a `Kernel` only stores into; see `_only_stored`."""
    return _only_stored(_definition(kernel, real)[0])


def _only_stored(definition):
    """Names of arguments of which a kernel sets numbers, ``name[i] = ...``, and does nothing else but ask their shape.

    A number's last value is then the kernel's result, whoever sets it, and a formula may be applied to each.
    """
    arguments = [a.arg for a in definition.args.args]
    named = {name: 0 for name in arguments}
    stored = dict(named)
    for node in ast.walk(definition):
        if isinstance(node, ast.Name) and node.id in named:
            named[node.id] += 1
        elif isinstance(node, ast.Attribute) and node.attr in SHAPE and getattr(node.value, "id", None) in named:
            named[node.value.id] -= 1
        elif isinstance(node, ast.Assign) and _target(node) in stored:
            stored[_target(node)] += 1
    return tuple(name for name in arguments if stored[name] and stored[name] == named[name])


def _target(statement):
    """The array of ``array[i] = ...``, or None."""
    (target, *others) = statement.targets
    plain = not others and isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name)
    return target.value.id if plain else None


class _Ended(ast.NodeTransformer):
    """``name[i] = value`` becomes ``_z = value; name[i] = _z; _out[i] = _finish(_z, _x, _y, i)``."""

    def __init__(self, end):
        self.end = end

    def visit_Assign(self, statement):
        if _target(statement) != self.end.name:
            return statement
        value, at = ast.unparse(statement.value), ast.unparse(statement.targets[0].slice)
        lines = [f"_z = {value}", *([f"{self.end.name}[{at}] = _z"] if self.end.kept else [])]
        lines.append(f"_out[{at}] = _finish(_z, _x, _y, ({at}))")
        made = ast.parse("\n".join(lines)).body
        return [ast.copy_location(inner, statement) for inner in made]


def _ended(definition, end):
    """A definition that applies a formula where it stores, with three more arguments: what is written and read."""
    definition.args.args += [ast.copy_location(ast.arg(name), definition) for name in ("_out", "_x", "_y")]
    return ast.fix_missing_locations(_Ended(end).visit(definition))


def _is_loop(statement):
    iterated = getattr(statement, "iter", None) if isinstance(statement, ast.For) else None
    return isinstance(iterated, ast.Call) and ast.unparse(iterated.func) == "prange"


def _reading(definition, now, guarded):
    """A definition that reads the numbers `now` from three more arguments, the flat arrays of the state."""
    if not now and not guarded:
        return definition
    names = dict(now)
    arguments = [a for a in definition.args.args if a.arg not in names]
    arguments += [ast.arg(name) for name in ("_counters", "_rates", "_log")]
    definition.args.args = [ast.copy_location(a, definition) for a in arguments]
    reads = [
        ast.parse(f"{name} = {'_real' if value.kind is float else '_whole'}({value.text})").body[0]
        for name, value in now
    ]
    if guarded:
        reads.insert(0, ast.parse("if _counters[3] != 0:\n    return").body[0])
    for node in (inner for read in reads for inner in ast.walk(read)):
        ast.copy_location(node, definition)
    definition.body = reads + definition.body
    return definition


# -- code for the threads of a block -----------------------------------------------------------------------------------


class BlockKernel:
    """A function that every thread of a block runs; `on` compiles it for a floating-point type."""

    def __init__(self, function, device=False, registers=None):
        self.function, self.device, self.registers = function, device, registers
        self.__name__, self.__doc__ = function.__name__, function.__doc__
        self.source = source.Source(function)
        self.arguments = tuple(inspect.signature(function).parameters)
        self._made = {}

    def on(self, real, end=None):
        if (real, end) not in self._made:
            space = {**self.function.__globals__, **inspect.getclosurevars(self.function).nonlocals}
            space |= {"_real": real, "real": real}
            definition = source.real(self.source.tree(), space)
            if end is not None:
                definition, space["_finish"] = _ended(definition, end), end.finish
            self._made[real, end] = _compiled(definition, self, real, space, device=self.device)
        return self._made[real, end]

    @cached_property
    def stored(self):
        """Names of the arrays that it only stores into; see `_only_stored`."""
        return _only_stored(self.source.tree())


def block_kernel(function=None, *, registers=None):
    """Decorator: code for the threads of a block, with `cuda.threadIdx` and shared memory; see `launch`.

    Float literals and ``float(...)`` have the arrays' type, which is called ``real`` (imported from here).
    `registers` is the most that a thread may have.
    """
    if function is None:
        return lambda function: BlockKernel(function, registers=registers)
    return BlockKernel(function)


def block_helper(function):
    """Decorator: code that block kernels call, on every thread."""
    return BlockKernel(function, device=True)


class Finish(BlockKernel):
    """A formula as the last act of a kernel: a function (z, x, y, at), z the number that one of its arrays would hold.

    `options` are constants in it, as the network has them.
    """

    def __init__(self, formula, name, options):
        self.formula, self.options, self.device, self._made = formula, dict(options), True, {}
        self.value = re.sub(rf"\b{name}\[i\]", "_z", formula.value).replace("[i]", "[_at]")

    def on(self, real):
        if real not in self._made:
            definition = ast.parse(f"def finish(_z, x, y, _at):\n    return {self.value}\n").body[0]
            space = {**self.options, "_real": real, "formula": _scalar(self.formula, real)}
            self._made[real] = _compiled(source.real(definition, space), self.formula, real, space, device=True)
        return self._made[real]


@memoize
def _finish(formula, name, options):
    return Finish(formula, name, options)


# -- from a tree to a CUDA kernel --------------------------------------------------------------------------------------


def _compiled(definition, owner, real, namespace, device=False):
    """A kernel that is compiled when it is first launched."""
    function = _built(definition, owner.source, {**namespace, "_real": real, "_whole": np.int64}, real)
    if device:
        return cuda.jit(device=True, **INLINED)(function)
    limit = getattr(owner, "registers", None)
    return cuda.jit(function) if limit is None or SIMULATED else cuda.jit(max_registers=limit)(function)


def _built(definition, origin, namespace, real=None):
    """The Python function of a tree, with what it calls turned into functions of the device."""
    if SIMULATED:
        namespace = {name: _simulator if value is cuda else value for name, value in namespace.items()}
    else:
        definition = _Device(namespace).visit(definition)
        namespace = {**namespace, "_math": math, "_sign": _sign}
    used = {node.id for node in ast.walk(definition) if isinstance(node, ast.Name)}
    namespace |= {name: _on_device(namespace[name], real) for name in used & set(namespace)}
    return source.build(definition, origin.label, origin.file, namespace)


def _on_device(value, real):
    """A function that kernels call, for the device."""
    if isinstance(value, BlockKernel):
        return value.on(real) if value.device else value
    if isinstance(value, CPUDispatcher):
        return _helper(value.py_func, real)
    return value


@memoize
def _helper(function, real):
    text = source.Source(function)
    namespace = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
    return cuda.jit(device=True, **INLINED)(_built(text.tree(), text, namespace, real))


class _Simulator:
    """The device that a simulated thread is on.

    Numba puts it into a function's globals and takes it out at the end, from under other threads in the same function.
    """

    def __getattr__(self, name):
        from numba.cuda.simulator import kernel

        return getattr(kernel._get_kernel_context(), name)


_simulator = _Simulator()

if SIMULATED:
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    _lock = threading.Lock()

    def _shared(self, shape, dtype):
        """One array for all threads that come to a line; the simulator's own looks and makes it without a lock."""
        frame = sys._getframe(1)
        with _lock:
            place = frame.f_code.co_filename, frame.f_lineno
            return self._allocations.setdefault(place, np.empty(shape, dtype))

    FakeCUDAShared.array = _shared  # type: ignore[method-assign]


@cuda.jit(device=True)
def _sign(x):
    """1, 0 or -1 in the type of x; NaN stays."""
    return x if x == 0 or x != x else math.copysign(x / x, x)


class _Device(ast.NodeTransformer):
    """NumPy's scalar functions as CUDA's; shared arrays begin where 128-bit loads may (the simulator knows neither)."""

    def __init__(self, namespace):
        self.namespace = namespace

    def visit_Call(self, node):
        self.generic_visit(node)
        if ast.unparse(node.func) == "cuda.shared.array":
            node.keywords.append(ast.keyword("alignment", ast.Constant(16)))
        return node

    def visit_Attribute(self, node):
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and self.namespace.get(node.value.id) is np:
            if node.attr in MATH:
                node.value = ast.copy_location(ast.Name("_math", ast.Load()), node.value)
            elif node.attr in ("abs", "absolute", "fabs"):
                return ast.copy_location(ast.Name("abs", ast.Load()), node)
            elif node.attr == "sign":
                return ast.copy_location(ast.Name("_sign", ast.Load()), node)
        return node
