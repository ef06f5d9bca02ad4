"""Update rules, in NumPy, in place on flat arrays: theta, its gradient (the mean over the batch) and the moments.

Formulas are those of PyTorch, step for step. `rate` is the learning rate eta of this step; `step` counts from 1.
Options are rounded to the dtype of theta first, as for compiled kernels. (1 - beta) g^2 is ((1 - beta) g) g, since g^2
alone overflows earlier. Stored numbers are flushed (subnormal.py).
"""

import numpy as np

from ..compiler.subnormal import flush


def gradient_descent(theta, gradient, rate, weight_decay):
    """theta <- theta - eta g, g = gradient + weight_decay theta (lecture, update formula)."""
    theta[...] = flush(theta - theta.dtype.type(rate) * _decayed(theta, gradient, weight_decay))


def sgd(theta, gradient, velocity, rate, momentum, nesterov, weight_decay):
    """v <- momentum v + g; theta <- theta - eta v, or eta (g + momentum v) with nesterov.

    Polyak 1964, doi:10.1016/0041-5553(64)90137-5; Sutskever et al. 2013, proceedings.mlr.press/v28/sutskever13.html.
    """
    rate, momentum = _rounded(theta, rate, momentum)
    g = _decayed(theta, gradient, weight_decay)
    velocity[...] = flush(momentum * velocity + g)
    theta[...] = flush(theta - rate * (g + momentum * velocity if nesterov else velocity))


def rmsprop(theta, gradient, second_moment, rate, decay, epsilon):
    """s <- decay s + (1 - decay) g^2; theta <- theta - eta g / (sqrt(s) + epsilon).

    Tieleman & Hinton 2012, Neural Networks for Machine Learning, lecture 6e.
    """
    rate, decay, epsilon = _rounded(theta, rate, decay, epsilon)
    second_moment[...] = flush(decay * second_moment + (1 - decay) * gradient * gradient)
    theta[...] = flush(theta - rate * gradient / (np.sqrt(second_moment) + epsilon))


def adam(theta, gradient, first_moment, second_moment, rate, step, beta1, beta2, epsilon, weight_decay):
    """theta <- theta - eta m^ / (sqrt(s^) + epsilon), m^ = m / (1 - beta1^step), s^ = s / (1 - beta2^step).

    m <- beta1 m + (1 - beta1) g; s <- beta2 s + (1 - beta2) g^2; weight decay as an l_2 penalty,
    g = gradient + weight_decay theta. Kingma & Ba 2015, arXiv:1412.6980, algorithm 1.
    """
    g = _decayed(theta, gradient, weight_decay)
    _adam(theta, g, first_moment, second_moment, rate, step, beta1, beta2, epsilon, 1)


def adamw(theta, gradient, first_moment, second_moment, rate, step, beta1, beta2, epsilon, weight_decay):
    """theta <- theta (1 - eta weight_decay), then Adam's step with the gradient alone.

    Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2.
    """
    rate_, weight_decay = _rounded(theta, rate, weight_decay)
    _adam(theta, gradient, first_moment, second_moment, rate, step, beta1, beta2, epsilon, 1 - rate_ * weight_decay)


def _adam(theta, g, first_moment, second_moment, rate, step, beta1, beta2, epsilon, keep):
    rate, beta1, beta2, epsilon = _rounded(theta, rate, beta1, beta2, epsilon)
    first_moment[...] = flush(beta1 * first_moment + (1 - beta1) * g)
    second_moment[...] = flush(beta2 * second_moment + (1 - beta2) * g * g)
    # In float64: 1 - beta^step cancels in float32 while beta^step is near 1.
    correction1 = theta.dtype.type(1 - float(beta1) ** step)
    correction2 = theta.dtype.type(1 - float(beta2) ** step)
    change = rate / correction1 * first_moment / (np.sqrt(second_moment) / np.sqrt(correction2) + epsilon)
    theta[...] = flush(keep * theta - change)


def _decayed(theta, gradient, weight_decay):
    return gradient + theta.dtype.type(weight_decay) * theta


def _rounded(theta, *options):
    return [theta.dtype.type(option) for option in options]
