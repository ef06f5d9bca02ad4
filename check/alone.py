"""Kernels outside of a network: those of a loss and of an optimizer, on separate arrays."""

from typing import Any

import numpy as np

from ..program.slots import Slot
from .runner import Call, in_form


class Setting:
    """The type of the floats of some calls, and the number of samples."""

    def __init__(self, real, N=0):
        self.real, self.N = real, N
        self.reference_scratch: dict[Any, Any] = {}
        self.cuda_scratch: dict[Any, Any] = {}


class Alone(Call):
    """A call of a kernel on given arrays.

    Parameters
    ----------
    setting : Setting
    name : str
        The name in messages.
    kernel : Kernel or Operation
    given : dict
        Argument -> array or number. If the call has samples, arrays have a row for each.
    inputs, outputs : tuple of str
        Arrays that it must not change, and those that it must write whole.
    kept : tuple of str
        Arrays that it changes.
    """

    def __init__(self, setting, name, kernel, given, inputs=(), outputs=(), kept=()):
        self.run, self.name, self.kernel, self.form = setting, name, kernel, kernel.form
        self.given = {argument: given[argument] for argument in kernel.arguments}
        self.by_sample, self.values, self.scratch = setting.N > 0, {}, []
        self.inputs, self.outputs, kept = ([n for n in names if n in self.given] for names in (inputs, outputs, kept))
        self.results = [*self.outputs, *kept]

    def arguments(self, n0=0, n1=None):
        return {name: self._argument(value, n0, n1) for name, value in self.given.items()}

    def _argument(self, value, n0, n1):
        if isinstance(value, np.ndarray):
            rows = value[n0:n1] if self.by_sample else value
            slot = Slot("", 0, rows.shape[1:] if self.by_sample else rows.shape, self.by_sample)
            return in_form(rows, slot, self.form)
        return self.run.real(value) if type(value) is float else value

    def exact(self):
        """Return the same call with its arrays in the longest floats of NumPy."""
        twin = Alone(self.run, self.name, self.kernel, self.given)
        twin.given = {name: np.array(v, np.longdouble) if _is_real(v) else v for name, v in self.given.items()}
        return twin


def _is_real(value):
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"
