"""Reader of vectors/windows.npz (see vectors/write_vectors.py), and comparison of layers with it."""

from functools import cache
from pathlib import Path

import numpy as np
from layer_runner import run
from nnjit import registry


@cache
def cases():
    """Yield (layer, x, parameters, dy, wanted) for every stored geometry, in float64."""
    with np.load(Path(__file__).parent / "vectors" / "windows.npz") as file:
        texts, inputs, outputs = file["cases"].tolist(), _Tape(file["inputs"] / 16), _Tape(file["outputs"])
    found = []
    for text in texts:
        spec, _, sizes = text.rpartition(" ")
        layer, shape = registry.create(spec), tuple(map(int, sizes.split(",")))
        shapes = {name: parameter.shape for name, parameter in layer.parameters(shape[1:]).items()}
        out_shape = (shape[0], *layer.output_shape(shape[1:]))
        x, parameters = inputs.take(shape), {name: inputs.take(each) for name, each in shapes.items()}
        dy = inputs.take(out_shape)
        wanted = {"y": outputs.take(out_shape), "dx": outputs.take(shape)}
        wanted |= {"d" + name: outputs.take(each) for name, each in shapes.items()}
        found.append((layer, x, parameters, dy, wanted))
    assert inputs.rest == outputs.rest == 0
    return found


class _Tape:
    """A flat array that is read piece by piece."""

    def __init__(self, numbers):
        self.numbers, self.at = numbers, 0

    def take(self, shape):
        first, self.at = self.at, self.at + int(np.prod(shape))
        return self.numbers[first : self.at].reshape(shape)

    @property
    def rest(self):
        return len(self.numbers) - self.at


def compare(names, dtype, folder, tolerance):
    """Compare forward and every gradient in the stored cases of these layers; return the number of cases."""
    chosen = [case for case in cases() if registry.name_of(type(case[0])) in names]
    for layer, x, parameters, dy, wanted in chosen:
        got = run(layer, x.astype(dtype), dy.astype(dtype), parameters, folder)
        near(got, wanted, tolerance, f"{layer} on {x.shape}")
    return len(chosen)


def near(got, wanted, tolerance, label):
    """Compare within `tolerance` of the largest number of each array (at least 1)."""
    for name, want in wanted.items():
        bound = tolerance * max(1.0, np.abs(want).max(initial=0))
        np.testing.assert_allclose(got[name], want, rtol=0, atol=bound, err_msg=f"{label}: {name}")
