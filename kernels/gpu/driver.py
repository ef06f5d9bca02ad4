"""The CUDA driver: its availability, sequences of launches, and its errors in one sentence each."""

from contextlib import contextmanager
from importlib.util import find_spec

from numba import cuda
from numba.core.errors import NumbaError
from numba.cuda.cudadrv import nvvm

from ...errors import DeviceError
from .device_code import SIMULATED
from .launch import launches
from .tensor import NEEDS

OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY
KNOWN = "numba.cuda knows arithmetic, comparisons, indices and the functions of math"
TOO_OLD = ("UNSUPPORTED_PTX_VERSION", "INSUFFICIENT_DRIVER", "SYSTEM_DRIVER_MISMATCH")  # errors of an old driver


def require(precision="float32"):
    """Raise DeviceError, with a remedy, unless a usable GPU (or the simulator) supports the precision."""
    if SIMULATED:
        return
    if find_spec("numba_cuda") is None:
        raise DeviceError(
            'device cuda: the package numba-cuda is not installed; pip install "nnjit[cuda]" brings it for CUDA 13,'
            ' pip install "numba-cuda[cu12]" for older drivers'
        )
    if not cuda.is_available():
        raise DeviceError(f"device cuda: {missing()}; device cpu needs none")
    if precision != "float32":
        with translated("device cuda"):
            found = tuple(cuda.get_current_device().compute_capability)
        if found < NEEDS:
            wanted, got = (".".join(map(str, version)) for version in (NEEDS, found))
            raise DeviceError(
                f"precision: {precision} needs a GPU of compute capability {wanted}, this one has {got}; choose float32"
            )


def missing():
    """Return a short reason why no GPU can be used."""
    said = " ".join(str(cuda.cuda_error() or "").split())
    if "cannot be found" in said or "could not be found" in said:
        return "there is no NVIDIA driver on this machine"
    if said:
        return f"the NVIDIA driver cannot be used ({said})"
    if not nvvm.is_available():
        return 'numba-cuda came without its compiler, libNVVM; pip install "nnjit[cuda]" brings it for CUDA 13'
    return "the NVIDIA driver finds no GPU"


@contextmanager
def translated(doing):
    """Convert errors of Numba and the driver to a DeviceError that names the operation."""
    try:
        yield
    except MemoryError as error:
        raise DeviceError(f"{doing}: {str(error) or 'out of memory'}") from None
    except NumbaError as error:
        raise DeviceError(f"{doing}: {first_line(error)}") from error
    except Exception as error:
        if not of_driver(error):
            raise
        if getattr(error, "code", None) == OUT_OF_MEMORY or "OUT_OF_MEMORY" in str(error):
            raise DeviceError(f"{doing}: the GPU has not enough free memory; a smaller batch_size needs less") from None
        if any(word in str(error) for word in TOO_OLD):
            raise DeviceError(
                f"{doing}: the NVIDIA driver is too old for the installed numba-cuda ({first_line(error)});"
                ' pip install "numba-cuda[cu12]" is for drivers of CUDA 12'
            ) from None
        raise DeviceError(f"{doing}: CUDA error {first_line(error)}; data on the GPU was lost") from None


def of_driver(error):
    """Return whether the CUDA driver or its bindings raised an error, rather than a compiler."""
    kind = type(error)
    return kind.__module__.startswith(("numba.cuda.cudadrv", "cuda.")) and kind.__name__ != "NvvmError"


@contextmanager
def formed(name):
    """Convert errors in a kernel's code to a DeviceError that states the supported language."""
    try:
        with translated("device cuda"):
            yield
    except DeviceError as error:
        if not isinstance(error.__cause__, NumbaError):
            raise
        raise DeviceError(f"{name} has no CUDA form: {first_line(error.__cause__)}; {KNOWN}") from error.__cause__
    except Exception as error:  # compilers raise many kinds of errors
        raise DeviceError(f"{name} has no CUDA form: {first_line(error)}; {KNOWN}") from error


def first_line(error):
    """Return the first informative line of a message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("Failed in")]
    return lines[0].rstrip(" :") if lines else type(error).__name__


class Sequence:
    """Launches in order, bound to their arrays once, and run any number of times.

    If driver and package support it, they are captured as a CUDA graph, which the driver starts as a whole; otherwise
    they are launched one by one. `why` is None for a graph, else the reason against it.

    Parameters
    ----------
    launches : list of Launch
    stream : stream of numba.cuda
    """

    def __init__(self, launches, stream):
        self.launches, self.stream = launches, stream
        self._graph = None
        self._calls = None
        self.why = "not run yet"

    def compile(self, name="a kernel"):
        """Compile every kernel, and load it into the device."""
        for launch in [] if SIMULATED else self.launches:
            with formed(name):
                launch.kernel.compile(tuple(launch.kernel.typeof_pyval(value) for value in launch.arguments))

    def __call__(self):
        self.bind()
        if SIMULATED:  # a simulated kernel stores only its last grid
            for launch in self.launches:
                launch(self.stream)
        elif self._graph is not None:
            self._graph.launch(self._core)
        else:
            for call, arguments in self._calls:
                call(*arguments)

    def bind(self):
        """Compile, bind and capture; runs once, at the first call at the latest."""
        if self._calls is not None:
            return
        self._calls = [(launch.on(self.stream), launch.arguments) for launch in self.launches]
        if SIMULATED:
            self.why = "the simulator has no graphs"
            return
        self.compile()  # no code may be loaded while a graph is captured
        try:
            self._graph, self._core = captured(self.launches, self.stream)
            self.why = None
        except Exception as error:  # an older driver or package: launch one by one instead
            self.why = first_line(error)


def captured(launches, stream):
    """Return the launches as an executable graph, and the stream as a cuda.core object."""
    from cuda.core import Device, Stream

    device = Device()
    device.set_current()
    builder = device.create_graph_builder()
    builder.begin_building()
    try:
        for each in launches:
            each(builder)
    finally:
        builder.end_building()
    return builder.complete(), Stream.from_handle(int(stream))


def steps(add):
    """Describe how this machine runs a training step, for `nnjit info`, by a trial with a kernel ``add(x, y, z)``."""
    numbers = cuda.device_array(1, "float32")
    trial = Sequence(launches(add, (numbers, numbers, numbers)), cuda.stream())
    trial()
    return "captured as CUDA graphs" if trial.why is None else f"plain launches ({trial.why})"
