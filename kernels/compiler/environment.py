"""Checks of the environment: that it has Numba's compiler and its threads."""

import numba

from ...errors import NnjitError


def need_compiler():
    """Raise NnjitError if the environment disables Numba's compiler."""
    if numba.config.DISABLE_JIT:
        raise NnjitError(
            "NUMBA_DISABLE_JIT is set, so Numba compiles nothing and nnjit's kernels run compiled only; unset it (tools"
            " that measure coverage work without it)"
        )


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
