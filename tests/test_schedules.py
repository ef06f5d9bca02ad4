"""Schedules: PyTorch's learning rates, end points, options."""

from pathlib import Path

import numpy as np
import pytest
from nnjit import registry
from nnjit.errors import SpecError, UnknownName

VECTORS = np.load(Path(__file__).parent / "vectors" / "training.npz")
STEPS = np.arange(24)  # 4 epochs of 6 steps


def factors(spec, steps=STEPS, total=24, steps_per_epoch=6):
    return registry.schedules.create(spec).factor(steps, total, steps_per_epoch)


@pytest.mark.parametrize(
    "name, spec",
    [
        ("step", "step(2, 0.3)"),
        ("exponential", "exponential(0.8)"),
        ("cosine", "cosine(0.1)"),
        ("warmup_cosine", "warmup(1, then='cosine')"),
    ],
)
def test_against_pytorch(name, spec):
    np.testing.assert_allclose(factors(spec), VECTORS[f"schedule.{name}.rates"], rtol=1e-12, atol=1e-15)


def test_an_exponential_schedule_is_pytorchs_at_the_beginning_of_each_epoch():
    rates = VECTORS["schedule.exponential_epochs.rates"]
    np.testing.assert_allclose(factors("exponential(0.8)")[::6], rates, rtol=1e-14)
    np.testing.assert_allclose(factors("step(1, 0.8)")[::6], rates, rtol=1e-14)


def test_ends():
    np.testing.assert_array_equal(factors("constant"), np.ones(24))
    cosine = factors("cosine", np.array([0, 12, 24, 1000]))
    np.testing.assert_allclose(cosine, [1, 0.5, 0, 0], atol=1e-15)
    warm = factors("warmup(2)")
    np.testing.assert_allclose(warm[:12], np.arange(1, 13) / 12)
    np.testing.assert_array_equal(warm[12:], 1)


def test_parts_of_epochs():
    np.testing.assert_allclose(factors("step(0.5, 0.1)")[:7], [1, 1, 1, 0.1, 0.1, 0.1, 0.01])
    np.testing.assert_allclose(factors("step(0.1, 0.5)", np.arange(7), 30, 30), [1, 1, 1, 0.5, 0.5, 0.5, 0.25])
    np.testing.assert_allclose(factors("warmup(0.25)")[:3], [0.5, 1, 1])


def test_warmup_longer_than_training_and_nested():
    np.testing.assert_allclose(factors("warmup(8, 'cosine')"), np.arange(1, 25) / 48)
    nested = factors("warmup(1, 'step(1)')")
    np.testing.assert_allclose(nested[[5, 6, 11, 12, 18]], [1, 1, 1, 0.1, 0.01])


def test_a_part_of_the_steps_is_the_part_of_the_whole():
    for spec in ("constant", "step(1)", "exponential(0.7)", "cosine", "warmup(1.5, 'cosine(0.2)')"):
        np.testing.assert_array_equal(factors(spec, np.array([7, 3, 23])), factors(spec)[[7, 3, 23]])


def test_spec_of_an_inner_schedule_reads_back():
    made = registry.schedules.create("warmup(2, 'cosine(0.2)')")
    assert registry.schedules.create(made.spec()).then == "cosine(0.2)"


@pytest.mark.parametrize(
    "spec, error",
    [("step(0)", SpecError), ("step(1, 0)", SpecError), ("step", SpecError), ("cosine(1.5)", SpecError),
     ("exponential", SpecError), ("exponential(0)", SpecError), ("exponential(-0.5)", SpecError),
     ("exponential(inf)", SpecError), ("exponential(gama=0.9)", SpecError), ("exponentail(0.9)", UnknownName),
     ("warmup(0)", SpecError), ("warmup(1, 3)", SpecError), ("warmup(1, 'cosine(-1)')", SpecError),
     ("warmup(1, 'cosin')", UnknownName)],
)  # fmt: skip
def test_options(spec, error):
    with pytest.raises(error) as caught:
        registry.schedules.create(spec)
    assert "\n" not in str(caught.value)
