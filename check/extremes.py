"""Large and tiny numbers: a float32 kernel is right wherever the exact result is a float32 number.

Forward and backward pass run twice on the same samples: by the compiled float32 kernels, and by the reference of each,
in the longest floats of NumPy (a kernel without a NumPy twin is its own, as plain Python). Those reach 1e4932 on most
processors, so exp(1e4) and the square of 1e30 are ordinary numbers there. There is no verdict if even they give NaN, or
more than `LARGEST`. A result is wrong if it is not finite, unless another result of the same call is beyond `LARGEST`
(then NaN is honest, and buffers may stay as they were), or if it is further from the exact one than rounding explains:
`RIGHT`, and what small changes of the arguments do to the exact result.
"""

import linecache
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..kernels.operations import Operation
from .cases import BATCHES
from .places import author_line, place, written_in
from .races import interpreted
from .runner import Run

LONG = np.longdouble
LARGEST = float(np.finfo(np.float32).max) / 1024  # beyond it there is no verdict: a mean may overflow in its sum
SIZES = (0.0, 1e-40, 1e-30, 1e-20, 1e2, 1e4, 1e20, 1e30)  # 1e-40 is subnormal, 1e20 has no square
NEAR = 1e4  # size of numbers up to which a result is measured by the largest one of its array, beyond it by itself
RIGHT = 1e-3  # largest error, relative to that number (at least 1)
ROUNDING = 2.0**-23  # relative changes of the arguments, by as much as float32 rounds
CHANGES = 4  # times that the arguments are changed at random
GROWTH = 64  # a sum of many terms is rounded more often than its arguments
SAMPLES = BATCHES[-1]

# Remedies, by the words in which NumPy reports the first number that is not finite.
SOFTPLUS = (
    "write log(1 + exp(x)) as max(x, 0) + log1p(exp(-abs(x))), and exp(x) / (1 + exp(x)) by exp(-abs(x)) likewise"
)
EXP = "exp(x) is infinite in float32 from x = 89 on: use exp(-abs(x)), at most 1, or subtract the largest x first"
LARGE = "a product or square overflows in float32 (3e38): divide by the largest number first, and multiply by it last"
LOG = "log(0) is infinite: add a small number, or treat 0 apart"
DIVISOR = "it divides by 0: add a small number to the divisor, or treat 0 apart"
INVALID = "infinity minus infinity, 0 times infinity and 0 / 0 have no value: treat such numbers apart"
REMEDIES = (
    ("overflow encountered in exp", EXP),
    ("overflow encountered in", LARGE),
    ("divide by zero encountered in log", LOG),
    ("divide by zero encountered", DIVISOR),
    ("invalid value encountered in", INVALID),
)


class Exact(Run):
    """The same run with arrays in the longest floats of NumPy."""

    def __init__(self, run):
        self.__dict__.update(vars(run))
        arrays = {name: getattr(run.state, name) for name in run.state._fields}
        self.state: Any = SimpleNamespace(**{
            name: array.astype(LONG) if getattr(array, "dtype", None) == np.float32 else array
            for name, array in arrays.items()
        })  # fmt: skip


def extremes(network, rng, answer):
    """Run a float32 network of one layer on large and tiny numbers; call `answer` as `kernels.examine` does."""
    ordinary, codes = network.graph.draw(rng, SAMPLES), list(network.graph.codes())
    dy = rng.standard_normal((SAMPLES, *network.output_shape))
    kernels = [node.layer.forward for node in network.graph.nodes if node.layer.forward is not None]
    for training in (True, False) if any("training" in each.arguments for each in kernels) else (True,):
        run = Run(network, ordinary, dy, training)
        for size in (*SIZES, None):
            x, kept = numbers(rng, size, ordinary.shape), network.flat_buffers.copy()
            x.reshape(SAMPLES, -1)[:, codes] = ordinary.reshape(SAMPLES, -1)[:, codes]
            run.start(x)
            with np.errstate(all="ignore"):
                compare(run.calls(), Exact(run).calls(), size, answer)
            network.flat_buffers[:] = kept


def numbers(rng, size, shape):
    """Draw float32 numbers from half a size to the size, of both signs; for None those of all sizes, and ordinary."""
    sizes = size if size is not None else rng.choice([*SIZES, 1.0, 1.0, 1.0], shape)
    return (sizes * rng.choice([-1.0, 1.0], shape) * rng.choice([1.0, 1.0, 0.7, 0.5], shape)).astype(np.float32)


