"""Vectors of four adjacent numbers: 128-bit loads and stores of float32, which LLVM never makes from scalar ones.

Shorter types take fewer bits, float64 takes two accesses.

`i` must be a multiple of four from the start of an allocation or of a shared array. The simulator accesses the numbers
one by one.
"""

from numba import config

if getattr(config, "ENABLE_CUDASIM", False):

    def load4(array, i):
        """Load array[i : i + 4] as a tuple."""
        return array[i], array[i + 1], array[i + 2], array[i + 3]

    def store4(array, i, a, b, c, d):
        """Store a, b, c, d to array[i : i + 4]."""
        array[i], array[i + 1], array[i + 2], array[i + 3] = a, b, c, d

else:
    from llvmlite import ir
    from numba.cuda import types
    from numba.cuda.extending import intrinsic

    def _address(context, builder, array, value, i):
        """Return a pointer to a vector of four, its type, and its alignment in bytes."""
        data = context.make_array(array)(context, builder, value).data
        vector = ir.VectorType(context.get_data_type(array.dtype), 4)
        pointer = builder.bitcast(builder.gep(data, [i]), ir.PointerType(vector, data.type.addrspace))
        return pointer, vector, min(16, 4 * array.dtype.bitwidth // 8)

    def _lane(k):
        return ir.Constant(ir.IntType(32), k)

    @intrinsic
    def load4(typing, array, i):
        """Load array[i : i + 4] as a tuple."""

        def generate(context, builder, signature, values):
            pointer, _, align = _address(context, builder, signature.args[0], *values)
            vector = builder.load(pointer, align=align)
            lanes = [builder.extract_element(vector, _lane(k)) for k in range(4)]
            return context.make_tuple(builder, signature.return_type, lanes)

        return types.UniTuple(array.dtype, 4)(array, types.intp), generate

    @intrinsic
    def store4(typing, array, i, a, b, c, d):
        """Store a, b, c, d to array[i : i + 4]."""

        def generate(context, builder, signature, values):
            pointer, kind, align = _address(context, builder, signature.args[0], *values[:2])
            vector = ir.Constant(kind, ir.Undefined)
            for k in range(4):
                vector = builder.insert_element(vector, values[2 + k], _lane(k))
            builder.store(vector, pointer, align=align)
            return context.get_dummy_value()

        return types.void(array, types.intp, *(array.dtype,) * 4), generate
