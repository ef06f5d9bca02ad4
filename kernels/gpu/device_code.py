"""Syntax-tree rewrites that turn the source of a kernel into a CUDA kernel.

A `Kernel` (compiler/kernel.py) is a loop with independent iterations. On CUDA ``for i in prange(n)`` becomes a
grid-stride loop: thread t of T executes i = t, t + T, t + 2 T, ... Code that a loop cannot express (sums over a block
of threads, tiles in shared memory) is written for the threads of a block and marked `block_kernel`.

An `Epilogue` is a formula that is applied where a kernel stores the formula's input: the store statement is rewritten,
so the number does not go through memory.

Three more rewrites: floats take the type of the arrays (source.py), NumPy's scalar functions become those of the CUDA
math library, and a number that changes from step to step (`DeviceScalar`) is read from device memory, so that a launch
is bound to its arrays only once.

Kernels are compiled at their first launch (launch.py); nothing here needs a GPU.
"""

import ast
import inspect
import math
import re
import sys
import threading
from dataclasses import dataclass
from functools import cache as memoize
from functools import cached_property

import numpy as np
from numba import config, cuda
from numba.core.registry import CPUDispatcher

from ..compiler import source
from ..compiler.elementwise import Formula
from ..compiler.special import FUNCTIONS, NORMAL_PEAK, ROOT_HALF, log1p_exp, normal_cdf
from ..compiler.subnormal import exp, flush
from ..counters import STOP
from .vector import load4, store4

SIMULATED = bool(getattr(config, "ENABLE_CUDASIM", False))
INLINED = {} if SIMULATED else {"forceinline": True}
real = None  # in a block kernel: the floating-point type of the arrays
# NumPy's scalar functions that CUDA provides under the same name in math; there they keep float32.
MATH = {"exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh"}
MATH |= {"floor", "ceil", "isnan", "isinf", "isfinite"}
SHAPE = {"shape", "size", "ndim", "dtype"}  # attributes of an array that do not read its numbers


@dataclass(frozen=True)
class DeviceScalar:
    """A number that a kernel reads from device memory when it runs.

    Parameters
    ----------
    text : str
        An expression over the flat arrays ``_counters``, ``_rates`` and ``_log`` of the program's state.
    kind : int or float
    """

    text: str
    kind: type = int

    def __add__(self, number):
        return DeviceScalar(f"({self.text}) + {number}", self.kind)


# -- a loop as a kernel ------------------------------------------------------------------------------------------------


@memoize
def loop_kernel(kernel, real, scalars, guarded, fours, epilogue=None):
    """Return the CUDA kernel of a `Kernel`, as a grid-stride loop."""
    definition, namespace = _definition(kernel, real)
    if fours:
        definition = ast.parse(_by_fours(kernel, epilogue)).body[0]
        namespace |= {"load4": load4, "store4": store4}
    if epilogue is not None:
        definition = _with_epilogue(definition, epilogue)
        namespace |= {"_epilogue": epilogue.kernel}
    for statement in definition.body:
        if _is_loop(statement):
            count = ast.unparse(statement.iter.args[0])
            text = f"range(_cuda.grid(1), {count}, _cuda.gridsize(1))"
            statement.iter = ast.copy_location(ast.parse(text, mode="eval").body, statement.iter)
    return _compiled(_reading(definition, scalars, guarded), kernel, real, {**namespace, "_cuda": cuda})


def _by_fours(kernel, epilogue):
    """Return the text of a formula's loop with 128-bit loads and stores, which hide the latency of memory."""
    head, _, body = kernel.text.strip().splitlines()
    written, value = kernel.output, kernel.value
    read = dict.fromkeys(re.findall(r"(\w+)\[i\]", value))
    loads = [f"            {', '.join(f'{a}{k}' for k in range(4))} = load4({a}, 4 * j)" for a in read]
    values = [re.sub(r"(\w+)\[i\]", rf"\g<1>{k}", value) for k in range(4)]
    stores = [f"            z0, z1, z2, z3 = {', '.join(values)}"]
    if epilogue is None or epilogue.keep:
        stores.append(f"            store4({written}, 4 * j, z0, z1, z2, z3)")
    if epilogue is not None:
        finished = ", ".join(f"_epilogue(z{k}, _x, _y, 4 * j + {k})" for k in range(4))
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
def extent(kernel, real):
    """Return a Python function from the kernel's arguments to its number of iterations n."""
    definition, namespace = _definition(kernel, real)
    body = []
    for statement in definition.body:
        if _is_loop(statement):
            body.append(ast.copy_location(ast.Return(statement.iter.args[0]), statement))
            break
        body.append(statement)
    definition.body = body
    function = source.build(definition, "extent", kernel.source.file, namespace)

    def counted(*arguments):
        with np.errstate(all="ignore"):
            return int(function(*arguments))

    return counted


