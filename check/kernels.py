"""Checks of every kernel call of a network: races, reference, CUDA, threads, writes, float32."""

import linecache
import re
from contextlib import contextmanager
from functools import cache

import numpy as np

from ..errors import DeviceError, NnjitError
from ..kernels.compiler.machine_code import first_line
from ..kernels.compiler.refusals import explained
from ..kernels.operations import Operation
from ..program.cuda_form import cuda_form
from .places import author_line, place, placed, written_in
from .promotion import promoted
from .races import races
from .runner import mark, same_bits, unwritten

PARTS = 8  # parts into which a loop is divided
# Largest difference from the reference, relative to the reference's largest number (at least 1).
TOLERANCES = {np.float32: 1e-4, np.float64: 1e-10}
# Remedies for the author of a kernel.
RACE = (
    "iterations run at once, in any order: loop with prange over the index of what is written, such as the parameter's "
    "own, and over the samples inside it"
)
CHANGES = "write to an output, or keep intermediate numbers in scratch()"
UNWRITTEN = "set all of it, by loops that go from 0 to its sizes"
DIVIDED = "each iteration must give the same numbers whichever iterations run before it"
DEFINE = "define it in the file, or take it as an argument, which an option of the class or a name in scalars() gives"
ALONE = (
    "samples run in blocks: compute each from its own numbers alone, with first + n as its index in the batch, or say "
    "couples_batch = True in the class if it needs the whole batch at once"
)


class Broken(Exception):
    """The kernel cannot be run, so nothing after it can be run either."""

    def __init__(self, column, kernel, sentence):
        super().__init__(sentence)
        self.column, self.kernel = column, kernel


def examine(run, answer):
    """Check every call of a `Run`; call `answer(column, kernel, sentence)` for each check, with None on success.

    Raises
    ------
    Broken
        A kernel cannot be run.
    """
    for call in run.calls():
        examine_call(call, answer)


def _record(call, answer):
    """Find races with the plain function; if it fails, the compiled one could destroy memory and is not run."""
    file = call.cpu.source.file
    try:
        call.cpu.python(np.float64)
    except SyntaxError as error:
        raise Broken("reference", call.name, f"{explained(call.cpu, error)}; with {call.bound()}") from None
    try:
        for sentence, line in (races(call.plain(), call.copies(fill=0)) or {None: None}).items():
            where = place(file, line) if line else None
            answer("races", call.name, sentence and told(call, sentence, where, RACE))
    except IndexError as error:
        text = f"reaches beyond an array{placed(error, file)}: {error}"
        raise Broken("shapes", call.name, f"{text}; {_room(call, error, file)}; with {call.bound()}") from None
    except Exception as error:
        text = f"fails as plain Python with {type(error).__name__}: {first_line(error)}{placed(error, file)}"
        remedy = f"; {DEFINE}" if isinstance(error, NameError) else ""
        raise Broken("shapes", call.name, f"{text}{remedy}; with {call.bound()}") from None


def told(call, sentence, where, remedy=""):
    """Complete a sentence on a kernel: where its author finds the fault, the remedy, what is bound."""
    return "; ".join(
        filter(None, (f"{sentence} ({where or written_in(call.cpu, '')})", remedy, f"with {call.bound()}"))
    )


def _room(call, error, file):
    """Return the remedy for an index beyond an array."""
    line = linecache.getline(file, author_line(error, file) or 0)
    small = [name for name in call.scratch if re.search(rf"\b{name}\b", line)]
    if small:
        return f"give {' and '.join(small)} the sizes that it needs in the layer's scratch()"
    return "let its loops end where the arrays do"


def examine_call(call, answer):
    """Check one call, as `examine` does, and store its results."""
    if call.run.real is np.float64:
        _record(call, answer)
    try:
        kernel = call.compiled()
    except NnjitError as error:
        raise Broken("reference", call.name, f"{error}; with {call.bound()}") from None
    marked, clean = call.copies(fill=mark(call.run.real)), call.copies(fill=0)
    kernel(*marked.values(), 0, 1)
    kernel(*clean.values(), 0, 1)
    _writes(call, marked, clean, answer)
    answer("threads", call.name, _threads(call, kernel, clean))
    expected = _expected(call)
    answer("reference", call.name, _reference(call, expected, clean))
    if _there_is_cuda():
        answer("cuda", call.name, _cuda(call, expected))
    if call.run.real is np.float32:
        sentence = promoted(call.cpu, call.signature())
        answer("float32", call.name, sentence and f"{sentence}; with {call.bound()}")
    call.keep(clean)


