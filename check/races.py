"""Detection of races: the plain Python function of a kernel runs on arrays that record which iteration touches what.

Threads divide the iterations of ``prange`` between them in any order. So two iterations may not write one element, and
no iteration may read an element that another writes. A run on threads would miss most such faults; this finds every
fault that happens on the given arrays. Every thread runs the code before and after the loop: it may write nothing.
"""

import math
import sys
import types
from types import FrameType

import numpy as np

from ..kernels.compiler.reached import FOREIGN

# Functions of math refuse infinite results and compute in float64; NumPy's of the same name do neither.
FUNCTIONS = {
    f: getattr(np, n) for n, f in vars(math).items() if callable(f) and isinstance(getattr(np, n, 0), np.ufunc)
}
MATH = types.SimpleNamespace(**{name: FUNCTIONS.get(f, f) if callable(f) else f for name, f in vars(math).items()})
OUTSIDE = "the code outside of its loop"  # stands for the number of an iteration


class Log:
    """The iterations that wrote and read each element, by (array, element), and the conflicts found so far."""

    def __init__(self, file=None):
        self.file = file
        self.iteration: int | str = OUTSIDE
        self.writers, self.readers, self.later_readers = {}, {}, {}
        self.lines = {}  # (array, element) -> the line that took part in its conflict last
        self.found = {}  # array -> sentence, place, line

    def prange(self, *bounds):
        if self.iteration is not OUTSIDE:  # an inner prange is an ordinary loop
            yield from range(*bounds)
            return
        for i in range(*bounds):
            self.iteration = i
            yield i
        self.iteration = OUTSIDE

    def write(self, array, element):
        writer = self.writers.setdefault((array, element), self.iteration)
        if self.iteration is OUTSIDE or self.readers.get((array, element), self.iteration) != self.iteration:
            self.lines[array, element] = self._line()
        if self.iteration is OUTSIDE:
            self._note(array, element, f"{OUTSIDE}, which every thread runs, writes {{}}")
        elif writer != self.iteration:
            self.lines[array, element] = self._line()
            self._note(array, element, f"iterations {writer} and {self.iteration} of its loop both write {{}}")

    def read(self, array, element):
        if self.readers.setdefault((array, element), self.iteration) != self.iteration:
            self.later_readers[array, element] = self.iteration
        if self.writers.get((array, element), self.iteration) != self.iteration:
            self.lines[array, element] = self._line()

    def _line(self):
        """Return the number of the line of the kernel's file that runs now, or None."""
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and frame.f_code.co_filename != self.file:
            frame = frame.f_back
        return frame and frame.f_lineno

    def finish(self):
        """Map all sentences to lines; only after the last iteration is it known who reads what another writes."""
        for (array, element), writer in self.writers.items():
            for readers in (self.readers, self.later_readers):
                reader = readers.get((array, element), writer)
                if reader != writer:
                    who = reader if reader is OUTSIDE else f"iteration {reader} of its loop"
                    self._note(array, element, f"{who} reads {{}}, which iteration {writer} writes")
        return {text.format(place): line for text, place, line in self.found.values()}

    def _note(self, array, element, text):
        index = ", ".join(map(str, np.unravel_index(element, array.shape)))
        found = text, f"{array.name}[{index}]", self.lines.get((array, element))
        self.found.setdefault(array.name, found)


class Array:
    """The name and shape under which elements are reported; equal only to itself."""

    def __init__(self, name, shape):
        self.name, self.shape = name, shape


