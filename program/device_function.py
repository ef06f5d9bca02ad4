"""A network's functions for a user's own CUDA kernels: one sample in one thread.

The function is a text (text/sample.py) without the numbers of a network: theta is an argument, and so are the running
statistics of batch normalisation, if there are any. In a kernel the text is compiled as device functions
(kernels/gpu/thread.py); in Numba's simulator, and called from Python, it runs as plain Python.
"""

import ast
import linecache
from importlib.util import find_spec
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numba.core.errors import TypingError
from numba.extending import typeof_impl

from ..errors import DeviceError, ShapeError
from ..kernels.compiler import source
from ..kernels.compiler.cache import digest
from ..kernels.compiler.subnormal import exp, flush
from .graph import Graph
from .text import sample

if TYPE_CHECKING:
    from functools import cached_property as once  # the same for a type checker
else:
    from ..kernels.compiler.lock import once

NAMES = tuple(sample.ARGUMENTS)


class DeviceFunction:
    """A function for one sample in one thread; `Program.device_function` makes it.

    Parameters
    ----------
    graph : Graph
    dtype : NumPy dtype
    name : "predict" or "vjp"

    Attributes
    ----------
    name : str
    source : str
        The text.
    """

    def __init__(self, graph: Graph, dtype: np.dtype, name: str) -> None:
        self.name = name
        text, self._formulas = sample.write(graph, dtype, name)
        self.source: str = text
        self._arguments = sample.arguments(graph, name)
        self._real: Any = dtype.type

    def __str__(self) -> str:
        listed = ", ".join(f"{name} ({size},)" for name, size, _ in self._arguments)
        return f"{self.name}({listed}) of {self._real.__name__}"

    def __repr__(self) -> str:
        return f"<device function {self}>"

    def __call__(self, *arrays: Any) -> None:
        """Run the text in plain Python."""
        with np.errstate(all="ignore"):
            self._plain(*arrays)

    @once
    def _plain(self):
        def expect(*arrays):
            for (name, size, optional), array in zip(self._arguments, arrays, strict=True):
                is_array = hasattr(array, "dtype") and hasattr(array, "shape")  # the simulator has its own kind
                kind = f"{array.dtype} {array.shape}" if is_array else type(array).__name__
                if not (array is None and optional) and kind != f"{np.dtype(self._real)} {(size,)}":
                    raise ShapeError(f"{self.name}: {name}: expected {np.dtype(self._real)} {(size,)}, got {kind}")

        space = {"each": each, "expect": expect, "real": self._real, "_real": self._real, "_exp": exp, "flush": flush}
        space |= {"cuda": PLAIN, "np": np, "in_memory": in_memory}
        for name, formula in self._formulas:
            definition, namespace = formula.scalar(self._real, ("exp",))
            namespace = {**namespace, "_real": self._real, "_exp": exp}
            space[name] = source.build(definition, name, formula.source.file, namespace)
        file = f"<nnjit {self.name} {digest(self.source)}>"
        linecache.cache[file] = (len(self.source), None, self.source.splitlines(True), file)
        module = ast.parse(self.source)
        module.body = [source.real(n, space, ("exp",)) if isinstance(n, ast.FunctionDef) else n for n in module.body]
        exec(compile(ast.fix_missing_locations(module), file, "exec"), space)
        return space[self.name]

    @property
    def _numba_type_(self) -> Any:
        """The type of the compiled function, which numba.cuda reads where a kernel uses this one."""
        if find_spec("numba_cuda") is None:
            raise DeviceError('device_function: the package numba-cuda is not installed; pip install "nnjit[cuda]"')
        from ..kernels.gpu import thread  # only kernels for CUDA need numba.cuda

        listed = tuple((name, optional) for name, _, optional in self._arguments)
        made = thread.functions(self.name, listed, self.source, tuple(self._formulas), self._real)
        return made[self.name]._numba_type_


def each(count, function, *arguments):
    """Call function(j, *arguments) for j from 0 to count - 1; in a kernel the calls are inlined (gpu/thread.py)."""
    for j in range(count):
        function(j, *arguments)


def in_memory(*arrays):
    """Do nothing; in a kernel the compiler then reads these arrays again after each fence (gpu/thread.py)."""


# The names of numba.cuda that the text uses, in plain Python.
PLAIN = SimpleNamespace(local=SimpleNamespace(array=np.empty), threadfence_block=lambda: None)


@typeof_impl.register(DeviceFunction)
def _typeof(function, context):
    raise TypingError(
        f"{function.name} of device_function is for kernels of numba.cuda (the package numba-cuda); jitted code for the"
        f" CPU takes program.{function.name} as an argument"
    )
