"""Operations by name: ``operation("conv.forward")`` is the function `forward` of `conv.py` in the device's folder."""

import inspect
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec


class Operation:
    """One function that every device's folder holds under the same file, name and argument order.

    Parameters
    ----------
    name : str
        ``file.function``.
    form : None, "flat" or int
        How its arrays are shaped (`program.slots.shaped`): 3 lifts images of 1 and 2 dimensions to 3.
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
        """The function of a folder: "reference", "cpu", or "cuda", which takes the CPU's file where it has none.

        Each file is imported when an operation of it is wanted: all of them together take a fifth of a second.
        """
        file = self.files.get(folder, self.file)
        if folder == "cuda" and find_spec(f".cuda.{file}", __package__) is None:
            folder = "cpu"
        return getattr(import_module(f".{folder}.{file}", __package__), self.function)


def operation(name, form=None, **files):
    """Name an operation of `kernels/`; see `Operation`."""
    return Operation(name, form, **files)
