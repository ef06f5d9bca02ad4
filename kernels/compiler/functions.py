"""Functions exp, expm1 and tanh as plain arithmetic, so that LLVM vectorises loops over formulas that use them.

x = n ln 2 + r with a whole n and |r| <= ln 2 / 2; then exp(x) = 2^n (1 + q), where q = r + r^2/2! + ... is the Taylor
polynomial of exp(r) - 1, whose first omitted term is below half a unit in the last place. 2^n is written into the
exponent bits. The C library would compute one number at a time. Errors stay below 2 units in the last place, 5 for
expm1 and tanh; infinities and NaN are correct; a subnormal exp becomes 0.
"""

import math
from dataclasses import dataclass

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@dataclass(frozen=True)
class _Format:
    """The constants of the formulas for a floating-point type."""

    bits: int
    mantissa: int  # bits of the mantissa
    terms: int  # terms of the polynomial
    ln2: tuple  # ln 2 = a short number, whose products with n are exact, + the remainder
    exact: tuple  # smallest and largest x for which exp(x) is a normal number
    overflow: float  # exp is infinite from here on

    @property
    def float(self):
        return ir.FloatType() if self.bits == 32 else ir.DoubleType()

    @property
    def int(self):
        return ir.IntType(self.bits)


LN2_SHORT = 0.693145751953125  # ln 2 to 16 bits
FORMATS = {
    types.float32: _Format(
        32, 23, 7, (LN2_SHORT, 1.4286068203094172e-06), (-87.33654022216797, 88.72283172607422), 89.0
    ),
    types.float64: _Format(
        64, 52, 13, (0.6931471803691238, 1.9082149292705877e-10), (-708.39641853226, 709.782712893384), 710.0
    ),
}


class _Arithmetic:
    """LLVM code of the formulas for one number, in fused steps: Numba's fast-math flags may regroup unfused ones."""

    def __init__(self, builder, format):
        self.builder, self.format = builder, format

    def number(self, value):
        return ir.Constant(self.format.float, value)

    def call(self, name, *arguments):
        kind = ir.FunctionType(self.format.float, [self.format.float] * len(arguments))
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.{name}.f{self.format.bits}")
        return self.builder.call(function, arguments)

    def clamp(self, x, low, high):
        """Clamp x between two bounds; NaN stays NaN."""
        for bound, beyond in ((low, "<"), (high, ">")):
            x = self.builder.select(self.builder.fcmp_ordered(beyond, x, self.number(bound)), self.number(bound), x)
        return x

    def split(self, x):
        """Return n and q with exp(x) = 2^n (1 + q)."""
        n = self.call("rint", self.builder.fmul(x, self.number(1 / math.log(2))))
        r = x
        for part in self.format.ln2:
            r = self.call("fma", n, self.number(-part), r)
        q, power = [self.number(1 / math.factorial(k + 1)) for k in range(self.format.terms)], r
        while len(q) > 1:  # a + b r + c r^2 + d r^3 = (a + b r) + (c + d r) r^2: a tree has fewer dependent steps
            pairs = [self.call("fma", b, power, a) for a, b in zip(q[::2], q[1::2], strict=False)]
            q, power = pairs + q[2 * len(pairs) :], self.builder.fmul(power, power)
        return self.builder.fptosi(n, self.format.int), self.builder.fmul(q[0], r)

    def power(self, n):
        """Return 2^n, for n such that it is a normal number."""
        bias = self.format.int((1 << (self.format.bits - self.format.mantissa - 2)) - 1)
        shifted = self.builder.shl(self.builder.add(n, bias), self.format.int(self.format.mantissa))
        return self.builder.bitcast(shifted, self.format.float)

    def exp(self, x):
        """Return 2^n (1 + q), 2^n in two factors that cannot overflow; beyond `exact` return 0 or infinity."""
        n, q = self.split(x)
        half = self.builder.ashr(n, self.format.int(1))
        first, second = self.power(half), self.power(self.builder.sub(n, half))
        value = self.builder.fmul(self.call("fma", first, q, first), second)
        for bound, beyond, result in zip(self.format.exact, ("<", ">"), (0.0, math.inf), strict=True):
            outside = self.builder.fcmp_ordered(beyond, x, self.number(bound))
            value = self.builder.select(outside, self.number(result), value)
        return value

    def expm1(self, x):
        n, q = self.split(self.clamp(x, -40.0, self.format.overflow))  # exp(-40) is negligible against 1
        half = self.power(self.builder.sub(n, self.format.int(1)))
        value = self.call("fma", half, q, self.builder.fsub(half, self.number(0.5)))
        value = self.builder.fmul(value, self.number(2.0))
        tiny = self.builder.fcmp_ordered("<", self.call("fabs", x), self.number(1e-10))  # -0.0 and subnormals too
        return self.builder.select(tiny, x, value)

    def tanh(self, x):
        """Return -t / (2 + t) with t = exp(-2 |x|) - 1, and the sign of x."""
        n, q = self.split(self.clamp(self.builder.fmul(self.call("fabs", x), self.number(-2.0)), -40.0, 0.0))
        power = self.power(n)
        t = self.call("fma", power, q, self.builder.fsub(power, self.number(1.0)))
        value = self.builder.fdiv(t, self.builder.fadd(t, self.number(2.0)))
        return self.call("copysign", value, x)


def _function(name):
    @intrinsic
    def function(typing, x):
        kind = x if x in FORMATS else types.float64

        def generate(context, builder, sig, args):
            return getattr(_Arithmetic(builder, FORMATS[kind]), name)(args[0])

        return kind(kind), generate

    return function


NAMES = ("exp", "expm1", "tanh")
exp, expm1, tanh = (_function(name) for name in NAMES)
