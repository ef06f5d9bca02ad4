"""Update rules, in place on flat arrays: theta, its gradient (the mean over the batch) and the moments.

Parallel plan: every parameter by itself; one pass reads the gradient and moments and writes theta and the moments.
Factors that depend only on the step are computed before the loop. Stored numbers are flushed (subnormal.py). Formulas
and sources are in reference/update.py.
"""

import numpy as np
from numba import prange

from ..compiler.kernel import kernel
from ..compiler.subnormal import flush


@kernel
def gradient_descent(theta, gradient, rate, weight_decay):
    """theta <- theta - eta g, g = gradient + weight_decay theta (lecture, update formula)."""
    for i in prange(theta.size):
        theta[i] = flush(theta[i] - rate * (gradient[i] + weight_decay * theta[i]))


@kernel
def sgd(theta, gradient, velocity, rate, momentum, nesterov, weight_decay):
    """v <- momentum v + g; theta <- theta - eta v, or eta (g + momentum v) with nesterov."""
    for i in prange(theta.size):
        g = gradient[i] + weight_decay * theta[i]
        v = flush(momentum * velocity[i] + g)
        velocity[i] = v
        theta[i] = flush(theta[i] - rate * (g + momentum * v if nesterov else v))


@kernel
def rmsprop(theta, gradient, second_moment, rate, decay, epsilon):
    """s <- decay s + (1 - decay) g^2; theta <- theta - eta g / (sqrt(s) + epsilon)."""
    for i in prange(theta.size):
        g = gradient[i]
        s = flush(decay * second_moment[i] + (1.0 - decay) * g * g)
        second_moment[i] = s
        theta[i] = flush(theta[i] - rate * g / (np.sqrt(s) + epsilon))


@kernel
def adam(theta, gradient, first_moment, second_moment, rate, step, beta1, beta2, epsilon, weight_decay):
    """m <- beta1 m + (1 - beta1) g; s <- beta2 s + (1 - beta2) g^2; theta <- theta - eta m^ / (sqrt(s^) + epsilon)."""
    # 1 - beta^step by expm1: the difference would cancel in float32.
    correction1 = -np.expm1(float(step) * np.log(beta1))
    correction2 = -np.expm1(float(step) * np.log(beta2))
    eta, root = rate / correction1, 1.0 / np.sqrt(correction2)
    for i in prange(theta.size):
        g = gradient[i] + weight_decay * theta[i]
        m = flush(beta1 * first_moment[i] + (1.0 - beta1) * g)
        s = flush(beta2 * second_moment[i] + (1.0 - beta2) * g * g)
        first_moment[i] = m
        second_moment[i] = s
        theta[i] = flush(theta[i] - eta * m / (np.sqrt(s) * root + epsilon))


@kernel
def adamw(theta, gradient, first_moment, second_moment, rate, step, beta1, beta2, epsilon, weight_decay):
    """theta <- theta (1 - eta weight_decay), then Adam's step with the gradient alone."""
    correction1 = -np.expm1(float(step) * np.log(beta1))  # as in adam
    correction2 = -np.expm1(float(step) * np.log(beta2))
    eta, root = rate / correction1, 1.0 / np.sqrt(correction2)
    keep = 1.0 - rate * weight_decay
    for i in prange(theta.size):
        g = gradient[i]
        m = flush(beta1 * first_moment[i] + (1.0 - beta1) * g)
        s = flush(beta2 * second_moment[i] + (1.0 - beta2) * g * g)
        first_moment[i] = m
        second_moment[i] = s
        theta[i] = flush(keep * theta[i] - eta * m / (np.sqrt(s) * root + epsilon))
