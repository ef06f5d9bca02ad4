"""The examples do what their texts say."""

import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from nnjit import data, registry

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Import a copy of an example, so that Numba caches its functions next to it, under an importable name."""

    def imported(name):
        shutil.copy(EXAMPLES / f"{name}.py", tmp_path)
        monkeypatch.syspath_prepend(tmp_path)
        return import_module(name)

    return imported


def test_ten_points(example, capsys):
    """Make a million single-sample steps for each of ten seeds; benchmarks measure the time."""
    main = example("ten_points").main
    found = [main(seed) for seed in range(10)]
    learned = [cost < 5e-3 and right == 10 for _, cost, right in found]
    assert sum(learned) >= 8, found
    assert capsys.readouterr().out.count("1000000 steps") == 10


def test_a_network_in_a_jitted_simulation(example, capsys, tmp_path):
    """The pendulum swings over 1 rad; with the network as its force it stays near the true path for 5 s."""
    jitted = example("jitted_simulation")
    assert abs(jitted.true_path(1.0, 0.0, 5000)).max() > 0.9
    assert jitted.main(picture=tmp_path / "pendulum.png") < 0.15
    assert "5000 steps" in capsys.readouterr().out
    assert (tmp_path / "pendulum.png").stat().st_size > 10_000


def test_the_picture_of_augmentation(example, tmp_path):
    made = example("augmentation")
    made.main(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes()[1:4] == b"PNG"
    assert len({picture.tobytes() for picture in made.draws("noise(0.1)", np.zeros((1, 8, 8), "f"), 5)}) == 5


@pytest.fixture
def plugin():
    """Return a function that loads an example as a plug-in; its name is free again afterwards."""
    loaded = []

    def load(kind, name, file):
        registry.load_plugin(str(EXAMPLES / f"{file}.py"))
        loaded.append((getattr(registry, kind), name))

    yield load
    for catalogue, name in loaded:
        catalogue.unregister(name)


def learned(loss="mse", optimizer="adam(lr=0.01)", schedule="constant", init=None):
    """Return the loss of a network of 3-6-1 after each epoch of fitting a sine."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (64, 3)).astype(np.float32)
    y = np.sin(x.sum(axis=1, keepdims=True))
    net = registry.compose([("dense", {"units": 6, "init": init}), "tanh", "dense(1)"], (3,))
    return net, net.fit(x, y, loss=loss, optimizer=optimizer, schedule=schedule, epochs=20, batch_size=8).column("loss")


def test_a_loss(plugin):
    plugin("losses", "log_cosh", "loss")
    net, curve = learned(loss="log_cosh")
    assert curve[-1] < curve[0] / 5
    x, y = np.array([[0.1, 0.2, 0.3]]), np.array([[2.0]])
    expected = np.log(np.cosh(net.predict(x).astype(float) - y)).sum()
    assert net.evaluate(x, y, loss="log_cosh")["loss"] == pytest.approx(expected, rel=1e-5)


def test_an_optimizer(plugin):
    plugin("optimizers", "sign_sgd", "optimizer")
    _, curve = learned(optimizer="sign_sgd(lr=0.01)")
    assert curve[-1] < curve[0] / 5


def test_a_schedule(plugin):
    plugin("schedules", "inverse_sqrt", "schedule")
    factors = registry.schedules.create("inverse_sqrt(4)").factor(np.array([0, 4, 16]), 20, 5)
    np.testing.assert_allclose(factors, [1, 1, 0.5])
    _, curve = learned(schedule="inverse_sqrt(first=4)")
    assert curve[-1] < curve[0]


def test_a_metric(plugin):
    plugin("metrics", "within", "metric")
    net, _ = learned()
    x, y = np.array([[0.1, 0.2, 0.3], [0.2, 0.1, -0.3]]), np.array([[0.0], [0.0]])
    near = float(np.abs(net.predict(x)).min())
    found = net.evaluate(x, y, metrics=[f"within(tolerance={near * 1.01})", "within(0)"])
    assert list(found.values()) == [0.5, 0.0]


def test_an_initializer(plugin):
    plugin("initializers", "orthogonal", "initializer")
    net = registry.compose(["dense(6, init='orthogonal')"], (3,))
    W = net.parameters["dense.1.W"]
    np.testing.assert_allclose(W.T @ W, np.eye(3), atol=1e-6)


def test_a_reader(plugin):
    plugin("datasets", "spirals", "reader")
    dataset = data.load("spirals(count=50)")
    assert (len(dataset.train), len(dataset.validation), dataset.classes) == (40, 10, 2)


def test_a_layer(plugin):
    plugin("layers", "affine", "affine")
    np.testing.assert_array_equal(registry.compose("affine(2.0)", (3,)).predict(np.ones((1, 3))), np.full((1, 3), 2.0))


def test_policies_are_trained_in_parallel_environments(example, tmp_path):
    """Both ways learn, and a policy holds Gymnasium's own pole if that is installed."""
    rollouts = example("rollouts")
    _, lengths = rollouts.policy_gradient(30, 0)
    assert lengths[-1] > 3 * lengths[0]
    rollouts.draw(lengths, tmp_path / "learning.png")
    assert (tmp_path / "learning.png").stat().st_size > 10_000
    net, lengths = rollouts.evolution(100, 0)
    assert lengths[-1] > 400
    gymnasium = pytest.importorskip("gymnasium")
    game, held = gymnasium.make("CartPole-v1"), []
    for episode in range(10):
        s, _ = game.reset(seed=episode)
        steps, done = 0, False
        while not done:
            y = net.predict(np.asarray(s, float)[None])[0]
            s, _, fallen, over, _ = game.step(int(y[1] > y[0]))
            steps, done = steps + 1, fallen or over
        held.append(steps)
    assert np.mean(held) >= 475


