"""An nnjit plug-in: after ``pip install``, ``channel_scale`` is a layer like any other."""

from nnjit.layers import Layer, constant, kernel
from nnjit.registry import register
from numba import prange


@register("channel_scale")
class ChannelScale(Layer):
    """y = gain * x for each channel. (N, C, *spatial) -> same shape."""

    start: float = 1.0

    def parameters(self, in_shape):
        return {"gain": constant(self.start, (in_shape[0],))}

    @kernel(form="channels")
    def forward(x, gain, y):
        for n in prange(x.shape[0]):
            for c in range(x.shape[1]):
                for p in range(x.shape[2]):
                    y[n, c, p] = gain[c] * x[n, c, p]

    @kernel(form="channels")
    def backward_input(gain, dy, dx):
        for n in prange(dy.shape[0]):
            for c in range(dy.shape[1]):
                for p in range(dy.shape[2]):
                    dx[n, c, p] = gain[c] * dy[n, c, p]

    @kernel(form="channels")
    def backward_gain(x, dy, dgain):
        for c in prange(x.shape[1]):
            total = 0.0
            for n in range(x.shape[0]):
                for p in range(x.shape[2]):
                    total += dy[n, c, p] * x[n, c, p]
            dgain[c] = total
