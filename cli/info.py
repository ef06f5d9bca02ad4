"""`nnjit info`: what this installation computes with."""

import click

from .text import aligned

SIMD = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "neon", "sve")  # what vector loops use


@click.command("info")
def info():
    """Versions, threads, threading layer, processor, CUDA devices and cache."""
    import platform
    import sys
    from importlib.metadata import version

    import llvmlite.binding as llvm
    import numba

    from .. import __version__
    from ..kernels import cache

    threads = numba.get_num_threads()  # starts the threads, and so settles the layer
    features = llvm.get_host_cpu_features()
    files = [file for file in cache.directory().rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files) / 1e6
    facts = [
        ("nnjit", __version__),
        ("python", f"{platform.python_version()} ({sys.executable})"),
        *((name, version(name)) for name in ("numba", "llvmlite", "numpy")),
        ("system", platform.platform()),
        (
            "processor",
            f"{llvm.get_host_cpu_name()}, {', '.join(f for f in SIMD if features.get(f)) or 'no vector unit'}",
        ),
        ("threads", f"{threads} of {numba.config.NUMBA_NUM_THREADS}, threading layer {numba.threading_layer()}"),
        ("cuda devices", _cuda_devices()),
        ("cache", f"{cache.directory()} ({len(files)} files, {size:.1f} MB)"),
    ]
    click.echo(aligned(facts))


def _cuda_devices():
    """Names of the CUDA devices, or why there are none."""
    try:
        from numba import cuda

        if not cuda.is_available():
            return "none"
        return ", ".join(gpu.name.decode() if isinstance(gpu.name, bytes) else gpu.name for gpu in cuda.gpus)
    except Exception:  # numba-cuda is not installed, or its driver is not usable: there is nothing to compute on
        return "none"