def test_an_interaction_is_learned_through_an_integrator(example, tmp_path):
    """A short training finds it roughly; the gradient through the integrator is that of differences."""
    hybrid = example("hybrid_ode")
    net, data, error = hybrid.learned(0, (300, 100))
    assert error < 0.15
    hybrid.draw(net, data, tmp_path / "interaction.png")
    program, u, g = net.compile(None, batch_size=1), np.array([2.0, 1.0]), np.array([1.0, -0.5])
    stages, slopes, step = np.empty((4, 2)), np.empty((4, 2)), 1e-6

    def after(u):
        return hybrid.forward(program.predict, program.state, u, stages, slopes)

    after(u)
    back = hybrid.backward(program.vjp, program.state, stages, g)
    numeric = [g @ (after(u + step * e) - after(u - step * e)) / (2 * step) for e in np.eye(2)]
    np.testing.assert_allclose(back, numeric, rtol=1e-6)


def test_a_pole_is_swung_up_with_a_learned_model(example, tmp_path):
    """A short training suffices; an untrained model does not, so the controller knows no more than its model."""
    control = example("control")
    net, error = control.learned(0, 20)
    paths, forces, held = control.swing(net, 6, 0)
    assert error < 0.03
    assert held.all()
    assert abs(forces).max() <= control.LIMIT
    control.draw(paths, forces, tmp_path / "swing.png")
    untrained = registry.compose("dense(32) tanh dense(32) tanh dense(2)", (5,), dtype="float64", seed=1)
    assert not control.swing(untrained, 6, 0)[2].any()

    program, s, step = net.compile(None, batch_size=1), np.array([0.1, -0.5, 0.7, 1.5, 2.0]), 1e-6
    F, after = np.empty((4, 5)), np.empty((2, 4))
    control.linearise(program.jacobian, program.state, s[:4], s[4], F)
    for i, e in enumerate(step * np.eye(5)):
        for z, out in zip((s + e, s - e), after, strict=True):
            control.foresee(program.predict, program.state, z[:4], z[4], out)
        np.testing.assert_allclose(F[:, i], (after[0] - after[1]) / (2 * step), atol=1e-8)

    linalg = pytest.importorskip("scipy.linalg")
    V, gain = control.regulator(program.jacobian, program.state)
    control.linearise(program.jacobian, program.state, np.zeros(4), 0.0, F)
    exact = linalg.solve_discrete_are(F[:, :4], F[:, 4:], np.diag(control.COST[:4]), np.diag(control.COST[4:]))
    np.testing.assert_allclose(V, exact, rtol=1e-8)
    assert abs(np.linalg.eigvals(F[:, :4] + F[:, 4:] * gain)).max() < 1


def test_the_true_pole_keeps_its_energy(example):
    """Without a force neither the energy nor the momentum of cart and pole changes, but for the integrator's error."""
    control, s = example("control"), np.array([0.0, 0.5, 2.0, -3.0])

    def kept():
        mass, arm, (_, v, angle, speed) = control.CART + control.POLE, control.POLE * control.HALF, s
        inertia = 4 / 3 * control.HALF * arm
        motion = mass * v**2 / 2 + inertia * speed**2 / 2 + arm * v * speed * np.cos(angle)
        return motion + arm * control.GRAVITY * np.cos(angle), mass * v + arm * speed * np.cos(angle)

    energies = []
    for _ in range(200):
        energies.append(kept())
        control.advance(s, 0.0)
    np.testing.assert_allclose(energies, [energies[0]] * 200, atol=0.01)


def test_the_policy_gradient_is_that_of_differences(example):
    """The gradient of -sum gain log p(action) that `learn` adds up, over episodes of different lengths."""
    rollouts = example("rollouts")
    net = rollouts.policy(0)
    acting, learning = net.compile(None, batch_size=1), net.compile(None, batch_size=rollouts.BATCH)
    shape, length = (3, rollouts.STEPS), np.empty(3, np.int64)
    keys = np.array([[3], [4], [5]], np.uint64)
    seen, right, chance = np.zeros((*shape, 4)), np.zeros(shape, bool), np.empty(shape)
    rollouts.collect(acting.predict, acting.states(3), keys, seen, right, chance, length)
    gain = np.random.default_rng(0).standard_normal(shape)
    gain[np.arange(rollouts.STEPS) >= length[:, None]] = 0
    total, states = learning.new_state(), learning.states(3, gradient=True)
    rollouts.learn(learning.vjp, learning.clear, states, total, seen, right, chance, length, gain)

    def cost(theta):
        net.theta = theta
        y = net.predict(seen.reshape(-1, 4)).reshape(*shape, 2)
        return (gain * np.logaddexp(0, np.where(right, y[..., 0] - y[..., 1], y[..., 1] - y[..., 0]))).sum()

    theta, step = net.theta.copy(), 1e-5
    for k in (0, 100, 150, 200, 224, 225):
        e = step * (np.arange(theta.size) == k)
        assert total.gradient[k] == pytest.approx((cost(theta + e) - cost(theta - e)) / (2 * step), rel=1e-5, abs=1e-7)
