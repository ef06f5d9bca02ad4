"""nnjit by its public interface: compiled epochs, `net.predict`, and `program.predict` in a user's jitted loop."""

import numpy as np
from nnjit import __version__, registry
from peers.unit import CALLS, CHECKED, FEEDBACK, Absent, Unit


def version():
    import numba

    return f"{__version__}, numba {numba.__version__}, {numba.get_num_threads()} threads {numba.threading_layer()}"


def prepare(work, rows, arrays):
    import numba

    numba.set_num_threads(work["threads"] or numba.config.NUMBA_NUM_THREADS)
    net = registry.compose(list(work["layers"]), tuple(work["shape"]), dtype=work["dtype"])
    for name, value in net.parameters.items():
        value[...] = arrays[f"initial:{name}"]
    kinds = {"train": Train, "predict": Predict, "predict in njit": PredictInLoop, "feedback": Feedback,
             "layer": Layer, "loss": Layer}  # fmt: skip
    return {"": kinds[work["kind"]](work, net, arrays)}


class Train(Unit):
    """`program.epoch`: many steps in one call."""

    def __init__(self, work, net, arrays):
        self.net, self.batch, self.units = net, work["batch"], work["batches"]
        self.program = net.compile(work["loss"], work["optimizer"], batch_size=work["batch"])
        self.x, self.target, self.order = arrays["x"], arrays["target"], arrays["order"]
        self.start = net.theta.copy()

    def check(self):
        before = {name: value.copy() for name, value in self.net.parameters.items()}
        first = self.order[: self.batch]
        x, target = np.ascontiguousarray(self.x[first]), np.ascontiguousarray(self.target[first])
        loss = self.program.step(self.program.state, x, target)
        changes = {f"change:{name}": self.net.parameters[name].astype(float) - before[name] for name in before}
        return {"loss": np.array([loss]), **changes}

    def run(self):
        self.program.epoch(self.program.state, self.x, self.target, self.order)

    def reset(self):
        state = self.program.state
        state.theta[:] = self.start
        state.moments[:] = 0
        state.counters[0] = 0


class Predict(Unit):
    """`net.predict`, with its checks and a new array for the result."""

    def __init__(self, work, net, arrays):
        self.net, self.x, self.batch = net, arrays["x"], work["batch"]

    def check(self):
        return {"y": self.net.predict(self.x, batch_size=self.batch)}

    def run(self):
        self.net.predict(self.x, batch_size=self.batch)


class PredictInLoop(Unit):
    """`program.predict`, passed as an argument to a jitted loop."""

    units = 10

    def __init__(self, work, net, arrays):
        from nnjit.program.program import Program
        from numba import njit

        self.x = arrays["x"]
        self.program = Program(net, batch_size=work["batch"]).compile()
        self.y = np.empty((len(self.x), *net.output_shape), net.dtype)

        @njit
        def loop(predict, state, x, y, times):
            for _ in range(times):
                predict(state, x, y)

        self.loop = loop

    def check(self):
        self.run()
        return {"y": self.y}

    def run(self):
        self.loop(self.program.predict, self.program.state, self.x, self.y, self.units)


class Feedback(Unit):
    """`predict` of `net.compile` in a user's jitted loop in which the next sample depends on the last result."""

    units = CALLS

    def __init__(self, work, net, arrays):
        from numba import njit

        self.start, self.x = arrays["x"], arrays["x"].copy()
        self.program = net.compile(work["loss"], work["optimizer"], batch_size=work["batch"])
        self.y = np.empty((len(self.x), *net.output_shape), net.dtype)
        factor = net.dtype.type(FEEDBACK)

        @njit
        def loop(predict, state, x, y, times):
            for _ in range(times):
                predict(state, x, y)
                x[0, 0] = y[0, 0] * factor

        self.loop = loop

    def check(self):
        found = []
        for _ in range(CHECKED):
            self.loop(self.program.predict, self.program.state, self.x, self.y, 1)
            found.append(self.y.copy())
        return {"y": np.array(found)}

    def run(self):
        self.loop(self.program.predict, self.program.state, self.x, self.y, self.units)

    def reset(self):
        self.x[...] = self.start


class Layer(Unit):
    """The calls of the training program for the last layer, or the loss, in one direction."""

    units = 10
    WORDS = {"forward": "forward", "backward to input": "backward_input", "backward to weight": "backward_weight",
             "backward": "backward"}  # fmt: skip

    def __init__(self, work, net, arrays):
        from nnjit.bench.probe import Probe
        from nnjit.program.program import Program

        self.work, self.net, self.arrays = work, net, arrays
        program = Program(net, work["loss"], work["optimizer"], work["batch"])
        self.probe = Probe(program, arrays["x"], arrays["target"])
        if work["kind"] == "loss":
            numbers = [line.number for line in self.probe.lines if line.kernel.startswith(work["loss"])]
        else:
            numbers = self.probe.of(net.graph.nodes[-1].name, self.WORDS[work["direction"]])
        if not numbers:
            raise Absent(f"the program has no call for {work['direction']}")
        # Consecutive calls run together, as in the program.
        breaks = [k for k in range(1, len(numbers)) if numbers[k] != numbers[k - 1] + 1]
        pieces = zip([0, *breaks], [*breaks, len(numbers)], strict=True)
        self.spans = [(numbers[a], numbers[b - 1]) for a, b in pieces]

    def check(self):
        """Run one step of the timed program, and the layer alone by `Network.forward` and `backward`."""
        state, start = self.probe.state, self.net.theta
        found = {f"own:change:{name}": values for name, values in self._changes(state.theta - start).items()}
        if self.work["kind"] == "loss":
            return found | {"loss": state.log[:1]}
        inner = self.arrays["inner"]
        last = registry.compose(self.net.layers[-1:], inner.shape[1:], dtype=self.net.dtype)
        last.theta[:] = start[start.size - last.theta.size :]
        found["y"] = last.forward(inner, training=True)
        found["gradient:x"] = last.backward(self.arrays["dy"])
        return found | {f"gradient:{name}": value for name, value in last.gradients.items()}

    def _changes(self, change):
        from nnjit.network.network import Views

        return dict(Views(change, self.net._places("parameters")))

    def run(self):
        for first, last in self.spans:
            self.probe.run(first, last, self.units)

    def reset(self):
        self.probe.restore()
