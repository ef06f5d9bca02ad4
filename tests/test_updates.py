"""Update rules: PyTorch's path of theta, the lecture's formula, exact first steps, blocks, options."""

from pathlib import Path

import numpy as np
import pytest
from nnjit import registry
from nnjit.errors import SpecError

VECTORS = np.load(Path(__file__).parent / "vectors" / "training.npz")
SPECS = {
    "sgd": "sgd(0.1)", "sgd_decay": "sgd(0.1, weight_decay=0.02)",
    "sgd_momentum": "sgd(0.1, momentum=0.9, weight_decay=0.02)",
    "sgd_nesterov": "sgd(0.1, momentum=0.9, nesterov=True, weight_decay=0.02)",
    "rmsprop": "rmsprop(0.01, decay=0.9, epsilon=1e-6)",
    "adam": "adam(0.01, beta1=0.8, beta2=0.99, epsilon=1e-6, weight_decay=0.02)", "adam_default": "adam",
    "adamw": "adamw(0.01, beta1=0.8, beta2=0.99, epsilon=1e-6, weight_decay=0.2)",
}  # fmt: skip
both = pytest.mark.parametrize("folder", ["cpu", "reference"])


class Descent:
    """Run steps of an optimizer's kernel, its arguments bound by name as in the program."""

    def __init__(self, spec, theta, folder):
        self.optimizer, self.theta, self.step = registry.optimizers.create(spec), theta.copy(), 0
        self.kernel = self.optimizer.update.on(folder)
        self.moments = {name: np.zeros_like(theta) for name in self.optimizer.moments}

    def __call__(self, gradient, part=slice(None)):
        gradient = gradient.astype(self.theta.dtype)
        values = {"theta": self.theta[part], "gradient": gradient[part], "rate": self.optimizer.lr, "step": self.step}
        values |= {name: moment[part] for name, moment in self.moments.items()} | self.optimizer.options()
        self.kernel(*(values[name] for name in self.optimizer.update.arguments))


@pytest.mark.parametrize("name", SPECS)
@both
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_against_pytorch(name, folder, dtype):
    descent = Descent(SPECS[name], VECTORS["update.theta"].astype(dtype), folder)
    tolerance = 3e-5 if dtype == np.float32 else 1e-12
    for gradient, theta in zip(VECTORS["update.gradients"], VECTORS[f"update.{name}.path"], strict=True):
        descent.step += 1
        descent(gradient)
        np.testing.assert_allclose(descent.theta, theta, rtol=tolerance, atol=tolerance)


@both
def test_lecture_update_formula(folder):
    """p_(t+1) = p_t - eta grad C(p_t), bit for bit where the products are exact."""
    p, g = np.array([1.0, -2.0, 0.5]), np.array([4.0, 1.0, -8.0])
    descent = Descent("sgd(0.25)", p, folder)
    descent(g)
    np.testing.assert_array_equal(descent.theta, p - 0.25 * g)
    assert descent.moments == {}


@both
@pytest.mark.parametrize("spec", ["adam(0.1)", "adamw(0.1, weight_decay=0)"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_first_step_of_adam_is_the_learning_rate(spec, folder, dtype):
    """Without their bias the moments are g and g^2, so theta moves by eta sign(g), for any size of g."""
    descent = Descent(spec, np.zeros(4, dtype), folder)
    descent.step = 1
    descent(np.array([1e-3, -1.0, 50.0, -1e6]))
    np.testing.assert_allclose(descent.theta, [-0.1, 0.1, -0.1, 0.1], rtol=2e-5 if dtype == np.float32 else 1e-4)


@both
def test_bias_correction_in_float32_after_many_steps(folder):
    """With g = 1 throughout, m^ = s^ = 1 at every step: theta falls by eta each time."""
    descent = Descent("adam(1.0, epsilon=1e-12)", np.zeros(1, np.float32), folder)
    for step in range(1, 200):
        descent.step, before = step, descent.theta[0]
        descent(np.ones(1))
        assert before - descent.theta[0] == pytest.approx(1.0, abs=4e-5), step


@pytest.mark.parametrize("name", SPECS)
def test_blocks_give_the_same_bits(name):
    rng = np.random.default_rng(0)
    theta, gradients = rng.normal(size=101), rng.normal(size=(3, 101))
    whole, parts = Descent(SPECS[name], theta, "cpu"), Descent(SPECS[name], theta, "cpu")
    for step, gradient in enumerate(gradients, start=1):
        whole.step = parts.step = step
        whole(gradient)
        for part in (slice(0, 37), slice(37, 38), slice(38, 101)):
            parts(gradient, part)
    np.testing.assert_array_equal(whole.theta, parts.theta)


def test_sgd_keeps_a_velocity_only_with_momentum():
    plain, heavy = registry.optimizers.create("sgd"), registry.optimizers.create("sgd(momentum=0.9)")
    assert plain.moments == () and "velocity" not in plain.update.arguments
    assert heavy.moments == ("velocity",) and "velocity" in heavy.update.arguments
    assert plain.options()["lr"] == 0.01 and next(iter(heavy.options())) == "lr"


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam", "adamw"])
def test_every_argument_can_be_bound(name):
    optimizer = registry.optimizers.create(name)
    known = {"theta", "gradient", "rate", "step", *optimizer.moments, *optimizer.options()}
    assert set(optimizer.update.arguments) <= known
    assert registry.optimizers.name_of(type(optimizer)) == name


@pytest.mark.parametrize(
    "spec",
    ["sgd(-0.1)", "sgd(inf)", "sgd(momentum=1)", "sgd(weight_decay=-1)", "sgd(nesterov=True)", "rmsprop(decay=1.5)",
     "rmsprop(epsilon=0)", "adam(beta1=1)", "adam(beta2=-0.1)", "adamw(epsilon=-1)", "adamw(weight_decay=inf)"],
)  # fmt: skip
def test_options(spec):
    with pytest.raises(SpecError) as error:
        registry.optimizers.create(spec)
    assert str(error.value).startswith(spec.partition("(")[0] + ": ") and "\n" not in str(error.value)