def _definition(kernel, real):
    """Return a new tree of a kernel with typed floats, and its namespace."""
    if isinstance(kernel, Formula):
        return ast.parse(kernel.text).body[0], {"formula": scalar(kernel, real)}
    namespace = {**kernel.function.__globals__, "_real": real, "_exp": exp}
    definition = source.real(kernel.source.tree(), namespace, ("exp",))
    if sum(map(_is_loop, definition.body)) != 1:
        raise SyntaxError(f"{kernel!r} must hold exactly one top-level 'for ... in prange(n)' loop")
    return definition, namespace


@memoize
def scalar(formula, real):
    """Return a formula's scalar function for the device."""
    definition, namespace = formula.scalar(real, ("exp",))
    return cuda.jit(device=True)(_built(definition, formula.source, {**namespace, "_real": real, "_exp": exp}, real))


@dataclass(frozen=True)
class Epilogue:
    """An epilogue: a formula applied where a kernel stores its argument `name`; `keep`: also store the number."""

    name: str
    kernel: object
    keep: bool


@memoize
def stored_by(kernel, real):
    """List the arrays that a `Kernel` only stores into; see `_only_stored`."""
    return _only_stored(_definition(kernel, real)[0])


def _only_stored(definition):
    """List the arguments of which a kernel only sets numbers, ``name[i] = ...``, and reads the shape.

    The last value of a number is then the kernel's result, and a formula may be applied to each store.
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
    """Return the array of ``array[i] = ...``, or None."""
    (target, *others) = statement.targets
    plain = not others and isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name)
    return target.value.id if plain else None


class _WithEpilogue(ast.NodeTransformer):
    """``name[i] = value`` becomes ``_z = value; name[i] = _z; _out[i] = _epilogue(_z, _x, _y, i)``."""

    def __init__(self, epilogue):
        self.epilogue = epilogue

    def visit_Assign(self, statement):
        if _target(statement) != self.epilogue.name:
            return statement
        value, at = ast.unparse(statement.value), ast.unparse(statement.targets[0].slice)
        lines = [f"_z = {value}", *([f"{self.epilogue.name}[{at}] = _z"] if self.epilogue.keep else [])]
        lines.append(f"_out[{at}] = _epilogue(_z, _x, _y, ({at}))")
        made = ast.parse("\n".join(lines)).body
        return [ast.copy_location(inner, statement) for inner in made]


def _with_epilogue(definition, epilogue):
    """Add an epilogue to a definition, with three more arguments: the formula's output and inputs."""
    definition.args.args += [ast.copy_location(ast.arg(name), definition) for name in ("_out", "_x", "_y")]
    return ast.fix_missing_locations(_WithEpilogue(epilogue).visit(definition))


def _is_loop(statement):
    iterated = getattr(statement, "iter", None) if isinstance(statement, ast.For) else None
    return isinstance(iterated, ast.Call) and ast.unparse(iterated.func) == "prange"


def _reading(definition, scalars, guarded):
    """Make a definition read the numbers `scalars` from three more arguments, the flat arrays of the state."""
    if not scalars and not guarded:
        return definition
    names = dict(scalars)
    arguments = [a for a in definition.args.args if a.arg not in names]
    arguments += [ast.arg(name) for name in ("_counters", "_rates", "_log")]
    definition.args.args = [ast.copy_location(a, definition) for a in arguments]
    reads = [
        ast.parse(f"{name} = {'_real' if value.kind is float else '_whole'}({value.text})").body[0]
        for name, value in scalars
    ]
    if guarded:
        reads.insert(0, ast.parse(f"if _counters[{STOP}] != 0:\n    return").body[0])
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

    def on(self, real, epilogue=None):
        if (real, epilogue) not in self._made:
            space = {**self.function.__globals__, **inspect.getclosurevars(self.function).nonlocals}
            space |= {"_real": real, "real": real, "_exp": exp}
            definition = source.real(self.source.tree(), space, ("exp",))
            if epilogue is not None:
                definition, space["_epilogue"] = _with_epilogue(definition, epilogue), epilogue.kernel
            self._made[real, epilogue] = _compiled(definition, self, real, space, device=self.device)
        return self._made[real, epilogue]

    @cached_property
    def stored(self):
        """The arrays that it only stores into; see `_only_stored`."""
        return _only_stored(self.source.tree())


def block_kernel(function=None, *, registers=None):
    """Mark a function as code for the threads of a block, with `cuda.threadIdx` and shared memory; see `launch`.

    Float literals and ``float(...)`` have the arrays' type, which is named ``real`` (imported from here).
    `registers` is the maximum number of registers per thread.
    """
    if function is None:
        return lambda function: BlockKernel(function, registers=registers)
    return BlockKernel(function)


def block_helper(function):
    """Mark a function that block kernels call on every thread."""
    return BlockKernel(function, device=True)


