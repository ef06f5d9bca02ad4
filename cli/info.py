"""`nnjit info`: versions and hardware of this installation."""

import click

from .text import aligned

SIMD = (
    "sse4.2",
    "avx",
    "avx2",
    "fma",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "neon",
    "sve",
)  # instruction sets that matter to vector loops


@click.command("info")
def info():
    """Print versions, threads, threading layer, processor, CUDA devices and cache."""
    from ..kernels.compiler.directory import directory, size

    files = [file for file in directory().rglob("*") if file.is_file()]
    total, images = size(directory()) / 1e6, size(directory() / "images") / 1e6
    parts = f", decoded images {images:.1f} MB" * (images > 0)
    facts = [
        *versions(),
        ("threads", _threads()),
        *_cuda(),
        ("cache", f"{directory()} ({len(files)} files, {total:.1f} MB{parts})"),
    ]
    click.echo(aligned(facts))


def versions():
    """List what compiled code depends on: versions, system and processor."""
    import platform
    import sys
    from importlib.metadata import version

    import llvmlite.binding as llvm

    from .. import __version__
    from ..kernels.cpu.tile import cpu_features

    features = cpu_features()
    simd = ", ".join(f for f in SIMD if f in features) or "no vector unit"
    return [
        ("nnjit", __version__),
        ("python", f"{platform.python_version()} ({sys.executable})"),
        *((name, version(name)) for name in ("numba", "llvmlite", "numpy")),
        ("system", platform.platform()),
        ("processor", f"{llvm.get_host_cpu_name()}, {simd}"),
    ]


def _threads():
    """Return the number of threads and the threading layer, or the reason why there are none."""
    import numba

    from ..errors import NnjitError
    from ..kernels.compiler.environment import start_threads

    try:
        threads = start_threads()
    except NnjitError as error:
        return f"none ({error})"
    return f"{threads} of {numba.config.NUMBA_NUM_THREADS}, threading layer {numba.threading_layer()}"


def _cuda():
    """List the CUDA devices and how training steps run on them, or the reason why there are none."""
    from ..errors import DeviceError

    try:
        from numba import cuda

        from ..kernels.cpu.residual import add
        from ..kernels.gpu import driver

        driver.require()
        if driver.SIMULATED:
            return [("cuda devices", "Numba's simulator"), ("cuda steps", driver.steps(add))]
        names = [gpu.name.decode() if isinstance(gpu.name, bytes) else gpu.name for gpu in cuda.gpus]
        return [("cuda devices", ", ".join(names)), ("cuda steps", driver.steps(add))]
    except DeviceError as error:
        return [("cuda devices", f"none ({str(error).removeprefix('device cuda: ')})")]
    except Exception as error:  # an installed but broken driver
        return [("cuda devices", f"none ({type(error).__name__}: {error})")]
