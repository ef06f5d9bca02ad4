"""The layer `affine`, a plug-in of nnjit: y = gain x + offset for each channel.

nnjit run --plugin affine.py --layers "affine flatten dense(10)"
"""

from nnjit.layers import Layer, constant, kernel, zeros
from nnjit.registry import register
from numba import prange


@register("affine")
class Affine(Layer):
    """y = gain * x + offset for each channel. (N, C, *spatial) -> same shape."""

    start: float = 1.0  # annotated attributes are the options, checked by type
    symmetric = True  # dy/dx is a diagonal matrix, so backward_input also serves forward mode (program.jvp)

    def parameters(self, in_shape):
        return {"gain": constant(self.start, (in_shape[0],)), "offset": zeros((in_shape[0],))}

    # Arguments are bound by name: x, y, their gradients dx, dy, the parameters, "d" + a parameter, the options. With
    # form="channels" arrays are (N, C, positions). A kernel holds one top-level prange loop; its iterations may run in
    # any order, so no two write the same element.

    @kernel(form="channels")
    def forward(x, gain, offset, y):
        N, C, P = x.shape
        for i in prange(N * C):
            n, c = i // C, i % C
            for p in range(P):
                y[n, c, p] = gain[c] * x[n, c, p] + offset[c]

    @kernel(form="channels")
    def backward_input(gain, dy, dx):
        N, C, P = dy.shape
        for i in prange(N * C):
            n, c = i // C, i % C
            for p in range(P):
                dx[n, c, p] = gain[c] * dy[n, c, p]

    @kernel(form="channels")
    def backward_parameters(x, dy, dgain, doffset):
        N, C, P = x.shape
        for c in prange(C):  # a gradient that sums over the batch is a loop over the parameter's own index
            g, o = 0.0, 0.0
            for n in range(N):
                for p in range(P):
                    g += dy[n, c, p] * x[n, c, p]
                    o += dy[n, c, p]
            dgain[c], doffset[c] = g, o