def _writes(call, marked, clean, answer):
    """Check that outputs are written whole, and that inputs and the memory around arrays do not change."""
    faults: list[str | None] = [told(call, f"writes beyond the ends of {name}", None) for name in marked.crossed()]
    before = call.copies()
    for name in call.inputs:
        if not same_bits(clean[name], before[name]).all():
            at = _at(name, ~same_bits(clean[name], before[name]))
            faults.append(told(call, f"changes {at}, which it may only read", written_in(call.cpu, name), CHANGES))
    for name in call.outputs:
        differs = ~same_bits(marked[name], clean[name])
        left = unwritten(marked[name]) & (clean[name] == 0)  # elements that still hold both fills
        if left.any():
            faults.append(told(call, f"leaves {_at(name, left)} unwritten", written_in(call.cpu, name), UNWRITTEN))
        elif differs.any():
            text = f"{_at(name, differs)} depends on what it held before: it must be written, not added to"
            faults.append(told(call, text, written_in(call.cpu, name)))
    for sentence in faults or [None]:
        answer("writes", call.name, sentence)


def _threads(call, kernel, whole):
    """Check that a divided loop and a block of one sample give the same bits; return the fault, or None."""
    parted = call.copies(fill=0)
    for part in reversed(range(PARTS)):
        kernel(*parted.values(), part, PARTS)
    for name, array in whole.items():
        if isinstance(array, np.ndarray) and not same_bits(array, parted[name]).all():
            at = _at(name, ~same_bits(array, parted[name]))
            text = f"{at} comes out differently when its loop is divided into {PARTS} parts"
            return told(call, text, written_in(call.cpu, name), DIVIDED)
    if not call.by_sample:
        return None
    for n in range(call.run.N):
        block = call.copies(fill=0, n0=n, n1=n + 1)
        kernel(*block.values(), 0, 1)
        for name in call.outputs:
            rows = whole[name].reshape(call.run.N, -1)[n]
            if not same_bits(rows, block[name].reshape(-1)).all():
                text = f"sample {n} of {name} comes out differently when it is alone in its block"
                return told(call, text, written_in(call.cpu, name), ALONE)
    return None


def _expected(call):
    """Run the NumPy twin, or the kernel's own plain function, on the same numbers in float64; return its arguments."""
    expected = call.copies(fill=0, dtype=np.float64)
    with np.errstate(all="ignore"), _scratch(call, expected, call.run.reference_scratch):
        call.reference()(*expected.values())
    return expected


@contextmanager
def _scratch(call, copies, kept):
    """Give the kernels of each device the scratch that kernels of the same device wrote: its layout may differ."""
    for name in call.scratch:
        if call.values[name] in kept:
            copies[name][...] = kept[call.values[name]].reshape(copies[name].shape)
    yield
    kept.update({call.values[name]: copies[name].copy() for name in call.scratch})


@cache
def _there_is_cuda():
    """Return whether there is a GPU, or NUMBA_ENABLE_CUDASIM=1."""
    from ..kernels.gpu import driver  # late: numba.cuda takes time to import

    try:
        driver.require()
    except DeviceError:
        return False
    return True


def _cuda(call, expected):
    """Compare the kernel's CUDA form with the reference; return the fault, or None."""
    from ..kernels.gpu import launch  # late, as above
    from ..kernels.gpu.driver import translated

    found = call.copies(fill=mark(call.run.real))
    try:
        with _scratch(call, found, call.run.cuda_scratch), translated("cannot run"):
            launch.run(cuda_form(call), *found.values())
    except DeviceError as error:
        return str(error)
    except IndexError as error:  # only the simulator checks indices
        return f"reaches beyond an array: {error}"
    crossed = [f"writes beyond the ends of {name}" for name in found.crossed()]
    return crossed[0] if crossed else _differs(call, expected, found)


def _reference(call, expected, computed):
    """Compare the compiled kernel with the reference; return the fault, or None."""
    if isinstance(call.kernel, Operation) and call.cpu.arguments != call.kernel.arguments:
        return f"takes {call.cpu.arguments} on the CPU but {call.kernel.arguments} in the reference"
    return _differs(call, expected, computed)


def _differs(call, expected, computed):
    """Return the first element of a result that differs from the reference, as a sentence, or None."""
    for name, wanted in expected.items():
        if not isinstance(wanted, np.ndarray) or not wanted.size or name in call.scratch:
            continue
        came = computed[name].astype(np.float64)
        finite = np.abs(wanted[np.isfinite(wanted)])
        limit = TOLERANCES[call.run.real] * max(1.0, finite.max(initial=0.0))
        with np.errstate(invalid="ignore"):
            wrong = ~((np.abs(came - wanted) <= limit) | (came == wanted) | (np.isnan(came) & np.isnan(wanted)))
        if wrong.any():
            i = tuple(np.argwhere(wrong)[0])
            text = f"{_at(name, wrong)} is {came[i]:.7g}, the reference gives {wanted[i]:.7g}"
            return told(call, text, written_in(call.cpu, name))
    return None


def _at(name, where):
    """Name the first element of an array where a mask is true: ``dW[0, 1]``."""
    return f"{name}[{', '.join(map(str, np.argwhere(where)[0]))}]"
