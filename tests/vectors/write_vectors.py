"""Writer of windows.npz: PyTorch's results for convolutions and pooling of many geometries, in float64.

Run it with torch installed: ``python tests/vectors/write_vectors.py``. The tests read the file, so that they compare
with PyTorch even if it is not installed.

The file holds `cases`, one "<spec> <N>,<C>,<sizes>" a geometry; `inputs`, for each case x, W, b (where it has them)
and dy as whole numbers to be divided by 16; `outputs`, for each case y, dx, dW and db; all flat, one after the other.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import torch_windows as peer  # noqa: E402

COUNTS = {"conv": 90, "conv_transpose": 50, "pooling": 60}


def write():
    rng = np.random.default_rng(20220402)
    cases, inputs, outputs = [], [], []
    for family, count in COUNTS.items():
        for _ in range(count):
            layer, shape = peer.geometry(family, lambda values: values[rng.integers(len(values))])
            parameters = {k: peer.numbers(rng, p.shape) for k, p in layer.parameters(shape[1:]).items()}
            x = peer.numbers(rng, shape)
            found = peer.answer(layer, x, lambda shape: peer.numbers(rng, shape), **parameters)
            cases.append(f"{layer.spec()} {','.join(map(str, shape))}")
            inputs += [x, *parameters.values(), found["dy"]]
            outputs += [found[key] for key in ("y", "dx", *("d" + name for name in parameters))]
    whole = np.concatenate([16 * array.ravel() for array in inputs]).astype(np.int8)
    answers = np.concatenate([array.ravel() for array in outputs])
    np.savez_compressed(HERE / "windows.npz", cases=cases, inputs=whole, outputs=answers)


if __name__ == "__main__":
    write()
