"""Derivatives of every registered layer and of drawn networks against PyTorch's in float64.

    python tests/drawn_derivatives.py --count 100 --seed 1

Prints how many cases were compared, and the largest error of vjp, jvp, jacobian and gradient, in units of the largest
number of an array (at least 1). It must be below 1e-10.
"""

import argparse
import sys

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from test_derivatives import CASES, compared, drawn_networks


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options, errors = parser.parse_args(), {}

    @seed(options.seed)
    @settings(max_examples=options.count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(drawn=drawn_networks(), batch_size=st.sampled_from([1, 2, 7]), numbers=st.integers(0, 2**31 - 1))
    def draw(drawn, batch_size, numbers):
        errors[str(drawn), batch_size, numbers] = compared(*drawn, batch_size, numbers)

    report("cases of registered layers", {case: compared([case[0]], case[1], 2) for case in CASES})
    draw()
    report("drawn networks", errors)


def report(what, errors):
    """Print lines about errors by case; None stands for a case that PyTorch lacks."""
    known = [error for error in errors.values() if error is not None]
    print(f"{len(known)} {what} against PyTorch, largest error {max(known):.2g}")
    for case, error in errors.items():
        if error is None:
            print("    without PyTorch:", *case)


if __name__ == "__main__":
    sys.exit(main())
