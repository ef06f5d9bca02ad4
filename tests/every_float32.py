"""The largest error of each compiled function of kernels/compiler/functions.py over every float32 number.

    python tests/every_float32.py [--step 1] [--only exp,tanh]

Prints a Markdown table: units in the last place of the exact result, the x of the largest error, and how many results
are wrong, that is, infinite, NaN or 0 (a subnormal result becomes 0) where the exact one is not, or of the other sign.
`--step` 1 takes half an hour on one core; `errors` also serves tests/test_functions.py. The oracle computes in float64.
"""

import argparse
import math

import numpy as np
from nnjit.kernels.compiler.kernel import kernel
from nnjit.kernels.compiler.special import log1p_exp, normal_cdf, normal_pdf
from numba import prange

CHUNK = 1 << 22


@kernel
def exp(x, y):
    for i in prange(x.size):
        y[i] = np.exp(x[i])


@kernel
def expm1(x, y):
    for i in prange(x.size):
        y[i] = np.expm1(x[i])


@kernel
def tanh(x, y):
    for i in prange(x.size):
        y[i] = np.tanh(x[i])


@kernel
def log1p(x, y):
    for i in prange(x.size):
        y[i] = np.log1p(x[i])


@kernel
def erfc(x, y):
    for i in prange(x.size):
        y[i] = math.erfc(x[i])


@kernel
def cdf(x, y):
    for i in prange(x.size):
        y[i] = normal_cdf(x[i])


@kernel
def pdf(x, y):
    for i in prange(x.size):
        y[i] = normal_pdf(x[i])


@kernel
def softplus(x, y):
    for i in prange(x.size):
        y[i] = log1p_exp(x[i])


def _erfc(x):
    import torch

    return torch.erfc(torch.from_numpy(x)).numpy()


# name: (kernel, oracle in a wider type, are subnormal results 0, numbers for which it is meant)
FUNCTIONS = {
    "exp": (exp, np.exp, True, None),
    "expm1": (expm1, np.expm1, False, None),
    "tanh": (tanh, np.tanh, False, None),
    "log1p": (log1p, np.log1p, False, None),
    "erfc": (erfc, _erfc, True, None),
    "normal_cdf": (cdf, lambda x: 0.5 * _erfc(x * -np.sqrt(0.5)), True, None),
    "normal_pdf": (pdf, lambda x: np.exp(-0.5 * x * x) / np.sqrt(2 * x.dtype.type(np.pi)), True, None),
    "log1p_exp": (softplus, lambda x: np.log1p(np.exp(x)), True, lambda x: ~(x > 0)),
}


def errors(name, x, wide, oracle=None):
    """Return the largest error of a function in units in the last place, its x, and a mask of wrong results."""
    function, exact, flushed, meant = FUNCTIONS[name]
    x = x if meant is None else x[meant(x)]
    found, real = np.empty_like(x), x.dtype.type
    if not x.size:
        return 0.0, real(0), np.zeros(0, bool), x
    function(x, found)
    with np.errstate(all="ignore"):
        value = (oracle or exact)(x.astype(wide))
        expected = value.astype(real)
        zero = flushed & (np.abs(value) < np.finfo(real).tiny)
        value, expected = np.where(zero, 0, value), np.where(zero, real(0), expected)
        least = np.abs(expected) <= np.finfo(real).tiny  # rounding decides whether it is 0
        off = np.abs(found - value) / np.spacing(np.abs(expected)).astype(wide)
        same = (found == expected) | (np.isnan(found) & np.isnan(expected))
        special = ~np.isfinite(expected) | (expected == 0)
        end = np.abs(expected) >= np.finfo(real).max * (1 - 4 * np.finfo(real).eps)  # rounding decides, too
        wrong = special & ~same & ~(least & (np.abs(found) <= 2 * np.finfo(real).tiny)) & ~(np.isinf(expected) & end)
        wrong |= ~special & ~np.isfinite(found) & ~end
        wrong |= (np.signbit(found) != np.signbit(expected)) & ~np.isnan(expected)
        off = np.where(special | ~np.isfinite(found) | (flushed & least), 0, off)
    worst = np.argmax(off)
    return float(off[worst]), x[worst], wrong, x


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--only", default=",".join(FUNCTIONS))
    options = parser.parse_args()
    print("| function | units in the last place | at | wrong |\n| --- | --- | --- | --- |", flush=True)
    for name in options.only.split(","):
        largest, at, wrong, example = 0.0, 0.0, 0, None
        for first in range(0, 2**32, CHUNK * options.step):
            bits = np.arange(first, min(first + CHUNK * options.step, 2**32), options.step, np.uint64)
            off, x, bad, given = errors(name, bits.astype(np.uint32).view(np.float32), np.float64)
            wrong += bad.sum()
            example = given[bad][0] if bad.any() and example is None else example
            if off > largest:
                largest, at = off, x
        print(f"| {name} | {largest:.3f} | {at} | {wrong}{f' such as {example}' if wrong else ''} |", flush=True)


if __name__ == "__main__":
    main()
