"""Dropout: an oracle in Python integers for the generator, the same mask on all devices, the dropped share."""

import numpy as np
import pytest
from layer_runner import run
from nnjit import registry
from nnjit.errors import SpecError
from nnjit.kernels.cpu import dropout as cpu
from nnjit.kernels.reference import dropout as reference

MASK = 2**64 - 1


def splitmix(z):
    """Apply the finaliser of SplitMix64 in Python's integers."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def stays(seed, index, rate):
    bits = splitmix((splitmix(seed & MASK) + (index + 1) * 0x9E3779B97F4A7C15) & MASK)
    return (bits >> 40) / 2**24 >= float(np.float32(rate)) - 2**-24


def test_oracle_is_splitmix():
    # First outputs of the published generator for the seed 1234567: z = seed + k * golden ratio.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [splitmix(1234567 + (k + 1) * 0x9E3779B97F4A7C15 & MASK) for k in range(3)] == published


@pytest.mark.parametrize("folder", ["cpu", "reference"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed, first", [(7, 0), (2**31 - 1, 3), (2**62, 10**7)])
def test_mask_and_scale(folder, dtype, seed, first):
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, 6, 3, 5)).astype(dtype)
    got = run(registry.create("dropout(0.3)"), x, dy, folder=folder, seed=seed, first=first)
    kept = np.array([stays(seed, first * 15 + i, 0.3) for i in range(90)]).reshape(6, 3, 5)
    scale = 1 / (1 - dtype(0.3))
    np.testing.assert_allclose(got["y"], np.where(kept, x * scale, 0), rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(got["dx"], np.where(kept, dy * scale, 0), rtol=4 * np.finfo(dtype).eps)
    assert 0 < kept.sum() < kept.size


def test_negative_seed():
    x, y, z = np.ones((3, 20))
    for folder, out in ((cpu, y), (reference, z)):
        folder.forward(x, out, 0.4, True, -5, 2, 10)
    np.testing.assert_array_equal(y != 0, [stays(-5, 20 + i, 0.4) for i in range(20)])
    np.testing.assert_array_equal(y, z)


def test_folders_and_types_draw_the_same_mask():
    masks = [
        run(registry.create("dropout(0.37)"), np.ones((40, 50), dtype), folder=folder, seed=11)["y"] != 0
        for folder in ("cpu", "reference")
        for dtype in (np.float32, np.float64)
    ]
    for mask in masks[1:]:
        np.testing.assert_array_equal(mask, masks[0])


def test_blocks_of_samples_draw_the_mask_of_the_whole():
    layer, x = registry.create("dropout(0.5)"), np.ones((10, 7))
    whole = run(layer, x, seed=5)["y"]
    parts = [run(layer, x[lo:hi], seed=5, first=lo)["y"] for lo, hi in ((0, 3), (3, 4), (4, 10))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_share_and_independence(rate):
    n = 100_000
    a, b = (run(registry.create(f"dropout({rate})"), np.ones((1, n)), seed=seed)["y"][0] == 0 for seed in (1, 2))
    five_sigma = 5 * np.sqrt(rate * (1 - rate) / n)
    assert abs(a.mean() - rate) < five_sigma and abs(b.mean() - rate) < five_sigma
    assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(n)  # neighbouring seeds
    assert abs(np.corrcoef(a[1:], a[:-1])[0, 1]) < 5 / np.sqrt(n)  # neighbouring elements


@pytest.mark.parametrize("folder", ["cpu", "reference"])
def test_prediction_and_rate_zero_change_nothing(folder):
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    got = run(registry.create("dropout(0.5)"), x, x, folder=folder, training=False)
    np.testing.assert_array_equal(got["y"], x)
    np.testing.assert_array_equal(got["dx"], x)
    got = run(registry.create("dropout(0)"), x, x, folder=folder)
    np.testing.assert_array_equal(got["y"], x)
    np.testing.assert_array_equal(got["dx"], x)


@pytest.mark.parametrize("spec", ["dropout(1.0)", "dropout(-0.1)", "dropout(inf)"])
def test_rate_is_a_share(spec):
    with pytest.raises(SpecError, match="dropout: rate must be"):
        registry.create(spec)
