"""Derivatives of every registered layer and of drawn networks against PyTorch's in float64.

    python tests/drawn_derivatives.py --count 100 --seed 1 [--jitted]

Prints how many cases were compared, and the largest error of vjp, jvp, jacobian and gradient, in units of the largest
number of an array (at least 1). It must be below 1e-10. Texts run line by line with compiled kernels. With --jitted
they are compiled whole, a user's cached function calls them, and two more numbers are printed: the hash of all results,
and how many functions were compiled. A second process must have the same hash, and compiles nothing.
"""

import argparse
import hashlib
import sys
from functools import partial

import numpy as np
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from numba import njit
from numba.core import event
from test_derivatives import CASES, compared, drawn_networks, interpreted


@njit(cache=True)
def vjp_in(vjp, state, x, dy, y, dx, training):
    vjp(state, x, dy, y, dx, training)


@njit(cache=True)
def jvp_in(jvp, state, x, dx, y, dy):
    jvp(state, x, dx, y, dy)


@njit(cache=True)
def jacobian_in(jacobian, state, x, y, J):
    jacobian(state, x, y, J)


@njit(cache=True)
def gradient_in(gradient, state, x, target):
    return gradient(state, x, target)


CALLERS = {"vjp": vjp_in, "jvp": jvp_in, "jacobian": jacobian_in, "gradient": gradient_in}
DIGEST = hashlib.sha256()


def jitted(program):
    """Return the compiled functions, called from jitted code; what they write goes into the hash."""

    def call(kind, name):
        return partial(called, CALLERS[kind], getattr(program, kind))

    return call


def called(caller, function, state, *arrays):
    result = caller(function, state, *arrays)
    for array in (*(each for each in arrays if isinstance(each, np.ndarray)), state.gradient, np.array(result, float)):
        DIGEST.update(np.ascontiguousarray(array).tobytes())
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jitted", action="store_true")
    options, errors = parser.parse_args(), {}
    run, compilations = jitted if options.jitted else interpreted, event.RecordingListener()
    event.register("numba:compile", compilations)

    @seed(options.seed)
    @settings(max_examples=options.count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(drawn=drawn_networks(), batch_size=st.sampled_from([1, 2, 7]), numbers=st.integers(0, 2**31 - 1))
    def draw(drawn, batch_size, numbers):
        errors[str(drawn), batch_size, numbers] = compared(*drawn, batch_size, numbers, run)

    report("cases of registered layers", {case: compared([case[0]], case[1], 2, run=run) for case in CASES})
    draw()
    report("drawn networks", errors)
    if options.jitted:
        count = sum(each.is_start for _, each in compilations.buffer)
        print(f"results {DIGEST.hexdigest()[:16]}, {count} functions compiled")


def report(what, errors):
    """Print lines about errors by case; None stands for a case that PyTorch lacks."""
    known = [error for error in errors.values() if error is not None]
    print(f"{len(known)} {what} against PyTorch, largest error {max(known):.2g}", flush=True)
    for case, error in errors.items():
        if error is None:
            print("    without PyTorch:", *case)


if __name__ == "__main__":
    sys.exit(main())
