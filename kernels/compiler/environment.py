"""Checks of the environment: that it has Numba's compiler and its threads; and a short start of that compiler."""

from functools import cache
from importlib.util import find_spec

import numba

from ...errors import NnjitError


def need_compiler():
    """Raise NnjitError if the environment disables Numba's compiler."""
    if numba.config.DISABLE_JIT:
        raise NnjitError(
            "NUMBA_DISABLE_JIT is set, so Numba compiles nothing and nnjit's kernels run compiled only; unset it (tools"
            " that measure coverage work without it)"
        )


@cache
def start_compiler():
    """Import Numba's NumPy functions as its first compilation does, but without scipy.linalg.

    Numba imports that only to see whether there is a BLAS, and looks again where code needs one. It takes a quarter of
    the start of a process.
    """
    from numba.np import linalg

    def is_there():
        if find_spec("scipy") is None:
            raise ImportError

    look, linalg.ensure_blas = linalg.ensure_blas, is_there
    try:
        from numba.np import arraymath  # noqa: F401 - it looks now
    finally:
        linalg.ensure_blas = look


def start_threads():
    """Start Numba's threads, if they do not run yet, and return their number.

    Raises
    ------
    NnjitError : the threading layer that the environment requests is missing.
    """
    try:
        return numba.get_num_threads()
    except ValueError as error:
        wanted, said = numba.config.THREADING_LAYER, " ".join(str(error).split()).rstrip(".")
        raise NnjitError(
            f"NUMBA_THREADING_LAYER is {wanted!r}, but Numba cannot start it: {said}; unset it, or choose"
            " omp or workqueue"
        ) from None
