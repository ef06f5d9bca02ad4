"""A container: layers with a way around them."""

from ..errors import SpecError
from ..registry import layers as catalogue
from ..registry import register
from .base import Layer, operation


@register("residual")
class Residual(Layer):
    """y = f(x) + x, f the layers inside, which keep the shape (He et al. 2016, arXiv:1512.03385).

    ``residual(["conv(8, 3, padding='same')", "relu"])``; layers may hold residuals again.
    """

    layers: list | tuple

    inner = "layers"
    add = operation("residual.add", form="flat")
    check_cases = [
        ("(['dense(4)', 'tanh'])", (4,)),
        ("(['conv(2, 3, padding=\"same\")', ('residual', {'layers': ['sigmoid']}), 'batchnorm'])", (2, 3, 4)),
    ]

    def validate(self):
        if not self.layers:
            raise SpecError("residual: layers must hold at least one layer spec, got none")
        self._contents = []
        for position, spec in enumerate(self.layers, start=1):
            try:
                self._contents.append(catalogue.create(spec))
            except SpecError as error:
                raise SpecError(f"residual: layer {position}: {error}") from None

    def contents(self):
        """The layers inside, made from their specs."""
        return self._contents
