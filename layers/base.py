"""Base of layers: shapes, parameters and kernels.

A layer is a class whose annotated attributes are its options. Its attributes ``forward`` and ``backward_...`` are
kernels, whose arguments are bound by name:

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

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..kernels.compiler.elementwise import Formula, elementwise
from ..kernels.compiler.kernel import Kernel, kernel
from ..kernels.geometry import Window
from ..kernels.operations import Operation, operation
from ..registry import Options
from ..registry.options import SpecLike

__all__ = ["Layer", "Parameter", "constant", "elementwise", "kernel", "operation", "weight", "zeros"]


@dataclass(frozen=True)
class Parameter:
    """A learned array: its shape, its initial values, and the numbers of inputs and outputs of one unit.

    Parameters
    ----------
    shape : tuple of int
    start : spec or float
        A registered initialiser, a number for every element, or None: the activation that follows chooses.
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
    """Make a parameter or buffer whose elements all start as one number."""
    return Parameter(tuple(shape), float(value))


def zeros(shape: Sequence[int]) -> Parameter:
    """Make a parameter or buffer that starts as zero."""
    return constant(0.0, shape)


def weight(shape: Sequence[int], fan_in: int, fan_out: int, init: SpecLike | None = None) -> Parameter:
    """Make a parameter drawn by a registered initialiser; with None the activation that follows chooses it."""
    return Parameter(tuple(shape), init, fan_in, fan_out)


