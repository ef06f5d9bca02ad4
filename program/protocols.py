"""The attributes of networks and of clippings that programs use: they are defined above this room."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.schema import Schema
from ..layers.base import Layer
from .graph import Graph


class NetworkLike(Protocol):
    """The attributes of a network that programs, files and training use; `nnjit.Network` has them."""

    seed: int
    trained_on: Schema | None

    @property
    def layers(self) -> list[Layer]: ...
    @property
    def graph(self) -> Graph: ...
    @property
    def input_shape(self) -> tuple[int, ...]: ...
    @property
    def output_shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype: ...
    @property
    def device(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def theta(self) -> NDArray[Any]: ...
    @property
    def gradient(self) -> NDArray[Any]: ...
    @property
    def flat_buffers(self) -> NDArray[Any]: ...
    @property
    def parameters(self) -> Mapping[str, NDArray[Any]]: ...
    @property
    def buffers(self) -> Mapping[str, NDArray[Any]]: ...
    def description(self) -> dict[str, Any]: ...
    def summary(self) -> str: ...
    def _apply(self, x: ArrayLike) -> NDArray[Any]: ...


@runtime_checkable
class ClipLike(Protocol):
    """The attributes of a clipping that programs use; `training.clip.Clip` has them.

    Attributes
    ----------
    max : float
        The largest norm of a gradient that is not scaled.
    p : float
        The p of the norm.
    """

    max: float
    p: float
