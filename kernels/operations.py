"""Operations by name: ``operation("conv.forward")`` is the function `forward` of `conv.py` in the device's folder."""

import inspect
from functools import cached_property
from importlib import import_module


class Operation:
    """One function that every device's folder holds under the same file, name and argument order.

    Parameters
    ----------
    name : str
        ``file.function``.
    form : None, "flat" or int
        How its arrays are shaped (`kernels.slots.shaped`): 3 lifts images of 1 and 2 dimensions to 3.
    files : dict
        Folder -> the file of another algorithm for the same function, where that folder has one.
    """

    def __init__(self, name, form=None, **files):
        self.name, self.form, self.files = name, form, files
        self.file, self.function = name.split(".")

    def __repr__(self):
        return f"<operation {self.name}>"

    def __eq__(self, other):
        return isinstance(other, Operation) and self._key == other._key

    def __hash__(self):
        return hash(self._key)

    @property
    def _key(self):
        return self.name, self.form, *sorted(self.files.items())

    @cached_property
    def arguments(self):
        return tuple(inspect.signature(self.on("reference")).parameters)

    def on(self, folder):
        """The function of `folder`: "reference", "cpu" or "cuda"."""
        return getattr(import_module(f"nnjit.kernels.{folder}.{self.files.get(folder, self.file)}"), self.function)


def operation(name, form=None, **files):
    """Name an operation of `kernels/`; see `Operation`."""
    return Operation(name, form, **files)
