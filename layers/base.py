"""What a layer is: its shapes, its parameters and its kernels.

A layer is a class whose annotated attributes are its options and whose other attributes named ``forward`` and
``backward_...`` are kernels. Arguments of kernels are bound by name:

===========================  =======================================================================================
``x``, ``y``                 input and output of the layer, (N, *shape)
``dy``, ``dx``               dC/dy (given) and dC/dx (to be written)
a parameter, ``d`` + it      ``W`` and ``dW``: the part of theta, and of its gradient (to be written, not added to)
an option or scalar          a number, or a tuple of whole numbers (see `Layer.scalars`)
a buffer                     saved but not learned (see `Layer.buffers`)
a scratch array              kept from forward to backward (see `Layer.scratch`); ``d`` + it for its gradient
``training``                 True in training, False in prediction
``seed``                     a whole number that differs for every step and layer
``first``                    the index in the batch of the first sample of this block
===========================  =======================================================================================
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Literal

from ..kernels.compiler.elementwise import elementwise
from ..kernels.compiler.kernel import Kernel, kernel
from ..kernels.geometry import Window
from ..kernels.operations import Operation, operation
from ..registry import Options
from ..registry.options import SpecLike

__all__ = ["Layer", "Parameter", "constant", "elementwise", "kernel", "operation", "weight", "zeros"]


@dataclass(frozen=True)
class Parameter:
    """A learned array: its shape, how it starts, and how many numbers flow in and out of one unit.

    Parameters
    ----------
    shape : tuple of int
    start : spec or float
        A registered initialiser, a number for every element, or None: what suits the activation that follows.
    fan_in, fan_out : int
        Inputs and outputs of one unit, for initialisers that scale by them.
    """

    shape: tuple[int, ...]
    start: Any = None
    fan_in: int = 1
    fan_out: int = 1

    @property
    def size(self) -> int:
        return prod(self.shape)


def constant(value: float, shape: Sequence[int]) -> Parameter:
    """A parameter or buffer that starts as one number everywhere."""
    return Parameter(tuple(shape), float(value))


def zeros(shape: Sequence[int]) -> Parameter:
    """A parameter or buffer that starts as zero."""
    return constant(0.0, shape)


def weight(shape: Sequence[int], fan_in: int, fan_out: int, init: SpecLike | None = None) -> Parameter:
    """A parameter drawn by a registered initialiser; None chooses by the activation that follows."""
    return Parameter(tuple(shape), init, fan_in, fan_out)


class Layer(Options):
    """Base of all layers. Subclasses set kernels and override what differs from "same shape, no parameters"."""

    forward: ClassVar[Kernel | Operation | None] = None
    backward_input: ClassVar[Kernel | Operation | None] = None
    couples_batch: ClassVar[bool] = False  # forward needs the whole batch at once (batch normalisation)
    alias: ClassVar[bool] = False  # output and input are the same memory, in another shape; such a layer has no kernels
    inner: ClassVar[str | None] = None  # of a container: the option that holds the specs of the layers inside
    add: ClassVar[Operation | None] = None  # of a container: the kernel of the sum of its input and the layers' output
    initializer: ClassVar[str | None] = None  # of an activation: what suits the weights before it
    reads_channels: ClassVar[bool] = True  # whether it matters which axis of the input holds the channels
    # (spec, input shape) pairs for `nnjit check`, where "(3)" and "" mean options of this layer; None: check chooses.
    # Good cases have sizes of 1, primes, strides that leave a remainder, every border, and numbers of rows and columns
    # that fill a register tile and leave a remainder.
    check_cases: ClassVar[Sequence[tuple[Any, tuple[int, ...]]] | None] = None

    def kernel(self, attribute: str, in_shape: tuple[int, ...]) -> Kernel | Operation:
        """The kernel of an attribute for inputs of a shape: the same for all, unless a layer knows better."""
        return getattr(self, attribute)

    def output_shape(self, in_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the output without the batch; raises ShapeError for an input that cannot be."""
        return in_shape

    def parameters(self, in_shape: tuple[int, ...]) -> dict[str, Parameter]:
        """name -> Parameter, in the order in which they stand in theta."""
        return {}

    def buffers(self, in_shape: tuple[int, ...]) -> dict[str, Parameter]:
        """name -> Parameter: saved but not learned."""
        return {}

    def scratch(self, in_shape: tuple[int, ...]) -> dict[str, tuple[int | str, ...]]:
        """name -> shape of an array kept from forward to backward; ("N", ...) has one row a sample."""
        return {}

    def scalars(self, in_shape: tuple[int, ...]) -> dict[str, Any]:
        """name -> number or tuple of whole numbers that kernels may bind; by default the options."""
        return {k: v for k, v in self.options().items() if isinstance(v, (bool, int, float, tuple))}

    def contents(self) -> list["Layer"]:
        """The layers inside a container; of any other layer none."""
        return []

    def window(self, in_shape: tuple[int, ...]) -> Window | None:
        """The `geometry.Window` that slides over the input; None for a layer without one."""
        return None

    def sees(self, in_shape: tuple[int, ...]) -> Window | Literal["same", "all", "varies"]:
        """Which input cells an output cell depends on, for the column "sees" of the summary.

        Returns
        -------
        Window : those in the window
        "same" : those at the same position
        "all" : every cell
        "varies" : it differs from cell to cell
        """
        return self.window(in_shape) or ("same" if self.alias or self.output_shape(in_shape) == in_shape else "all")

    def connections(self, in_shape: tuple[int, ...]) -> int | None:
        """How many numbers of the dense matrix that a linear layer stands for are not zero; None: it is not linear."""
        return None

    def smallest_batch(self, in_shape: tuple[int, ...]) -> int:
        """Samples that a training batch must have for the layer to learn from it; fewer cause a warning."""
        return 1

    def operations(self, in_shape: tuple[int, ...]) -> int:
        """Multiplications of one sample's forward pass, for the cost model; by default one a number."""
        return prod(self.output_shape(in_shape))

    @classmethod
    def gradients(cls) -> dict[str, Kernel | Operation]:
        """name -> kernel of every ``backward_...`` attribute that writes gradients of parameters."""
        found = {}
        for base in reversed(cls.__mro__):
            for name, value in vars(base).items():
                if name.startswith("backward_") and name != "backward_input":
                    found[name] = value
        return {name: value for name, value in found.items() if value is not None}
