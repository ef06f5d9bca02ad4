"""Operations by name: ``operation("conv.forward")`` names function `forward` of `conv.py` in the device's folder."""

import inspect
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec


class Operation:
    """A function that every device's folder holds in the same file, with the same name and order of arguments.

    Parameters
    ----------
    name : str
        ``file.function``.
    form : None, "flat" or int
        Shape of its arrays (`program.slots.shaped`): 3 lifts images of 1 and 2 dimensions to 3.
    files : dict
        Folder -> the file of another algorithm for the same function; "few" -> the CPU's for few samples, where kernels
        are compiled into the program.
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
        """Return the function of a folder: "reference", "cpu", "few" or "cuda"; a file that "cuda" lacks is the CPU's.

        Each file is imported when its first operation is needed: all of them together take 0.2 s.
        """
        file = self.files.get(folder, self.file)
        if folder == "few":
            file, folder = self.files.get("few", self.files.get("cpu", self.file)), "cpu"
        if folder == "cuda" and find_spec(f".cuda.{file}", __package__) is None:
            folder = "cpu"
        return getattr(import_module(f".{folder}.{file}", __package__), self.function)


def operation(name, form=None, **files):
    """Name an operation of `kernels/`; see `Operation`."""
    return Operation(name, form, **files)


def columns_of(kernel):
    """Return an operation for samples that are columns, of the file with ``_columns`` behind its name.

    None for other kernels: a class that derives from a built-in layer or loss may have its own.
    """
    return (
        operation(f"{kernel.file}_columns.{kernel.function}", form="matrix") if isinstance(kernel, Operation) else None
    )
