"""A text over the arrays of a state: its plan, its source, and three ways to run it.

A program is such a text, for training and prediction; on the CPU it has one more for each kind of derivative, and all
of them work on the same states (derivatives.py).
"""

import linecache
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..kernels.compiler.cache import digest
from ..kernels.compiler.elementwise import Formula
from ..kernels.operations import Operation
from .assemble import assemble
from .graph import Ref
from .overlap import IN_PYTHON
from .plan import Task, make_plan
from .slots import batch, block, columns, fixed, per_block
from .text.writer import write

if TYPE_CHECKING:
    from functools import cached_property as once  # the same for a type checker
else:
    from ..kernels.compiler.lock import once


class Code:
    """A text over the arrays of a state.

    Parameters
    ----------
    task : Task
    layout : int or None
        The number that a state and the functions must share (see `state`); None: that of this text and of `more`.
    more : str
        What else decides whether a state fits.

    Attributes
    ----------
    source : str
        The text.
    """

    def __init__(self, task: Task, layout: int | None = None, more: str = "") -> None:
        self.task, self.dtype, self.device = task, np.dtype(task.dtype), task.device
        self.plan = make_plan(task)
        self.source: str = write(self.plan)
        if layout is None:
            layout = 4 * int(digest(self.source, task.dtype, more)[:15], 16)
        # The text has the place of every array, so its number tells whether a state fits.
        self.layout = layout
        output = task.graph.output.index
        self.input, self.output = (self.plan.slot(Ref("value", index)) for index in (0, output))
        self.input_gradient, self.output_gradient = (self.plan.slot(Ref("delta", index)) for index in (0, output))

    @property
    def sizes(self) -> dict[str, int]:
        """The numbers of the arrays of a state that the text needs; those of "rates" vary."""
        S, task, layout = self.task.graph.size, self.task, self.plan.layout
        return {
            "theta": S, "gradient": S, "moments": len(task.optimizer.moments) * S if task.optimizer else 0,
            "buffers": task.graph.buffer_size, "arena": layout.arena_size, "log": self.plan.log.size,
            "counters": layout.counters_size,
        }  # fmt: skip

    # -- three ways to run the text ----------------------------------------------------------------------------------

    def reference(self) -> SimpleNamespace:
        """Run the text with the NumPy reference kernels; return its functions."""
        return self._in_python("reference")

    @once
    def run(self) -> Any:
        """Return the functions of the text, line by line in Python, with the compiled kernels of the device."""
        if self.device == "cpu":
            return self._in_python("cpu")
        from .device import DeviceRun  # only programs on CUDA need numba.cuda

        return DeviceRun(self)

    @once
    def functions(self) -> dict[str, Callable[..., Any]]:
        """Return the compiled functions of the text by name."""
        if self.device == "cpu":
            return assemble(self)
        names = ("predict", "step", "epoch") if self.task.loss is not None else ("predict",)
        return {name: getattr(self.run, name) for name in names}

    def namespace(self, bindings: Mapping[str, Any]) -> dict[str, Any]:
        """Run the text's definitions with the given kernels; return its names."""
        file = f"<nnjit program {digest(self.source)}>"
        linecache.cache[file] = (len(self.source), None, self.source.splitlines(True), file)
        space = {**bindings, "fixed": fixed, "batch": batch, "block": block, "columns": columns, "per_block": per_block}
        space |= IN_PYTHON
        space |= {"np": np, "inf": float("inf"), "prange": range, "__name__": __name__}
        space |= {name: self.layout + k for k, name in enumerate(("LIGHT", "LEARNS", "WHOLE"))}
        exec(compile(self.source, file, "exec"), space)
        return space

    def _in_python(self, folder):
        bound = {name: binding.python(_plain(binding.kernel, folder)) for name, binding in self.plan.bindings.items()}
        return SimpleNamespace(**self.namespace(bound))


def _plain(kernel, folder):
    """Return a kernel as a function over NumPy arrays: the reference, or the device's, called from Python."""
    if isinstance(kernel, Operation):
        return kernel.on(folder)
    if folder == "reference":
        return kernel.plain() if isinstance(kernel, Formula) else kernel.function
    return kernel
