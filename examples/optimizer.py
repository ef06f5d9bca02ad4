"""A custom update rule, for ``nnjit run --plugin examples/optimizer.py``: steps by the sign of the gradient."""

import numpy as np
from nnjit.registry import optimizers
from nnjit.training import Optimizer, kernel
from numba import prange


@optimizers.register("sign_sgd")
class SignSGD(Optimizer):
    """theta <- theta - eta sign(v), v <- momentum v + (1 - momentum) g (Bernstein et al. 2018, arXiv:1802.04434)."""

    lr: float = 1e-3
    momentum: float = 0.9

    moments = ("velocity",)

    @kernel(form="flat")
    def update(theta, gradient, velocity, rate, momentum):
        for i in prange(theta.size):
            velocity[i] = momentum * velocity[i] + (1.0 - momentum) * gradient[i]
            theta[i] -= rate * np.sign(velocity[i])
