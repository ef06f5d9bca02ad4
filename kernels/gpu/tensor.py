"""Tensor cores: a warp adds the product of two small matrices of rounded numbers to a tile of float32.

    C (16 x 8) += A (16 x k) B (k x 8)        k = 8 for tf32, 16 for bf16

Numbers are rounded to 10 (tf32) or 7 (bf16) bits of mantissa and stored as 32-bit words, one tf32 or two bf16 numbers
adjacent along k; so both take 8 words of k. The words of each lane of the warp (PTX ISA, "Matrix Fragments for
mma.m16n8k8" and "m16n8k16"), with g = lane // 4 and q = lane % 4:

    A  word 0: row g, word q of k     1: row g + 8, q     2: row g, q + 4     3: row g + 8, q + 4
    B  word 0: word q of k, column g                      1: q + 4, column g
    C  number 0: row g, column 2 q    1: row g, 2 q + 1   2: row g + 8, 2 q   3: row g + 8, 2 q + 1

The instruction is `mma.sync` as inline PTX; it needs compute capability 8.0. In the simulator, which has no warps, the
lanes store their words, wait at a barrier, and `whole` computes the result of the instruction from them.
"""

from dataclasses import dataclass

import numpy as np
from numba import config

NEEDS = (8, 0)  # minimum compute capability, for tf32 and bf16 products


@dataclass(frozen=True)
class Form:
    """A rounded number format: its storage type, the numbers per word, and the PTX names."""

    name: str
    type: object
    each: int
    rounding: str
    product: str


FORMS = {
    "tf32": Form("tf32", np.uint32, 1, "cvt.rna.tf32.f32", "m16n8k8.row.col.f32.tf32.tf32.f32"),
    "bf16": Form("bf16", np.uint16, 2, "cvt.rn.bf16.f32", "m16n8k16.row.col.f32.bf16.bf16.f32"),
}

if getattr(config, "ENABLE_CUDASIM", False):

    def rounding(form):
        """Return the rounding function for float32: to nearest, ties away from zero (tf32) or to even (bf16)."""

        def rounded(x):
            bits = int(np.float32(x).view(np.uint32))
            if form.each == 1:
                return np.uint32(0x7FFFFFFF if x != x else bits + 0x1000 & 0xFFFFE000)
            return np.uint16(0x7FFF if x != x else bits + 0x7FFF + (bits >> 16 & 1) >> 16)

        return rounded

    def word(array, i):
        """Return the 32 bits that start at array[i]."""
        return array[i] if array.dtype.itemsize == 4 else np.uint32(int(array[i]) | int(array[i + 1]) << 16)

    def numbers(form, words):
        """Unpack words to float32 numbers along a new last axis."""
        words = np.asarray(words, np.uint32)
        parts = [words] if form.each == 1 else [words << 16, words & 0xFFFF0000]
        return np.stack(parts, axis=-1).astype(np.uint32).view(np.float32)

    def whole(form, a, b, c):
        """Compute the results of a warp: a (32, 4), b (32, 2) words and c (32, 4) float32 to (32, 4) float32."""
        g, q, half = np.arange(32) // 4, np.arange(32) % 4, np.arange(form.each)
        a, b, c = numbers(form, a), numbers(form, b), np.asarray(c, np.float32)
        A, B, C = np.zeros((16, 8 * form.each)), np.zeros((8 * form.each, 8)), np.zeros((16, 8))
        for i in range(4):
            A[(g + i % 2 * 8)[:, None], (q + i // 2 * 4)[:, None] * form.each + half] = a[:, i]
            C[g + i // 2 * 8, 2 * q + i % 2] = c[:, i]
        for i in range(2):
            B[(q + i * 4)[:, None] * form.each + half, g[:, None]] = b[:, i]
        C = (C + A @ B).astype(np.float32)
        return np.stack([C[g + i // 2 * 8, 2 * q + i % 2] for i in range(4)], axis=-1)

    _lanes: dict[int, tuple] = {}  # thread -> its words
    _found: dict[int, np.ndarray] = {}  # first thread of a warp -> the results of its lanes

    def multiplying(form):
        """Return the function mma(a0, a1, a2, a3, b0, b1, c0, c1, c2, c3), which all lanes of a warp must call."""

        def mma(*given):
            from numba.cuda.simulator import kernel

            device = kernel._get_kernel_context()
            t = device.threadIdx.x
            _lanes[t] = given
            device.syncthreads()
            if t % 32 == 0:
                brought = [_lanes[lane] for lane in range(t, t + 32)]
                _found[t] = whole(form, *([lane[part] for lane in brought] for part in _PARTS))
            device.syncthreads()
            return tuple(_found[t - t % 32][t % 32])

        return mma

    _PARTS = slice(0, 4), slice(4, 6), slice(6, 10)

else:
    from llvmlite import ir
    from numba.cuda import types
    from numba.cuda.extending import intrinsic

    _float, _bits = ir.FloatType(), ir.IntType(32)

    def rounding(form):
        """Return the rounding function for float32: to nearest, ties away from zero (tf32) or to even (bf16)."""
        held = ir.IntType(32 // form.each)

        @intrinsic
        def rounded(typing, x):
            def generate(context, builder, signature, values):
                code, kind = f"{form.rounding} $0, $1;", f"={'r' if form.each == 1 else 'h'},f"
                return builder.asm(ir.FunctionType(held, [_float]), code, kind, values, False)

            return (types.uint32 if form.each == 1 else types.uint16)(types.float32), generate

        return rounded

    @intrinsic
    def word(typing, array, i):
        """Return the 32 bits that start at array[i]."""

        def generate(context, builder, signature, values):
            data = context.make_array(signature.args[0])(context, builder, values[0]).data
            pointer = builder.gep(data, [values[1]])
            return builder.load(builder.bitcast(pointer, ir.PointerType(_bits, data.type.addrspace)), align=4)

        return types.uint32(array, types.intp), generate

    def multiplying(form):
        """Return the function mma(a0, a1, a2, a3, b0, b1, c0, c1, c2, c3), which all lanes of a warp must call."""

        @intrinsic
        def mma(typing, a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
            def generate(context, builder, signature, values):
                four = ir.LiteralStructType([_float] * 4)
                function = ir.FunctionType(four, [_bits] * 6 + [_float] * 4)
                code = (
                    f"mma.sync.aligned.{form.product} {{$0,$1,$2,$3}}, {{$4,$5,$6,$7}}, {{$8,$9}}, {{$10,$11,$12,$13}};"
                )
                code = ir.InlineAsm(function, code, "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f", side_effect=True)
                found = builder.call(code, values, attrs=["convergent"])  # never moved into divergent code
                lanes = [builder.extract_value(found, k) for k in range(4)]
                return context.make_tuple(builder, signature.return_type, lanes)

            given = (types.uint32,) * 6 + (types.float32,) * 4
            return types.UniTuple(types.float32, 4)(*given), generate

        return mma