class EpilogueKernel(BlockKernel):
    """A formula as an epilogue: a device function (z, x, y, at), z the number that the kernel would store.

    `options` are compiled into it as constants.
    """

    def __init__(self, formula, name, options):
        self.formula, self.options, self.device, self._made = formula, dict(options), True, {}
        self.value = re.sub(rf"\b{name}\[i\]", "_z", formula.value).replace("[i]", "[_at]")

    def on(self, real):
        if real not in self._made:
            definition = ast.parse(f"def epilogue(_z, x, y, _at):\n    return {self.value}\n").body[0]
            space = {**self.options, "_real": real, "formula": scalar(self.formula, real)}
            self._made[real] = _compiled(source.real(definition, space), self.formula, real, space, device=True)
        return self._made[real]


@memoize
def epilogue_kernel(formula, name, options):
    return EpilogueKernel(formula, name, options)


# -- from a tree to a CUDA kernel --------------------------------------------------------------------------------------


def _compiled(definition, owner, real, namespace, device=False):
    """Return a kernel that is compiled at its first launch."""
    function = _built(definition, owner.source, {**namespace, "_real": real, "_whole": np.int64}, real)
    if device:
        return cuda.jit(device=True, **INLINED)(function)
    limit = getattr(owner, "registers", None)
    return cuda.jit(function) if limit is None or SIMULATED else cuda.jit(max_registers=limit)(function)


def _built(definition, origin, namespace, real=None):
    """Return the Python function of a tree; the functions it calls become device functions."""
    if SIMULATED:
        namespace = {name: _simulator if value is cuda else value for name, value in namespace.items()}
    else:
        definition = _Device(namespace).visit(definition)
        namespace = {**namespace, "_math": math, "_sign": _sign}
    used = {node.id for node in ast.walk(definition) if isinstance(node, ast.Name)}
    namespace |= {name: _on_device(namespace[name], real) for name in used & set(namespace)}
    return source.build(definition, origin.label, origin.file, namespace)


def _on_device(value, real):
    """Convert a function that kernels call to a device function."""
    if isinstance(value, BlockKernel):
        return value.on(real) if value.device else value
    if isinstance(value, CPUDispatcher):
        return _helper(value.py_func, real)
    ours = not SIMULATED and any(value is each for each in (flush, exp, *FUNCTIONS))
    return _flushed(value, real) if ours else value


@memoize
def _flushed(function, real):
    """Return a function of subnormal.py or special.py of one number; the CPU's are in compiler/functions.py."""
    zero, least, half, root, peak = map(real, (0, np.finfo(real).tiny, 0.5, ROOT_HALF, NORMAL_PEAK))
    flushed = cuda.jit(device=True, **INLINED)(lambda x: zero if abs(x) < least else x)
    if function is flush:
        return flushed
    if function is exp:
        value = lambda x: flushed(math.exp(x))  # noqa: E731
    elif function is log1p_exp:
        value = lambda x: flushed(math.log1p(math.exp(x)))  # noqa: E731
    elif function is normal_cdf:
        value = lambda x: flushed(half * math.erfc(-root * x))  # noqa: E731
    else:
        value = lambda x: flushed(peak * math.exp(-half * x * x))  # noqa: E731
    return cuda.jit(device=True, **INLINED)(value)


@memoize
def _helper(function, real):
    text = source.Source(function)
    namespace = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
    return cuda.jit(device=True, **INLINED)(_built(text.tree(), text, namespace, real))


def device_functions(text, namespace, real):
    """Return the functions of a text as device functions by name; each calls those above it and the namespace's."""
    space = {"cuda": cuda, "np": np, "real": real, "_real": real, "_exp": exp, "flush": flush, **namespace}
    for definition in ast.parse(text).body:
        if isinstance(definition, ast.FunctionDef):
            origin = Text(definition.name)
            definition = source.real(definition, space, ("exp",))
            space[origin.label] = cuda.jit(device=True, **INLINED)(_built(definition, origin, space, real))
    return space


@dataclass(frozen=True)
class Text:
    """The origin of a function that has no file."""

    label: str
    file: str = "<nnjit>"


class _Simulator:
    """The device of the current simulated thread.

    Numba sets it in a function's globals and removes it at the end, while other threads may still run that function.
    """

    def __getattr__(self, name):
        from numba.cuda.simulator import kernel

        return getattr(kernel._get_kernel_context(), name)


_simulator = _Simulator()

if SIMULATED:
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    _lock = threading.Lock()

    def _shared(self, shape, dtype):
        """Return one array for all threads that reach a line, under a lock that the simulator's version lacks."""
        frame = sys._getframe(1)
        with _lock:
            place = frame.f_code.co_filename, frame.f_lineno
            return self._allocations.setdefault(place, np.empty(shape, dtype))

    FakeCUDAShared.array = _shared  # type: ignore[method-assign]


@cuda.jit(device=True)
def _sign(x):
    """Return 1, 0 or -1 in the type of x; NaN for NaN."""
    return x if x == 0 or x != x else math.copysign(x / x, x)


class _Device(ast.NodeTransformer):
    """NumPy's scalar functions become CUDA's; shared arrays are aligned for 128-bit loads (not in the simulator)."""

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
