"""A replacement for the one function of Numba's library that kernels may call: the strides of a reshaped array."""

from numba import cfunc, types

NAME = "numba_attempt_nocopy_reshape"
NUMBERS = types.CPointer(types.intp)
SIGNATURE = types.intc(types.intp, NUMBERS, NUMBERS, types.intp, NUMBERS, NUMBERS, types.intp, types.intc)


def reshape(rank, shape, strides, new_rank, new_shape, new_strides, item, fortran):
    """Write the new strides and return 1; return 0 if the array is not C-contiguous, as those of kernels are."""
    width = item
    for k in range(rank - 1, -1, -1):
        if shape[k] != 1 and strides[k] != width:
            return 0
        width *= shape[k]
    width = item
    for k in range(new_rank - 1, -1, -1):
        new_strides[k] = width
        width *= new_shape[k]
    return 1


def code():
    """Compile it; return the library and the name there, in C's calling convention."""
    made = cfunc(SIGNATURE)(reshape)
    return made._library, made._wrapper_name
