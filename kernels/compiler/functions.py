"""Exponential functions and their kin as plain arithmetic, so that LLVM vectorises loops over formulas that use them.

x = n ln 2 + r with a whole n and |r| <= ln 2 / 2; then exp(x) = 2^n (1 + q), where q = exp(r) - 1 is a polynomial
(coefficients.py). 2^n is written into the exponent bits. The C library would compute one number at a time.

Largest errors in units in the last place, rounded up; tests/every_float32.py measured them for every sixteenth float32
number (exp for all of them), and for drawn float64 numbers:

=============  =======  =======  ========================================================================
function       float32  float64  what it is
=============  =======  =======  ========================================================================
exp            1.1      1.1      a subnormal result becomes 0
expm1          1.7      2.2
tanh           2.0      2.7
log1p          1.8      1.8
erfc           6.0      6.0      a subnormal result becomes 0
normal_cdf     6.0      6.0      normal distribution function; a subnormal result becomes 0
normal_pdf     2.2      2.2      its density; a subnormal result becomes 0
log1p_exp      2.4      2.4      log(1 + exp(x)) for x <= 0; a subnormal result becomes 0
=============  =======  =======  ========================================================================

Infinities and NaN are correct, and so is the sign of 0. A division is the processor's own: an estimate of the
reciprocal would differ from one processor to the next, and in the last numbers of an array from the others.
"""

import math
from dataclasses import dataclass

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from . import coefficients, special


@dataclass(frozen=True)
class _Format:
    """The constants of the formulas for a floating-point type."""

    bits: int
    mantissa: int  # bits of the mantissa
    ln2: tuple  # ln 2 = the nearest number, whose products with n leave an exact remainder of x, + the rest
    exact: tuple  # smallest and largest x for which exp(x) is a normal number
    overflow: float  # exp is infinite from here on
    one: float  # from here on tanh rounds to 1, expm1 at minus twice of it to -1
    tail: float  # exp(-u^2 / 2) is still a normal number for this u, but not the density and the tail at -u

    @property
    def float(self):
        return ir.FloatType() if self.bits == 32 else ir.DoubleType()

    @property
    def int(self):
        return ir.IntType(self.bits)

    @property
    def bias(self):
        """The exponent bits of 1."""
        return (1 << (self.bits - self.mantissa - 2)) - 1

    @property
    def whole(self):
        """A number to which a whole one is added exactly, in the last bits of the mantissa."""
        return 1.5 * 2.0**self.mantissa

    @property
    def tiny(self):
        """The smallest normal number."""
        return 2.0 ** (1 - self.bias)


FORMATS = {
    types.float32: _Format(
        32, 23, (0.6931471824645996, -1.904654323148236e-09), (-87.33654022216797, 88.72283172607422), 89.0, 10.0, 13.2
    ),
    types.float64: _Format(
        64, 52, (0.6931471805599453, 2.3190468138462996e-17), (-708.39641853226, 709.782712893384), 710.0, 20.0, 37.63
    ),
}


