"""A description of a network in plain lists, numbers and texts, for other frameworks that do not import nnjit."""

from typing import Any

from ..registry import layers as catalogue


def describe(layers, shape, prefix=""):
    """Describe every layer with all of its numbers resolved, in a form that JSON can hold.

    Parameters
    ----------
    layers : list of Layer
    shape : tuple of int
        Shape of the input, without the batch.
    prefix : str
        Prefix of layer names, ``residual.3.`` inside a residual.

    Returns
    -------
    list of dict
        ``name`` ("conv.1", as in parameter names), ``kind``, ``in``, ``out`` (shapes), ``options`` and what else its
        kernels bind; of windows also ``kernel``, ``stride``, ``dilation``, ``padding`` (a pair a dimension); of
        containers ``layers``.

    Raises
    ------
    ShapeError : the layers do not fit together.
    """
    rows = []
    for position, layer in enumerate(layers, start=1):
        kind = catalogue.name_of(type(layer))
        name, out = f"{prefix}{kind}.{position}", layer.output_shape(tuple(shape))
        row = {"name": name, "kind": kind, "in": list(shape), "out": list(out), "options": _plain(shape, layer)}
        window = layer.window(tuple(shape))
        if window is not None:
            row |= {key: [*getattr(window, key)] for key in ("kernel", "stride", "dilation")}
            row["padding"] = [list(pair) for pair in window.padding]
        if layer.inner is not None:
            row["layers"] = describe(layer.contents(), shape, f"{name}.")
        rows.append(row)
        shape = out
    return rows


def _plain(shape, layer):
    found: dict[str, Any] = {}
    for name, value in {**layer.scalars(tuple(shape)), **layer.options()}.items():
        if isinstance(value, tuple) and all(type(each) is int for each in value):
            found[name] = list(value)
        elif isinstance(value, (bool, int, float, str, type(None))):
            found[name] = value
    return found
