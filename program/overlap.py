"""Memory that arguments of a call share, where a result would overwrite numbers that are still to be read.

A call reads all of a sample before it writes the sample's results. So an output may be an input of the same size, and
for one sample it may lie anywhere in the inputs. If there are several samples and the memory is shared in part, the
results of one would overwrite another before it is read: the call is refused. Two outputs never share memory.
"""

from itertools import combinations
from pathlib import Path

from numba import types

from ..kernels.compiler.cache import digest
from ..kernels.compiler.symbols import intrinsic_of

KEY = digest(Path(__file__).read_text(encoding="utf-8"))


def overlap(a, b):
    """Tell whether two C-contiguous arrays share memory."""
    first, second = a.ctypes.data, b.ctypes.data
    return first < second + b.nbytes and second < first + a.nbytes


def mixed(x, y):
    """Tell whether results in y, written sample by sample, would overwrite later samples of x."""
    same = x.ctypes.data == y.ctypes.data and x.nbytes == y.nbytes
    return len(x) > 1 and overlap(x, y) and not same


def sharing(inputs, outputs):
    """Return the expression, in the text of a program, that tells whether memory is shared as a call cannot bear it."""
    pairs = [f"overlap({a}, {b})" for a, b in combinations(outputs, 2)]
    return " or ".join([*pairs, *(f"mixed({a}, {b})" for b in outputs for a in inputs)])


def shared(arrays, outputs):
    """Say which output, by name, shares memory with another array as a call cannot bear it; None if none does."""
    for name in outputs:
        for other, array in arrays.items():
            test = overlap if other in outputs else mixed
            if other != name and test(array, arrays[name]):
                return f"expected {name} with memory of its own, got one that shares a part with {other}"
    return None


def emit_mixed(builder, x, y):
    """Emit `mixed` of two structs of arrays."""
    (first, size), (second, other) = _range(builder, x), _range(builder, y)
    same = builder.and_(builder.icmp_unsigned("==", first, second), builder.icmp_unsigned("==", size, other))
    several = builder.icmp_signed(">", builder.extract_value(x, [5, 0]), size.type(1))
    return builder.and_(several, builder.and_(emit_overlap(builder, x, y), builder.not_(same)))


def emit_overlap(builder, a, b):
    """Emit `overlap` of two structs of arrays."""
    (first, size), (second, other) = _range(builder, a), _range(builder, b)
    before = builder.icmp_unsigned("<", first, builder.add(second, other))
    return builder.and_(before, builder.icmp_unsigned("<", second, builder.add(first, size)))


def _range(builder, array):
    """Emit the address of an array and its bytes."""
    count, item, data = (builder.extract_value(array, k) for k in (2, 3, 4))
    return builder.ptrtoint(data, count.type), builder.mul(count, item)


def _intrinsic(emit):
    def typed(typing, given):
        def generate(context, builder, sig, values):
            return emit(builder, *values)

        return types.boolean(*given), generate

    return intrinsic_of(["a", "b"], typed)


IN_PYTHON = {"overlap": overlap, "mixed": mixed}
IN_CODE = {"overlap": _intrinsic(emit_overlap), "mixed": _intrinsic(emit_mixed)}