class _Arithmetic:
    """LLVM code of the formulas for one number, in fused steps: so the bits do not depend on what LLVM would fuse."""

    def __init__(self, builder, format):
        self.builder, self.format = builder, format
        self.table = {name: getattr(coefficients, name)[format.bits] for name in coefficients.TABLES}

    def number(self, value):
        return ir.Constant(self.format.float, value)

    def call(self, name, *arguments):
        kind = ir.FunctionType(self.format.float, [self.format.float] * len(arguments))
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.{name}.f{self.format.bits}")
        return self.builder.call(function, arguments)

    def fma(self, a, b, c):
        """Return a b + c; numbers of Python are constants."""
        return self.call("fma", *(self.number(v) if isinstance(v, float) else v for v in (a, b, c)))

    def add(self, a, b):
        return self.builder.fadd(a, self.number(b) if isinstance(b, float) else b)

    def times(self, a, b):
        return self.builder.fmul(a, self.number(b) if isinstance(b, float) else b)

    def when(self, a, relation, b, value, other):
        """Return `value` where a relation b holds, else `other`; a relation with "u" holds for NaN too."""
        compare = self.builder.fcmp_unordered if relation[0] == "u" else self.builder.fcmp_ordered
        return self.builder.select(compare(relation.lstrip("u"), a, self.number(b)), value, other)

    def at_least(self, x, low):
        """Return the larger of x and a constant; NaN stays NaN."""
        return self.when(x, "<", low, self.number(low), x)

    def at_most(self, x, high):
        """Return the smaller of x and a constant; NaN stays NaN."""
        return self.when(x, ">", high, self.number(high), x)

    def flush(self, x):
        """Return x >= 0, or 0 if it is below the smallest normal number."""
        return self.when(x, "<", self.format.tiny, self.number(0.0), x)

    def polynomial(self, terms, x, square):
        """Return the sum of terms[k] x^k: pairs by Horner's rule in x^2, half as many steps one after the other."""
        pairs = [self.fma(b, x, a) for a, b in zip(terms[::2], terms[1::2], strict=False)]
        value = self.number(terms[-1]) if len(terms) % 2 else pairs.pop()
        while pairs:
            value = self.fma(value, square, pairs.pop())
        return value

    def split(self, x, shift=0, low=None):
        """Return n + shift, in the last bits of a number, and q = exp(r) - 1, with exp(x + low) = 2^n (1 + q)."""
        whole = self.format.whole + shift
        t = self.fma(x, 1 / math.log(2), whole)  # the sum rounds x / ln 2 to a whole number
        n = self.add(t, -whole)
        high, rest = self.format.ln2
        r = self.fma(n, -high, x)
        r = self.fma(n, -rest, r)
        if low is not None:
            r = self.add(r, low)
        square = self.times(r, r)
        (terms,) = self.table["EXP"]
        return self.builder.bitcast(t, self.format.int), self.fma(self.polynomial(terms, r, square), square, r)

    def exponent(self, bits):
        """Move a whole number from the last bits to the exponent's."""
        return self.builder.shl(bits, self.format.int(self.format.mantissa))

    def power(self, bits):
        """Return 2^n for the bits of n + bias, if it is a normal number."""
        return self.builder.bitcast(self.exponent(bits), self.format.float)

    def exp(self, x):
        """Return 2^n (1 + q): n is added to the exponent bits of 1 + q. Beyond `exact` return 0 or infinity."""
        bits, q = self.split(x)
        one = self.builder.bitcast(self.add(q, 1.0), self.format.int)
        value = self.builder.bitcast(self.builder.add(one, self.exponent(bits)), self.format.float)
        value = self.when(x, "<", self.format.exact[0], self.number(0.0), value)
        return self.when(x, "u>", self.format.exact[1], self.add(x, math.inf), value)  # NaN too

    def expm1(self, x):
        """Return 2^n q + (2^n - 1), computed as twice the half, which does not overflow."""
        bits, q = self.split(self.at_least(self.at_most(x, self.format.overflow), -40.0), self.format.bias - 1)
        half = self.power(bits)
        value = self.times(self.fma(half, q, self.add(half, -0.5)), 2.0)
        return self.when(self.call("fabs", x), "<", 4 * self.format.tiny, x, value)  # -0.0 too

    def tanh(self, x):
        """Return -t / (2 + t) with t = 2^n (1 + q) - 1 = exp(-2 |x|) - 1, and the sign of x.

        The steps are those of `split` with r / 2 and q / 2, so that |x| need not be doubled; 2^n need not be more exact
        than to a unit of 1. The divisor does not wait for t.
        """
        half = self.at_least(self.builder.fneg(self.call("fabs", x)), -self.format.one)
        whole = self.format.whole + self.format.bias
        shifted = self.fma(half, 2 / math.log(2), whole)
        half = self.fma(self.add(shifted, -whole), -self.format.ln2[0] / 2, half)
        square, (terms,) = self.times(half, half), self.table["EXP"]
        P = self.polynomial([term * 2.0 ** (k + 1) for k, term in enumerate(terms)], half, square)
        q, power = self.fma(P, square, half), self.power(self.builder.bitcast(shifted, self.format.int))
        twice = self.builder.fadd(power, power)
        t, divisor = (self.fma(twice, q, self.add(power, one)) for one in (-1.0, 1.0))
        return self.call("copysign", self.builder.fdiv(t, divisor), x)

    def fraction(self, name, x, square):
        """Return P(x) / Q(x) of a table, or P(x) if the table has no Q."""
        P, *Q = (self.polynomial(terms, x, square) for terms in self.table[name])
        return self.builder.fdiv(P, *Q) if Q else P

    def log1p_exp(self, x):
        """Return e - e^2 w(e) with e = exp(x), for x <= 0."""
        e = self.exp(x)
        square = self.times(e, e)
        return self.fma(self.builder.fneg(square), self.fraction("LOG1P", e, square), e)

    def log1p(self, x):
        """Return n ln 2 + f - f^2 w(f) with 1 + x = 2^n (1 + f), 1 + f from sqrt(1/2) to sqrt(2)."""
        format, builder = self.format, self.builder
        u = self.add(x, 1.0)
        z = builder.fsub(u, x)
        low = builder.fadd(builder.fsub(self.number(1.0), z), builder.fsub(x, builder.fsub(u, z)))  # 1 + x - u exactly
        one, root = (builder.bitcast(self.number(v), format.int) for v in (1.0, math.sqrt(0.5)))
        bits = builder.bitcast(u, format.int)
        power = builder.add(builder.sub(bits, root), one)
        power = builder.and_(power, format.int(-1 << format.mantissa))  # the exponent bits of 2^n
        f = self.add(builder.bitcast(builder.add(builder.sub(bits, power), one), format.float), -1.0)
        scale = builder.bitcast(builder.sub(builder.add(one, one), power), format.float)  # 2^-n
        f = self.when(x, "<", 2.0 ** (format.mantissa + 2), self.fma(low, scale, f), f)
        n = builder.lshr(power, format.int(format.mantissa))
        n = builder.add(n, builder.bitcast(self.number(format.whole), format.int))
        n = self.add(builder.bitcast(n, format.float), -format.whole - format.bias)
        square = self.times(f, f)
        w = self.fma(builder.fneg(square), self.fraction("LOG", f, square), self.times(n, format.ln2[1]))
        value = self.fma(n, format.ln2[0], self.add(f, w))
        value = self.when(x, "<", -1.0, self.number(math.nan), self.when(x, "==", -1.0, self.number(-math.inf), value))
        return self.call("copysign", self.when(x, "u>=", math.inf, x, value), x)  # NaN too

    def bell(self, u, square, factor):
        """Return exp(-factor u^2) with the square of u, whose rounding error is computed too."""
        low = self.fma(u, u, self.builder.fneg(square))
        bits, q = self.split(self.times(square, -factor), self.format.bias, self.times(low, -factor))
        power = self.power(bits)
        return self.fma(power, q, power)

    def normal_tail(self, x, factor):
        """Return normal_cdf(-u) = exp(-u^2 / 2) P(u) / Q(u) for u = sqrt(2 factor) |x|."""
        scale = math.sqrt(2 * factor)
        u = self.at_most(self.call("fabs", x), self.format.tail / scale)
        square = self.times(u, u)
        P, Q = (
            self.polynomial([term * scale**k for k, term in enumerate(terms)], u, square)
            for terms in self.table["TAIL"]
        )
        return self.times(self.builder.fdiv(P, Q), self.bell(u, square, factor))

    def normal_cdf(self, x):
        """Return the tail for x < 0, else 1 - tail."""
        tail = self.normal_tail(x, 0.5)
        return self.when(x, "<", 0.0, self.flush(tail), self.builder.fsub(self.number(1.0), tail))

    def erfc(self, x):
        """Return 2 - 2 tail for x < 0, else 2 tail."""
        tail = self.normal_tail(x, 1.0)
        tail = self.add(tail, tail)
        return self.when(x, "<", 0.0, self.builder.fsub(self.number(2.0), tail), self.flush(tail))

    def normal_pdf(self, x):
        """Return exp(-x^2 / 2) / sqrt(2 pi)."""
        u = self.at_most(self.call("fabs", x), self.format.tail)
        return self.flush(self.times(self.bell(u, self.times(u, u), 0.5), special.NORMAL_PEAK))


def _function(name):
    @intrinsic
    def function(typing, x):
        kind = x if x in FORMATS else types.float64

        def generate(context, builder, sig, args):
            return getattr(_Arithmetic(builder, FORMATS[kind]), name)(args[0])

        return kind(kind), generate

    return function


NAMES = ("exp", "expm1", "tanh", "log1p", "erfc")  # of NumPy or math
exp, expm1, tanh, log1p, erfc = (_function(name) for name in NAMES)


def _overload(function):
    """Make compiled functions that call a function of special.py compute it by the formula of that name."""
    compiled = _function(function.__name__)
    overload(function)(lambda x: lambda x: compiled(x))


for _each in special.FUNCTIONS:
    _overload(_each)
