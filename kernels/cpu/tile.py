"""The register tile: a small matrix that lives in vector registers, and what kernels ask of the CPU.

A tile has R rows of C vectors; its shape is part of its type, so LLVM keeps it in registers and every operation is
unrolled. A vector holds as many numbers as the CPU's registers do. words.py has the words that work on tiles,
tile_code.py the LLVM that they emit, tile_arithmetic.py sums and products of tiles.
"""

import platform

import numpy as np
from llvmlite import binding, ir
from llvmlite.ir import instructions
from numba import config, types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model


def cpu_features():
    """Set of the CPU features that Numba compiles for, by LLVM's names: the host's unless the user names others."""
    if config.CPU_FEATURES is not None:
        return {name.removeprefix("+") for name in config.CPU_FEATURES.split(",") if not name.startswith("-")}
    found = {name for name, there in binding.get_host_cpu_features().items() if there}
    return found if config.ENABLE_AVX else {name for name in found if not name.startswith("avx")}


def vector_bytes():
    """Bytes of a vector register: 64 with AVX-512, 32 with AVX, 16 elsewhere (SSE2, NEON)."""
    features = cpu_features()
    return 64 if "avx512f" in features else 32 if "avx" in features else 16


BYTES = vector_bytes()
REGISTERS = 32 if BYTES == 64 or platform.machine() in ("aarch64", "arm64") else 16
NR = 3  # vectors in a row of a tile, as in BLIS
MR = 8 if REGISTERS == 32 else 4  # rows of a tile NR vectors wide: with its factors it fills the registers
MASKS = BYTES == 64  # whether loads and stores with a mask cost no more than those without


class Tile(types.Type):
    """R x C vectors of one element type, an LLVM aggregate of vectors."""

    def __init__(self, real, r, c):
        self.real, self.r, self.c = real, r, c
        self.lanes = BYTES * 8 // real.bitwidth
        super().__init__(f"Tile({real}, {r}x{c}x{self.lanes})")


@register_model(Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        element = ir.FloatType() if kind.real is types.float32 else ir.DoubleType()
        super().__init__(manager, kind, ir.ArrayType(ir.VectorType(element, kind.lanes), kind.r * kind.c))


def word(plain):
    """Make an intrinsic, and as its `py_func` (as of any jitted function) what it means in plain Python."""

    def mark(definition):
        made = intrinsic(definition)
        made.py_func, made.__doc__ = plain, plain.__doc__
        return made

    return mark


def are_literals(*kinds):
    return all(isinstance(kind, types.IntegerLiteral) for kind in kinds)


def optional(kind):
    """Return the Numba type of a whole number that may be None, or left out."""
    return types.none if kind in (None, types.none) else types.intp


def optional_value(kind, value):
    """Return the LLVM value of an optional number, None where None was given."""
    return None if isinstance(kind, types.NoneType) else value


# -- words that need no tile -------------------------------------------------------------------------------------------


def plain_lanes(array):
    """Numbers in a vector of this array's element type."""
    return BYTES // array.dtype.itemsize


@word(plain_lanes)
def lanes(typing, array):
    n = BYTES * 8 // array.dtype.bitwidth
    return types.intp(array), lambda context, builder, sig, args: context.get_constant(types.intp, n)


def _pointer(A):
    """Return the address of an array, of the type of a stack array: so that a variable may be either."""
    return A


@word(_pointer)
def pointer(typing, A):
    def generate(context, builder, sig, args):
        return builder.extract_value(args[0], 4)

    return types.CPointer(A.dtype)(A), generate


class _VolatileLoad(instructions.LoadInstr):
    def descr(self, buffer):
        text: list[str] = []
        super().descr(text)
        buffer.append(text[0].replace("load", "load volatile", 1))


def _read(A, i):
    """A[i], from 0 on, read alone: LLVM joins no neighbours to a vector."""
    return A[i]


@word(_read)
def read(typing, A, i):
    def generate(context, builder, sig, args):
        place = builder.gep(builder.extract_value(args[0], 4), [args[1]])
        number = _VolatileLoad(builder.block, place)
        builder._insert(number)
        return number

    return A.dtype(A, types.intp), generate


UNWRITTEN = np.nan  # in plain Python, of an array on the stack


def _stack_array(like, n):
    """Room for n numbers (a literal) of an array's element type, on the stack: it lives as long as the call."""
    return np.full(n, UNWRITTEN, like.dtype)


@word(_stack_array)
def stack_array(typing, like, n):
    if not are_literals(n):
        return None
    kind = types.CPointer(like.dtype)

    def generate(context, builder, sig, args):
        room = cgutils.alloca_once(builder, context.get_value_type(like.dtype), size=n.literal_value)
        room.align = 64
        return room

    return kind(like, n), generate


def _numbers(n):
    """Room for n whole numbers (a literal) on the stack."""
    return np.full(n, -1, np.intp)


@word(_numbers)
def numbers(typing, n):
    if not are_literals(n):
        return None

    def generate(context, builder, sig, args):
        return cgutils.alloca_once(builder, context.get_value_type(types.intp), size=n.literal_value)

    return types.CPointer(types.intp)(n), generate