class Recorded(np.lib.mixins.NDArrayOperatorsMixin):
    """An array, or a view of one, that logs reads and writes by the elements of the whole `array`."""

    def __init__(self, log, array, values, elements):
        self._log, self._array, self._values, self._elements = log, array, values, elements

    def _part(self, values, elements):
        return Recorded(self._log, self._array, values, elements)

    def __getitem__(self, key):
        values, elements = self._values[key], self._elements[key]
        if isinstance(values, np.ndarray):
            return self._part(values, elements)
        self._log.read(self._array, int(elements))
        return values

    def __setitem__(self, key, value):
        self._values[key] = _plain(value)
        for element in np.ravel(self._elements[key]):
            self._log.write(self._array, int(element))

    def __array__(self, dtype=None, copy=None):
        for element in self._elements.ravel():
            self._log.read(self._array, int(element))
        return np.array(self._values, dtype)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        result = getattr(ufunc, method)(*map(_plain, inputs), **options)
        if out is not None:  # a += b
            out[0][...] = result
        return result if out is None else out[0]

    def __len__(self):
        return len(self._values)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getattr__(self, name):
        if name in ("shape", "size", "ndim", "dtype"):
            return getattr(self._values, name)
        if name == "T":
            return self._part(self._values.T, self._elements.T)
        if name == "flat":
            return self._part(self._values.reshape(-1), self._elements.reshape(-1))
        if name in ("reshape", "ravel", "transpose"):
            views = [getattr(a, name) for a in (self._values, self._elements)]
            return lambda *sizes: self._part(*(view(*sizes) for view in views))
        if name.startswith("__"):  # a protocol of NumPy's that this class lacks
            raise AttributeError(name)
        return getattr(np.asarray(self), name)  # sum, dot, ...: reads every element


def races(function, arguments):
    """Run the plain function of a kernel and return where its iterations conflict.

    Parameters
    ----------
    function : Python function with one ``for i in prange(n)``
    arguments : dict
        name -> array or number; arrays are written as the kernel would.

    Returns
    -------
    dict
        One sentence for each array with a race -> the number of the line where it happens, or None.

    Raises
    ------
    IndexError
        The function reaches beyond an array.
    """
    log, recorded, values = Log(function.__code__.co_filename), {}, []
    for name, value in arguments.items():
        if isinstance(value, np.ndarray):
            memory = value.__array_interface__["data"] if value.size else name
            if memory not in recorded:
                elements = np.arange(value.size).reshape(value.shape)
                recorded[memory] = Recorded(log, Array(name, value.shape), value, elements)
            value = recorded[memory]
        values.append(value)
    with np.errstate(all="ignore"):
        interpreted(function, log.prange)(*values)
    return log.finish()


def interpreted(function, prange, known=None):
    """Return the function with `prange` replaced and with all compiled helpers below it as plain Python."""
    known = {} if known is None else known
    if function not in known:
        plain = function.py_func if _is_compiled(function) else function
        space = dict(plain.__globals__)
        cells = [types.CellType(cell.cell_contents) for cell in plain.__closure__ or ()]
        known[function] = types.FunctionType(
            plain.__code__, space, plain.__name__, plain.__defaults__, tuple(cells) or None
        )
        for name in _reached(plain.__code__) & space.keys():
            space[name] = _plain_form(space[name], prange, known)
        for cell in cells:
            cell.cell_contents = _plain_form(cell.cell_contents, prange, known)
        space["prange"] = prange
    return known[function]


def _reached(code):
    """Return the names of globals and attributes in a function's code and in those inside it."""
    return {*code.co_names}.union(*(_reached(each) for each in code.co_consts if isinstance(each, types.CodeType)))


def _plain_form(value, prange, known):
    """Return what stands for a value in plain Python: of any compiled or user's function, and of the module math."""
    if value is math:
        return MATH
    if _is_compiled(value) or (isinstance(value, types.FunctionType) and _top(value) not in FOREIGN):
        return interpreted(value, prange, known)
    return FUNCTIONS.get(value, value) if isinstance(value, types.BuiltinFunctionType) else value


def _top(value):
    return (value.__module__ or "").partition(".")[0]


def _is_compiled(value):
    return isinstance(getattr(value, "py_func", None), types.FunctionType)


def _plain(value):
    return np.asarray(value) if isinstance(value, Recorded) else value
