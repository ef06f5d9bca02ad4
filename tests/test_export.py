"""Networks exported as libraries: a program in C computes what `net.predict` and a program's vjp do, without Python."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from nnjit.errors import UsageError
from nnjit.export.header import _data
from nnjit.export.reshape import reshape
from nnjit.network.library import LEVELS, cpus
from nnjit.registry import compose

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
CC = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
needs_compiler = pytest.mark.skipif(CC is None, reason="there is no C compiler")

# Reads samples and deltas from standard input as numbers in C's hexadecimal form, and writes y and dx of each.
PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include "{name}.h"
#define T {kind}
int main(void) {{
    T x[{big}_INPUTS], dy[{big}_OUTPUTS], y[{big}_OUTPUTS], dx[{big}_INPUTS];
    T *dtheta = calloc({big}_PARAMETERS, sizeof(T));
    void *workspace = malloc({big}_WORKSPACE);
    for (;;) {{
        double v;
        for (int i = 0; i < {big}_INPUTS; i++) {{ if (scanf("%la", &v) != 1) goto end; x[i] = v; }}
        for (int i = 0; i < {big}_OUTPUTS; i++) {{ if (scanf("%la", &v) != 1) return 3; dy[i] = v; }}
        if ({name}_predict(x, y, workspace)) return 1;
        for (int i = 0; i < {big}_OUTPUTS; i++) printf("%a ", (double)y[i]);
        if ({name}_vjp(x, dy, y, dx, dtheta, workspace)) return 2;
        for (int i = 0; i < {big}_INPUTS; i++) printf("%a ", (double)dx[i]);
    }}
end:
    for (int i = 0; i < {big}_PARAMETERS; i++) printf("%a ", (double)dtheta[i]);
    return 0;
}}
"""
NETWORKS = {
    "an MLP": ("dense(24) tanh dense(8) gelu dense(3)", (5,), "float32"),
    "LeNet": ("minmax(0, 255) conv(6, 5, padding='same') relu maxpool(2) conv(16, 5) relu maxpool(2) flatten dense(120)"
              " relu dense(84) relu dense(10)", (1, 28, 28), "float32"),
    "a residual network": (["conv(4, 3, padding=1)", "batchnorm", "relu", "residual(['conv(4, 3, padding=1)',"
                            " 'batchnorm', 'relu'])", "global_avgpool", "dense(2)"], (2, 6, 6), "float64"),
}  # fmt: skip


def network(name):
    layers, shape, dtype = NETWORKS[name]
    net, rng = compose(layers, shape, dtype=dtype, seed=3), np.random.default_rng(0)
    net.flat_buffers[:] = rng.uniform(0.5, 1.5, net.flat_buffers.size)
    return (
        net,
        rng.standard_normal((3, *shape)).astype(dtype),
        rng.standard_normal((3, *net.output_shape)).astype(dtype),
    )


