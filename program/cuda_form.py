"""The CUDA form of a kernel of a program; numba.cuda is not needed for it."""

from ..errors import DeviceError
from ..kernels.compiler.kernel import Kernel
from ..kernels.operations import Operation


def cuda_form(binding):
    """Return the CUDA form of a kernel of the program; raise DeviceError, with what to add, if it has none."""
    kernel = binding.kernel
    if isinstance(kernel, Operation):
        try:
            return kernel.on("cuda")
        except (ImportError, AttributeError):
            raise DeviceError(
                f"{binding.title}: the operation {kernel.name} has no CUDA form; add a function {kernel.function} to"
                f" kernels/cuda/{kernel.file}.py"
            ) from None
    if not isinstance(kernel, Kernel):
        raise DeviceError(
            f"{binding.title}: {kernel!r} has no CUDA form; write it as a loop under @kernel or @elementwise"
        )
    return kernel