class Layer(Options):
    """Base of all layers. Subclasses set kernels and override what differs from "same shape, no parameters".

    Attributes
    ----------
    forward, backward_input : kernel or operation, or None
        A layer with parameters has further ``backward_...`` kernels, which write their gradients.
    couples_batch : bool
        Forward needs the whole batch at once (batch normalisation).
    alias : bool
        Output and input are the same memory in another shape; such a layer has no kernels.
    inner : str or None
        Option of a container that holds the specs of the layers inside.
    add : operation or None
        Kernel of a container that adds its input to the output of the layers inside.
    initializer : str or None
        Initialiser that an activation chooses for the weights before it.
    jvp : kernel or operation, or None
        Computes dy, the derivative of y in the direction dx, in prediction; it may take what backward_input may.
    linear : tuple of str or None
        Forward is linear in x without these parameters, which it then gets as arrays of no numbers; so it is its own
        derivative, and needs no `jvp`.
    symmetric : bool
        The Jacobian dy/dx of prediction is symmetric, so backward_input serves as `jvp`. That of a formula always is.
        A class with another forward than that from which it derives says these three itself.
    fitted_to : "samples", "targets" or None
        The training data that sets the buffers before the first step (see `fitted`): the samples, for a layer that
        stands first, or the targets, for one that stands last. The loss of training is measured before the latter.
    reads_channels : bool
        The result depends on which axis of the input holds the channels.
    check_cases : list of (spec, input shape) or None
        Networks that `nnjit check` tries, where "(3)" and "" mean options of this layer; with None it chooses some.
        Good cases have sizes of 1, primes, strides that leave a remainder, every border, and numbers of rows and
        columns that fill a register tile and leave a remainder.
    """

    forward: ClassVar[Kernel | Operation | None] = None
    backward_input: ClassVar[Kernel | Operation | None] = None
    couples_batch: ClassVar[bool] = False
    alias: ClassVar[bool] = False
    inner: ClassVar[str | None] = None
    add: ClassVar[Operation | None] = None
    initializer: ClassVar[str | None] = None
    jvp: ClassVar[Kernel | Operation | None] = None
    linear: ClassVar[tuple[str, ...] | None] = None
    symmetric: ClassVar[bool] = False
    fitted_to: ClassVar[Literal["samples", "targets"] | None] = None
    reads_channels: ClassVar[bool] = True
    check_cases: ClassVar[Sequence[tuple[Any, tuple[int, ...]]] | None] = None

    def kernel(self, attribute: str, in_shape: tuple[int, ...]) -> Kernel | Operation:
        """Return the kernel of an attribute for inputs of a shape; by default one kernel serves all shapes."""
        return getattr(self, attribute)

    def column_kernel(self, attribute: str, in_shape: tuple[int, ...]) -> Kernel | Operation | None:
        """Return the kernel of an attribute for samples that are columns, arrays (features, N); None if there is none.

        Such a ``backward_...`` kernel adds to the gradients of the parameters. A formula is the same in both forms.
        """
        kernel = self.kernel(attribute, in_shape)
        return kernel if isinstance(kernel, Formula) else None

    def output_shape(self, in_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the output without the batch; raises ShapeError for an input shape that the layer cannot take."""
        return in_shape

    def parameters(self, in_shape: tuple[int, ...]) -> dict[str, Parameter]:
        """Map each name to its Parameter, in their order in theta."""
        return {}

    def buffers(self, in_shape: tuple[int, ...]) -> dict[str, Parameter]:
        """Map each name to a Parameter that is saved but not learned."""
        return {}

    def fitted(
        self,
        parts: Iterable[NDArray[np.float64]],
        names: Callable[[int], str],
        dtype: np.dtype,
        numbers: NDArray[np.bool_],
    ) -> dict[str, NDArray[Any]]:
        """Return the values of the buffers for training data; training calls it once, if there is `fitted_to`.

        Parameters
        ----------
        parts : iterable of ndarray (n, *in_shape), float64
            The training samples in the shape of the layer's input, or the targets, some rows at a time; it may be
            iterated again.
        names : callable
            ``names(2)`` is how messages call channel 2: "column 'pressure'".
        dtype : NumPy dtype
            The network's. DataError if the data is too fine or too large for it.
        numbers : ndarray (C,), bool
            False for channels that belong to categories, such as one-hot inputs and codes, which scales leave alone.
        """
        return {}

    def to_units(self, y: NDArray[Any], buffers: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Return what forward makes of outputs (N, ...), in NumPy; for a layer that is fitted to targets."""
        raise NotImplementedError

    def from_units(self, y: NDArray[Any], buffers: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Return the inverse of `to_units`, for targets in units (N, ...), which training takes in that form."""
        raise NotImplementedError

    def codes(self, in_shape: tuple[int, ...]) -> dict[int, int]:
        """Map the index of each input that holds a code to the number of codes: it is a whole number from 0 to below.

        The derivative with respect to a code is 0. Layers that scale the samples before this one leave codes as they
        are, training refuses other numbers there, and `nnjit check` draws codes.
        """
        return {}

    def scratch(self, in_shape: tuple[int, ...]) -> dict[str, tuple[int | str, ...]]:
        """Map each name to the shape of an array kept from forward to backward; "N" is the number of samples."""
        return {}

    def scalars(self, in_shape: tuple[int, ...]) -> dict[str, Any]:
        """Map each name to a number or tuple of whole numbers that kernels may bind; by default the options."""
        return {k: v for k, v in self.options().items() if isinstance(v, (bool, int, float, tuple))}

    def contents(self) -> list["Layer"]:
        """Return the layers inside a container; [] for any other layer."""
        return []

    def window(self, in_shape: tuple[int, ...]) -> Window | None:
        """Return the `geometry.Window` that slides over the input; None for a layer without one."""
        return None

    def sees(self, in_shape: tuple[int, ...]) -> Window | Literal["same", "all", "varies"]:
        """Return which input cells an output cell depends on, for the column "sees" of the summary.

        Returns
        -------
        Window : the cells in the window
        "same" : the cells at the same position
        "all" : every cell
        "varies" : a number that differs from cell to cell
        """
        return self.window(in_shape) or ("same" if self.alias or self.output_shape(in_shape) == in_shape else "all")

    def connections(self, in_shape: tuple[int, ...]) -> int | None:
        """Return how many elements of a linear layer's dense matrix are not zero; None if the layer is not linear."""
        return None

    def smallest_batch(self, in_shape: tuple[int, ...]) -> int:
        """Return the samples that a training batch must have for the layer to learn from it; fewer cause a warning."""
        return 1

    def operations(self, in_shape: tuple[int, ...]) -> int:
        """Multiplications of one sample's forward pass, for the cost model; by default one for each output."""
        return prod(self.output_shape(in_shape))

    @classmethod
    def gradients(cls) -> dict[str, Kernel | Operation]:
        """Map each ``backward_...`` attribute that writes gradients of parameters to its kernel."""
        found = {}
        for base in reversed(cls.__mro__):
            for name, value in vars(base).items():
                if name.startswith("backward_") and name != "backward_input":
                    found[name] = value
        return {name: value for name, value in found.items() if value is not None}
