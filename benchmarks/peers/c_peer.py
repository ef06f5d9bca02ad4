"""C: plain loops with constant sizes, written for the network and compiled on the spot by `cc`, `gcc` or `clang`.

Dense layers with relu, tanh or sigmoid between them, one sample at a time: predictions in a feedback loop, and steps of
gradient descent. The loop around them is in C too, as a user's would be.
"""

import ctypes
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from nnjit import registry
from peers.unit import CALLS, CHECKED, FEEDBACK, Absent, Unit

FLAGS = ("-O3", "-march=native", "-ffast-math", "-shared", "-fPIC", *os.environ.get("CFLAGS", "").split())
TYPES = {"float32": ("float", "f"), "float64": ("double", "")}  # the C type, and the suffix of functions in math.h
VALUES = {"relu": "{z} > 0 ? {z} : 0", "tanh": "tanh{f}({z})", "sigmoid": "1 / (1 + exp{f}(-{z}))"}
SLOPES = {"relu": "{a} > 0", "tanh": "1 - {a} * {a}", "sigmoid": "{a} * (1 - {a})"}  # by the value


def compiler():
    """Return the path of a C compiler; Absent without one."""
    path = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if path is None:
        raise Absent("no C compiler (cc, gcc or clang)")
    return path


def version():
    first = subprocess.run([compiler(), "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return f"{first}, {' '.join(FLAGS[:3] + FLAGS[5:])}"


def prepare(work, rows, arrays):
    if work["kind"] not in ("feedback", "train"):
        raise Absent(f"{work['kind']} is not written in C")
    if work["batch"] != 1:
        raise Absent("one sample at a time only")
    for row in rows:
        if row["kind"] not in ("dense", *VALUES):
            raise Absent(f"{row['kind']} is not translated")
    return {"": (Train if work["kind"] == "train" else Feedback)(work, rows, arrays)}


def start(rows):
    """Map each dense row's name to the offsets of W and b in the vector of all parameters."""
    places, at = {}, 0
    for row in rows:
        if row["kind"] == "dense":
            inputs, outputs = row["in"][0], row["out"][0]
            places[row["name"]] = at, at + inputs * outputs
            at += outputs * (inputs + row["options"]["bias"])
    return places


def forward(rows, real):
    """Lines that compute a1, a2, ... of a0."""
    places, suffix = start(rows), TYPES[real][1]
    for i, row in enumerate(rows):
        inputs, outputs = row["in"][0], row["out"][0]
        yield f"real a{i + 1}[{outputs}];"
        if row["kind"] == "dense":
            W, b = places[row["name"]]
            yield f"for (int j = 0; j < {outputs}; j++) {{"
            yield f"    real z = {f'p[{b} + j]' if row['options']['bias'] else '0'};"
            yield f"    for (int k = 0; k < {inputs}; k++) z += p[{W} + j * {inputs} + k] * a{i}[k];"
            yield f"    a{i + 1}[j] = z;"
            yield "}"
        else:
            value = VALUES[row["kind"]].format(z=f"a{i}[j]", f=suffix)
            yield f"for (int j = 0; j < {outputs}; j++) a{i + 1}[j] = {value};"


def backward(rows):
    """Lines that change the parameters by gradient descent; d<i> is the gradient of a<i>."""
    places = start(rows)
    for i in range(len(rows) - 1, -1, -1):
        row = rows[i]
        inputs, outputs = row["in"][0], row["out"][0]
        if row["kind"] != "dense":
            slope = SLOPES[row["kind"]].format(a=f"a{i + 1}[j]")
            yield f"real d{i}[{inputs}];"
            yield f"for (int j = 0; j < {outputs}; j++) d{i}[j] = d{i + 1}[j] * ({slope});"
            continue
        W, b = places[row["name"]]
        if i:
            yield f"real d{i}[{inputs}];"
            yield f"for (int k = 0; k < {inputs}; k++) d{i}[k] = 0;"
            yield f"for (int j = 0; j < {outputs}; j++)"
            yield f"    for (int k = 0; k < {inputs}; k++) d{i}[k] += p[{W} + j * {inputs} + k] * d{i + 1}[j];"
        yield f"for (int j = 0; j < {outputs}; j++) {{"
        yield f"    for (int k = 0; k < {inputs}; k++) p[{W} + j * {inputs} + k] -= rate * d{i + 1}[j] * a{i}[k];"
        if row["options"]["bias"]:
            yield f"    p[{b} + j] -= rate * d{i + 1}[j];"
        yield "}"


def feedback_text(rows, real):
    """Write `run`: n predictions, where x[0] comes from the last result."""
    inputs, outputs, last = rows[0]["in"][0], rows[-1]["out"][0], f"a{len(rows)}"
    return _text(real, "void run(const real *restrict p, real *restrict x, real *restrict y, long n)", [
        f"real a0[{inputs}];",
        f"for (int k = 0; k < {inputs}; k++) a0[k] = x[k];",
        "for (long i = 0; i < n; i++) {",
        *(f"    {line}" for line in forward(rows, real)),
        f"    a0[0] = {last}[0] * (real){FEEDBACK};",
        f"    if (i == n - 1) for (int j = 0; j < {outputs}; j++) y[j] = {last}[j];",
        "}",
        "x[0] = a0[0];",
    ])  # fmt: skip


def training_text(rows, real):
    """Write `run`: steps on the samples that `order` names; returns the mean of the loss 1/2 ||y - t||^2."""
    inputs, outputs, last = rows[0]["in"][0], rows[-1]["out"][0], len(rows)
    arguments = "real *restrict p, const real *restrict x, const real *restrict t, const long long *restrict order"
    return _text(real, f"double run({arguments}, long n, double eta)", [
        "const real rate = eta;",
        "double total = 0;",
        "for (long i = 0; i < n; i++) {",
        f"    const real *a0 = x + order[i] * {inputs}, *target = t + order[i] * {outputs};",
        *(f"    {line}" for line in forward(rows, real)),
        f"    real d{last}[{outputs}], loss = 0;",
        f"    for (int j = 0; j < {outputs}; j++) {{",
        f"        d{last}[j] = a{last}[j] - target[j];",
        f"        loss += d{last}[j] * d{last}[j] / 2;",
        "    }",
        "    total += loss;",
        *(f"    {line}" for line in backward(rows)),
        "}",
        "return total / n;",
    ])  # fmt: skip


def _text(real, head, lines):
    body = "\n".join(f"    {line}" for line in lines)
    return f"#include <math.h>\ntypedef {TYPES[real][0]} real;\n\n{head}\n{{\n{body}\n}}\n"


def build(text, folder):
    """Compile a text and return its function `run`."""
    source, library = Path(folder) / "network.c", Path(folder) / "network.so"
    source.write_text(text, encoding="utf-8")
    command = [compiler(), *FLAGS, str(source), "-o", str(library), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Absent(f"the compiler refused: {(done.stderr.strip().splitlines() or ['without a word'])[0]}")
    return ctypes.CDLL(str(library)).run


class Compiled(Unit):
    """A network in C with its parameters in one vector, which `reset` restores."""

    def __init__(self, text, rows, arrays):
        with tempfile.TemporaryDirectory() as folder:
            self.function = build(text, folder)
        names = [f"{row['name']}.{key}" for row in rows for key in ("W", "b")]
        self.initial = {name: arrays[f"initial:{name}"] for name in names if f"initial:{name}" in arrays}
        self.start = np.concatenate([value.ravel() for value in self.initial.values()])
        self.p = self.start.copy()

    def reset(self):
        self.p[...] = self.start


class Feedback(Compiled):
    """Predictions in a loop; the first number of each sample depends on the last result."""

    units = CALLS

    def __init__(self, work, rows, arrays):
        super().__init__(feedback_text(rows, work["dtype"]), rows, arrays)
        self.first, self.x = arrays["x"], arrays["x"].copy()
        self.y = np.empty((1, *rows[-1]["out"]), work["dtype"])
        self.given = [ctypes.c_void_p(a.ctypes.data) for a in (self.p, self.x, self.y)]

    def check(self):
        found = []
        for _ in range(CHECKED):
            self.function(*self.given, ctypes.c_long(1))
            found.append(self.y.copy())
        return {"y": np.array(found)}

    def run(self):
        self.function(*self.given, ctypes.c_long(self.units))

    def reset(self):
        self.x[...] = self.first


class Train(Compiled):
    """Steps of gradient descent, many in one call."""

    def __init__(self, work, rows, arrays):
        rule = registry.parse(work["optimizer"], "optimizer").name
        options = registry.optimizers.create(work["optimizer"]).options()
        plain = rule == "sgd" and not options["momentum"] and not options["weight_decay"]
        if not plain or work["loss"] != "quadratic":
            raise Absent("trains by plain gradient descent on the quadratic loss only")
        super().__init__(training_text(rows, work["dtype"]), rows, arrays)
        self.units = work["batches"]
        order = np.ascontiguousarray(arrays["order"], np.int64)
        self.arrays = self.p, arrays["x"], arrays["target"], order  # kept, since C only has their addresses
        self.given = [ctypes.c_void_p(a.ctypes.data) for a in self.arrays]
        self.rate = ctypes.c_double(options["lr"])
        self.function.restype = ctypes.c_double

    def check(self):
        loss = self.function(*self.given, ctypes.c_long(1), self.rate)
        found, at = {"loss": np.array([loss])}, 0
        for name, value in self.initial.items():
            after = self.p[at : at + value.size].reshape(value.shape)
            found[f"change:{name}"] = after.astype(float) - value
            at += value.size
        return found

    def run(self):
        self.function(*self.given, ctypes.c_long(self.units), self.rate)
