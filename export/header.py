"""The header of an exported network, with its model card as a comment."""

import hashlib
from math import prod

import numba

from .. import __version__
from .entries import STACK, sizes

TEXTS = {
    "predict": "y = F(x)",
    "vjp": "y = F(x), dx = (dF/dx)^T dy; (dF/dtheta)^T dy is added to dtheta, unless that is NULL",
}
ARGUMENTS = {
    "predict": "const {T} *x, {T} *y, void *workspace",
    "vjp": "const {T} *x, const {T} *dy, {T} *y, {T} *dx, {T} *dtheta, void *workspace",
}


def _data(schema):
    """Yield lines on the data that a network was trained on, and on its numbers."""
    if schema is None:
        yield "data        not trained by nnjit"
        return
    raw = "raw numbers, " if schema.raw_range is not None else ""
    yield f"data        {raw}magnitudes up to {f'{schema.largest:.9g}' if schema.largest else 'an unknown number'}"
    for name, listed in (("columns", schema.columns), ("classes", schema.classes)):
        if listed is not None:
            yield f"{name:<12}{', '.join(map(str, listed))}"
    for coding in () if schema.encoding is None else schema.encoding.codings:
        if coding.codes:
            values = [*coding.values, *["missing"] * coding.indicator]
            yield f"codes       {coding.name}: {', '.join(f'{code} {value}' for code, value in enumerate(values))}"


def header(name, cpu, program, functions, left_out):
    """Return the text of a header.

    Parameters
    ----------
    name, cpu : str
    program : Program
    functions : mapping
        The functions that are there, by name.
    left_out : mapping
        Name -> why it is not there.
    """
    net, state, big = program.network, program.state, name.upper()
    kind, (_, _, size) = "float" if net.dtype == "float32" else "double", sizes(program)
    weights = hashlib.sha256(state.theta.tobytes() + state.buffers.tobytes()).hexdigest()
    card = [
        f"A network exported by nnjit {__version__} (Numba {numba.__version__}), for one sample at a time.",
        "",
        f"layers      {' '.join(layer.spec() for layer in net.layers)}",
        f"input       {net.input_shape}, {kind}, C order",
        f"output      {net.output_shape}",
        f"parameters  {state.theta.size}, and {state.buffers.size} numbers that are not learned",
        *_data(net.trained_on),
        f"weights     sha256 {weights}",
        f"processor   {cpu}",
        *(f"without     {each}: {why}" for each, why in left_out.items()),
        "",
        "Each function returns 0, or 5 if it needs a workspace and gets NULL. It may be called by several threads at",
        f"once, with a workspace each of {big}_WORKSPACE bytes"
        + (" (NULL: it lies on the stack)." if size <= STACK else "."),
        *([f"{name}_vjp returns 6 if y and dx share memory."] if "vjp" in functions else []),
    ]
    lines = [f" * {line}".rstrip() for text in card for line in text.replace("*/", "* /").splitlines() or [""]]
    numbers = {
        "INPUTS": prod(net.input_shape), "OUTPUTS": prod(net.output_shape), "PARAMETERS": state.theta.size,
        "WORKSPACE": size,
    }  # fmt: skip
    return "\n".join([
        "/*", *lines, " */", f"#ifndef {big}_H", f"#define {big}_H", "",
        *(f"#define {big}_{key} {value}" for key, value in numbers.items()), "",
        "#ifdef __cplusplus", 'extern "C" {', "#endif", "",
        *(f"/* {TEXTS[each]} */\nint {name}_{each}({ARGUMENTS[each].replace('{T}', kind)});\n" for each in functions),
        "#ifdef __cplusplus", "}", "#endif", "#endif", "",
    ])  # fmt: skip