def run_in_c(net, path, x, dy):
    """Compile a program against an exported library; return y, dx and dtheta that it computes."""
    kind = "float" if net.dtype == "float32" else "double"
    source = path.with_suffix(".c")
    source.write_text(PROGRAM.format(name=path.stem, big=path.stem.upper(), kind=kind))
    program = path.with_suffix(".exe")
    subprocess.run([CC, "-Wall", "-Werror", "-o", program, source, path, "-lm"], check=True, cwd=path.parent)
    given = "\n".join(float(v).hex() for a, b in zip(x, dy, strict=True) for v in [*a.ravel(), *b.ravel()])
    environment = {"PATH": "", "LD_LIBRARY_PATH": str(path.parent)}  # no Python
    done = subprocess.run([program], input=given, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done
    numbers = np.array([float.fromhex(word) for word in done.stdout.split()])
    samples, outs, ins = len(x), dy[0].size, x[0].size
    rows = numbers[: samples * (outs + ins)].reshape(samples, outs + ins)
    return rows[:, :outs].reshape(dy.shape), rows[:, outs:].reshape(x.shape), numbers[samples * (outs + ins) :]


def expected(net, x, dy):
    """Return y, dx and dtheta of the samples one by one, by the program for one sample."""
    program = net.compile(None, batch_size=1)
    pairs = [program.vjp(program.state, a, b) for a, b in zip(x, dy, strict=True)]
    y = np.concatenate([net.predict(a[None], batch_size=1) for a in x])
    return y, np.array([dx for _, dx in pairs]), program.state.gradient


@needs_compiler
@pytest.mark.parametrize("name", NETWORKS)
def test_native_code_has_the_bits_of_predictions_in_python(tmp_path, name):
    net, x, dy = network(name)
    path = net.export(tmp_path / "pendulum.so", cpu="native")
    for got, wanted in zip(run_in_c(net, path, x, dy), expected(net, x, dy), strict=True):
        np.testing.assert_array_equal(got, wanted)
    if shutil.which("nm"):
        listed = subprocess.run(["nm", "-D", "--undefined-only", path], capture_output=True, text=True, check=True)
        used = {re.split("[@ ]", line.split()[-1])[0] for line in listed.stdout.splitlines()}
        assert not {each for each in used if not each.startswith("_")} - {"memset", "memcpy", "memmove", "abort"}
    header = path.with_suffix(".h").read_text()
    assert "int pendulum_predict(" in header and "sha256" in header and " * layers " in header
    assert " * data        not trained by nnjit" in header


@pytest.mark.parametrize("fits", [True, False])
def test_strides_of_a_reshaped_array(fits):
    """The function in place of Numba's own, which an exported library cannot call."""
    array, other, found = np.zeros((3, 1, 4), "f"), np.zeros((2, 6), "f"), [0, 0]
    strides = array.strides if fits else (20, 999, 4)
    assert reshape(3, array.shape, strides, 2, other.shape, found, 4, 0) == fits
    assert not fits or tuple(found) == other.strides


def test_the_header_says_what_the_data_were():
    from nnjit.data.schema import Schema

    data, columns, classes = _data(Schema(("a", "b"), ("no", "yes"), True, 16.0, raw_range=(0.0, 16.0)))
    assert data == "data        raw numbers, magnitudes up to 16"
    assert (columns, classes) == ("columns     a, b", "classes     no, yes")


@needs_compiler
@pytest.mark.parametrize("cpu", [each for each in cpus() if each != "native"])
def test_other_processors_to_rounding(tmp_path, cpu):
    import llvmlite.binding as llvm

    there = llvm.get_host_cpu_features()
    if any(not there.get(each[1:], False) for each in LEVELS.get(cpu, "").split(",") if each):
        pytest.skip(f"this processor is not {cpu}")
    net, x, dy = network("an MLP")
    path = net.export(tmp_path / "mlp.o", cpu=cpu)
    for got, wanted in zip(run_in_c(net, path, x, dy), expected(net, x, dy), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("path, cpu, words", [
    ("net.dll", "native", "ends with .so"), ("my-net.o", "native", "an identifier of C"),
    ("net.o", "m68k", "expected one of portable, native"), ("none/net.o", "native", "there is no folder"),
])  # fmt: skip
def test_what_cannot_be_exported_is_refused_first(tmp_path, path, cpu, words):
    with pytest.raises(UsageError, match=words):
        network("an MLP")[0].export(tmp_path / path, cpu=cpu)
    assert not list(tmp_path.iterdir())


@needs_compiler
def test_the_example_in_c_is_the_simulation_in_python(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    from jitted_simulation import simulate

    net = compose("dense(32) tanh dense(32) tanh dense(1)", (2,), dtype="float64", seed=5)
    library = net.export(tmp_path / "pendulum.o", cpu="native")
    source = EXAMPLES / "embed" / "pendulum.c"
    command = [CC, "-Wall", "-Werror", "-o", "pendulum", source, f"-I{tmp_path}", library, "-lm"]
    subprocess.run(command, check=True, cwd=tmp_path)
    done = subprocess.run([tmp_path / "pendulum", "1.0", "300"], capture_output=True, text=True, check=True)
    program = net.compile(None, batch_size=1)
    path = simulate(program.predict, program.state, np.empty((1, 2)), np.empty((1, 1)), 1.0, 0.0, 300)
    assert float(done.stdout) == pytest.approx(path[-1], rel=1e-12)
