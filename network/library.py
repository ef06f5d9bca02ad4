"""`Network.export`: a file with a network's weights and machine code, and a header, for programs without Python.

The code is compiled once more in a child process (export/worker.py): Numba reads the kind of processor when it is
imported, and tiles have its vectors.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import NnjitError, UsageError

V2 = "+cx16,+popcnt,+sse3,+sse4.1,+sse4.2,+ssse3"
V3 = f"{V2},+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe"
V4 = f"{V3},+avx512bw,+avx512cd,+avx512dq,+avx512f,+avx512vl"
# Levels of x86-64 (System V ABI): name -> features of LLVM. Other architectures have the portable and the native code.
LEVELS = {"x86-64-v2": V2, "x86-64-v3": V3, "x86-64-v4": V4}


def cpus() -> list[str]:
    """Return the kinds of processor that code can be exported for."""
    return ["portable", "native", *(LEVELS if platform.machine() in ("x86_64", "AMD64") else ())]


def export(network: Any, path: str | os.PathLike[str], cpu: str = "portable", plugins: Sequence[str] = ()) -> Path:
    """Write a library or an object file, and a header beside it; see `Network.export`."""
    path = Path(path)
    if path.suffix not in (".so", ".o"):
        raise UsageError(f"{path}: expected a name that ends with .so (a library) or .o (an object file)")
    if not re.fullmatch(r"[A-Za-z_]\w*", path.stem, re.ASCII):
        raise UsageError(f"{path}: the file's name begins the names of C functions, so it must be an identifier of C")
    if cpu not in cpus():
        raise UsageError(f"cpu: expected one of {', '.join(cpus())}, got {cpu!r}")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}")
    linker = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if path.suffix == ".so" and linker is None:
        raise UsageError(f"{path}: a .so needs a C compiler (cc, gcc or clang), and there is none; an .o needs no tool")
    with tempfile.TemporaryDirectory() as folder:
        model, code, header = (Path(folder) / name for name in ("net.safetensors", "code.o", "header.h"))
        network.save(model)
        task = {"model": str(model), "object": str(code), "header": str(header), "name": path.stem, "cpu": cpu}
        _compile(task | {"plugins": list(plugins)}, folder)
        made = code
        if path.suffix == ".so":
            made = Path(folder) / "library.so"
            _run([str(linker), "-shared", "-o", str(made), str(code), "-lm"], "the C compiler cannot link the library")
        shutil.copyfile(made, path)
        shutil.copyfile(header, path.with_suffix(".h"))
    return path


def _compile(task, folder):
    """Run the child: no cache of compiled code, one thread, the processor that is wanted."""
    environment = os.environ | {"NUMBA_NUM_THREADS": "1", "NUMBA_DISABLE_INTEL_SVML": "1"}
    environment["NNJIT_CACHE_DIR"] = str(Path(folder) / "net.safetensors" / "none")  # no directory: nothing is stored
    for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"):
        environment.pop(name, None)
    if task["cpu"] in LEVELS:
        environment |= {"NUMBA_CPU_NAME": task["cpu"], "NUMBA_CPU_FEATURES": LEVELS[task["cpu"]]}
    elif task["cpu"] == "portable":
        environment |= {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+neon" if _is_arm() else "+sse2"}
    command = [sys.executable, "-m", "nnjit.export.worker", json.dumps(task)]
    _run(command, "the network cannot be exported", environment)


def _is_arm():
    return platform.machine() in ("aarch64", "arm64")


def _run(command, what, environment=None):
    """Run a command; raise NnjitError with its last line if it fails."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        raise NnjitError(f"{what}: {said[-1]}")
