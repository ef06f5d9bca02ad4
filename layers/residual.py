"""A container: layers with a skip connection around them."""

from ..errors import SpecError
from ..registry import layers as catalogue
from ..registry import register
from .base import Layer, operation


@register("residual")
class Residual(Layer):
    """y = f(x) + x, where f is the layers inside, which keep the shape (He et al. 2016, arXiv:1512.03385).

    ``residual(["conv(8, 3, padding='same')", "relu"])``; the layers inside may be residuals too.
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
            raise SpecError("residual: layers is empty, expected at least one layer spec")
        self._contents = []
        for position, spec in enumerate(self.layers, start=1):
            try:
                self._contents.append(catalogue.create(spec))
            except SpecError as error:
                raise SpecError(f"residual: layer {position}: {error}") from None

    def contents(self):
        """Return the layers inside, made from their specs."""
        return self._contents
