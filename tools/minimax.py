"""Coefficients of kernels/compiler/coefficients.py: `python tools/minimax.py` prints the file (needs mpmath).

Each table approximates a smooth function on an interval by a polynomial or a quotient P / Q of polynomials, so that the
largest relative error is nearly the least possible: weighted least squares on Chebyshev nodes, whose weights grow where
the error is large (Lawson 1961; for quotients linearised with the Q of the turn before).
"""

import struct

import mpmath as mp

HEAD = '''"""Coefficients of the formulas in functions.py, lowest power first; `python tools/minimax.py` computes them.

Each number approximates a function with the relative error that its comment states, before rounding, in units of 2^-24
for float32 and 2^-53 for float64.
"""

'''
TURNS = 25  # reweightings; the error falls by less than a hundredth afterwards


def fit(f, weight, low, high, degree, lower=0):
    """Return the largest error of weight (P / Q - f) on an interval, and the coefficients of P and Q, with Q(0) = 1."""
    count, size = 8 * (degree + lower + 2), degree + 1 + lower
    nodes = [(low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * count)) for k in range(count)]
    values, weights = [f(x) for x in nodes], [weight(x) for x in nodes]
    lawson, below, best = [mp.mpf(1)] * count, [mp.mpf(1)] * count, None
    for _ in range(TURNS):
        matrix, right = mp.zeros(size, size), mp.zeros(size, 1)
        for x, y, w, share, q in zip(nodes, values, weights, lawson, below, strict=True):
            g = mp.sqrt(share) * w / q
            terms = [g * x**k for k in range(degree + 1)] + [-g * y * x**k for k in range(1, lower + 1)]
            for i in range(size):
                right[i] += terms[i] * g * y
                for j in range(size):
                    matrix[i, j] += terms[i] * terms[j]
        found = list(mp.lu_solve(matrix, right))
        P, Q = found[: degree + 1], [mp.mpf(1), *found[degree + 1 :]]
        below = [mp.polyval(Q[::-1], x) for x in nodes]
        errors = [
            abs(w * (mp.polyval(P[::-1], x) / q - y)) for x, y, w, q in zip(nodes, values, weights, below, strict=True)
        ]
        if best is None or max(errors) < best[0]:
            best = max(errors), P, Q
        total = sum(share * e for share, e in zip(lawson, errors, strict=True))
        lawson = [share * e / total * count + mp.mpf(10) ** -12 for share, e in zip(lawson, errors, strict=True)]
    return best


def tail(u):
    """Phi(-u) / exp(-u^2 / 2), Phi the normal distribution function."""
    return mp.erfc(u / mp.sqrt(2)) / 2 * mp.exp(u * u / 2)


def below(e):
    """(e - log(1 + e)) / e^2."""
    return (e - mp.log1p(e)) / e**2


def relative(e):
    """Weight an error of `below` as one of log(1 + e)."""
    return e**2 / abs(mp.log1p(e))


def remainder(r):
    """(exp(r) - 1 - r) / r^2."""
    return (mp.expm1(r) - r) / r**2


HALF, ROOT = mp.log(2) / 2 * mp.mpf("1.0001"), mp.sqrt(mp.mpf("0.5"))
# name: (what it is, function, weight of an absolute error, interval, degrees of P and Q for float32 and float64)
TABLES = {
    "EXP": ("(exp(r) - 1 - r) / r^2 for |r| <= log(2) / 2", remainder, abs, (-HALF, HALF), (4, 0), (9, 0)),
    "TAIL": (
        "Phi(-u) / exp(-u^2 / 2), Phi the normal distribution function, for u from 0 to 13.3 or 38.6",
        tail, lambda u: 1 / tail(u), (0, (13.3, 38.6)), (4, 5), (9, 10),
    ),
    "LOG1P": ("(e - log(1 + e)) / e^2 for e from 0 to 1", below, relative, (0, 1), (7, 0), (5, 6)),
    "LOG": (
        "(f - log(1 + f)) / f^2 for 1 + f from sqrt(1/2) to sqrt(2)",
        below, relative, (ROOT - 1, 2 * ROOT - 1), (7, 0), (5, 6),
    ),
}  # fmt: skip


def rounded(number, bits):
    value = float(number)
    return struct.unpack("f", struct.pack("f", value))[0] if bits == 24 else value


def shown(numbers, bits):
    return ", ".join(repr(rounded(number, bits)) for number in numbers)


def main():
    mp.mp.dps = 60
    text = HEAD
    for name, (what, f, weight, (low, high), *degrees) in TABLES.items():
        text += f"# {what}\n{name} = {{\n"
        for bits, at in ((24, 0), (53, 1)):
            end = high[at] if isinstance(high, tuple) else high
            error, P, Q = fit(f, weight, mp.mpf(low), mp.mpf(end), *degrees[at])
            text += f"    {32 * (at + 1)}: (  # {mp.nstr(error * 2**bits, 2)} units\n"
            for numbers in (P, Q) if len(Q) > 1 else (P,):
                text += f"        ({shown(numbers, bits)}),\n"
            text += "    ),\n"
        text += "}\n"
    print(f"{text}TABLES = {tuple(TABLES)}")


if __name__ == "__main__":
    main()