def compare(calls, exact_calls, size, answer):
    """Run calls and their exact twins side by side; return whether the numbers can be computed on with.

    The first fault ends the pass, since the rest follows from it.
    """
    for call, twin in zip(calls, exact_calls, strict=True):
        found, exact = call.copies(fill=0), twin.arguments()
        given = {name: v.copy() if isinstance(v, np.ndarray) else v for name, v in exact.items()}
        call.compiled()(*found.values(), 0, 1)
        if not _exactly(twin, exact):
            return False
        sentence = _fault(call, found, exact, size, partial(_spread, twin, given, exact))
        answer("extremes", call.name, sentence)
        call.keep(found)
        if sentence or _beyond(exact, call.results):
            return False
    return True


def _exactly(twin, given):
    """Run the reference on arrays of the longest floats; return False if it has no answer."""
    function = twin.reference()
    if not isinstance(twin.kernel, Operation):
        function = interpreted(function, range)
    try:
        function(*given.values())
    except (ArithmeticError, ValueError):  # plain Python divides by 0.0, or leaves the range of a function
        return False
    return True


def _beyond(exact, names):
    """Return whether an exact result is beyond float32: then what follows has no right number to begin with."""
    return any((np.abs(exact[name]) > LARGEST).any() for name in names)


def _spread(twin, given, exact, names):
    """Return how far results move if the arguments change by as much as float32 rounds them; infinite if unknown."""
    rng, found = np.random.default_rng(0), {name: np.zeros(exact[name].shape) for name in names}
    for _ in range(CHANGES):
        changed = {
            name: v * (1 + ROUNDING * rng.choice([-1, 1], v.shape)) if getattr(v, "dtype", None) == LONG else v
            for name, v in given.items()
        }
        known = _exactly(twin, changed)
        for name in names:
            moved = np.abs(changed[name] - exact[name]) if known else np.inf
            found[name] = np.maximum(found[name], np.where(np.isfinite(moved), moved, np.inf))
    return found


def _fault(call, found, exact, size, spread):
    """Return the first number that is not what it should be, as a sentence, or None."""
    for name in call.results:
        wanted, came = exact[name], found[name]
        known = np.abs(wanted) <= LARGEST  # not where it is NaN
        wrong = known & ~np.isfinite(came)
        if _beyond(exact, [other for other in call.results if other != name]):
            if name not in call.outputs:
                continue  # a buffer may stay as it was
            wrong &= ~np.isnan(came)
        if not wrong.any():
            largest = np.abs(wanted[known]).max(initial=0.0) if size is not None and size <= NEAR else np.abs(wanted)
            wrong = known & (np.abs(came - wanted) > RIGHT * np.maximum(1.0, largest))
            wrong = wrong & (np.abs(came - wanted) > GROWTH * spread([name])[name]) if wrong.any() else wrong
        if wrong.any():
            at = tuple(np.argwhere(wrong)[0])
            index = ", ".join(map(str, at))
            text = f"{name}[{index}] is {came[at]:.7g} {_given(call, found, at, size)}, where {wanted[at]:.7g} is right"
            return text + _cause(call, name) + f"; with {call.bound()}"
    return None


def _given(call, found, at, size):
    """Return what a result was made of, as the end of a clause."""
    for name in ("x", "y", "gradient"):
        array = None if name in call.results else found.get(name)
        if array is not None and array.ndim == len(at) and all(i < n for i, n in zip(at, array.shape, strict=True)):
            return f"for {name} = {array[at]:.7g}"
    return "for numbers of mixed sizes" if size is None else f"for numbers of size {size:g}"


def _cause(call, name):
    """Return the lines in which NaN and infinity arise and the remedy, as the end of a sentence."""
    first, then = (_raised(call, **kinds) for kinds in ({"over": "raise", "divide": "raise"}, {"invalid": "raise"}))
    places = [f"{what} in {place}" for what, place, _ in filter(None, (first, then))]
    if not places:
        return f" ({written_in(call.cpu, name)})"
    what, _, text = first or then  # type: ignore[misc]  # one of them is there
    remedy = next(remedy for words, remedy in REMEDIES if words in what)
    return f": {', then '.join(dict.fromkeys(places))}; {SOFTPLUS if 'exp' in what and 'log' in text else remedy}"


def _raised(call, **kinds):
    """Return what NumPy says of the first such number of the plain function in float32, its place and its line."""
    function, file = interpreted(call.plain(), range), call.cpu.source.file
    try:
        with np.errstate(**{"over": "ignore", "divide": "ignore", "invalid": "ignore", "under": "ignore", **kinds}):
            function(*call.copies(fill=0).values())
    except FloatingPointError as error:
        line = author_line(error, file)
        return (str(error), place(file, line), linecache.getline(file, line)) if line is not None else None
    except Exception:  # a compiled helper that has no plain form
        return None
    return None
