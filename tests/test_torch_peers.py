"""Convolutions and pooling against PyTorch, if it is installed: drawn geometries, forward and every gradient.

PyTorch's results for fixed geometries are in vectors/windows.npz, which the tests of both read.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_runner import run

pytest.importorskip("torch", reason="PyTorch is an extra: pip install nnjit[peers]")
import torch_windows as peer  # imports torch
from window_vectors import near


@pytest.mark.parametrize("family, dtype, tolerance", [
    ("conv", np.float64, 1e-11), ("conv", np.float32, 2e-5),
    ("conv_transpose", np.float64, 1e-11), ("conv_transpose", np.float32, 2e-5),
    ("pooling", np.float64, 1e-11), ("pooling", np.float32, 2e-5),
])  # fmt: skip
@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**31))
def test_drawn_geometries(family, dtype, tolerance, data, seed):
    layer, shape = peer.geometry(family, lambda values: data.draw(st.sampled_from(list(values))))
    rng = np.random.default_rng(seed)
    x = peer.numbers(rng, shape)
    parameters = {k: peer.numbers(rng, p.shape) for k, p in layer.parameters(shape[1:]).items()}
    wanted = peer.answer(layer, x, lambda out_shape: peer.numbers(rng, out_shape), **parameters)
    got = run(layer, x.astype(dtype), wanted["dy"].astype(dtype), parameters)
    near(got, wanted, tolerance, f"{layer} on {shape}")
