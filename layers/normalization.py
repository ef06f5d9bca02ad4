"""Normalisations: scale to mean 0 and variance 1, then apply a learned gain and offset."""

import math

from ..errors import SpecError
from ..kernels.operations import columns_of
from ..registry import register
from .base import Layer, constant, operation, zeros


@register("batchnorm")
class BatchNorm(Layer):
    """y = gain (x - m) / sqrt(v + epsilon) + offset for each channel. (N, C, *spatial) -> same shape.

    Ioffe & Szegedy 2015, arXiv:1502.03167. In training m and v are the batch's mean and variance over N and all
    positions; in prediction they are running statistics, running <- momentum * running + (1 - momentum) * batch
    (PyTorch's momentum is 1 minus this one). As in PyTorch the running variance averages unbiased variances.

    A batch changes the running statistics of a channel only if it has two or more numbers in this channel (over samples
    and positions) and all are finite: one number has no variance. A single sample without positions, which PyTorch
    refuses in training, gives y = offset and dx = 0 here; a training program or a fit with such batches warns.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    couples_batch = True
    symmetric = True
    forward = operation("batchnorm.forward", form="channels")
    backward_input = operation("batchnorm.backward_input", form="channels")
    backward_parameters = operation("batchnorm.backward_parameters", form="channels")
    check_cases = [("", (5,)), ("(epsilon=0.1)", (1, 4)), ("(momentum=0.5)", (2, 3, 3))]

    def validate(self):
        if not 0 <= self.momentum <= 1:
            raise SpecError(f"batchnorm: momentum must be from 0 to 1, got {self.momentum}")
        _check_epsilon("batchnorm", self.epsilon)

    def parameters(self, in_shape):
        C = in_shape[0]
        return {"gain": constant(1.0, (C,)), "offset": zeros((C,))}

    def buffers(self, in_shape):
        C = in_shape[0]
        return {"running_mean": zeros((C,)), "running_variance": constant(1.0, (C,))}

    def scratch(self, in_shape):
        return {"mean": (in_shape[0],), "inverse_deviation": (in_shape[0],)}

    def smallest_batch(self, in_shape):
        return 2 if math.prod(in_shape[1:]) == 1 else 1


@register("layernorm")
class LayerNorm(Layer):
    """y = gain (x - m) / sqrt(v + epsilon) + offset, with m and v over all features of a sample. Any shape.

    Ba, Kiros & Hinton 2016, arXiv:1607.06450. gain and offset have the shape of a sample.
    """

    epsilon: float = 1e-5

    forward = operation("layernorm.forward", form="flat")
    backward_input = operation("layernorm.backward_input", form="flat")
    jvp = operation("jvp.layernorm", form="flat")
    backward_parameters = operation("layernorm.backward_parameters", form="flat")
    check_cases = [("(epsilon=0.1)", (1,)), ("", (7,)), ("", (2, 3, 5))]

    def column_kernel(self, attribute, in_shape):
        return columns_of(self.kernel(attribute, in_shape)) if len(in_shape) == 1 else None

    def validate(self):
        _check_epsilon("layernorm", self.epsilon)

    def sees(self, in_shape):
        return "all"

    def parameters(self, in_shape):
        return {"gain": constant(1.0, in_shape), "offset": zeros(in_shape)}

    def scratch(self, in_shape):
        return {"mean": ("N",), "inverse_deviation": ("N",)}


def _check_epsilon(name, epsilon):
    if not 0 < epsilon < math.inf:
        raise SpecError(f"{name}: epsilon must be a finite number above 0, got {epsilon}")
