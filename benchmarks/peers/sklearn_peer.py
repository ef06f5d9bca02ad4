"""scikit-learn: `MLPClassifier.partial_fit`, one step per call."""

import numpy as np
import sklearn
from nnjit import registry
from peers.unit import Absent, Unit
from sklearn.neural_network import MLPClassifier


def version():
    return sklearn.__version__


def prepare(work, rows, arrays):
    kinds = [row["kind"] for row in rows]
    hidden = [row["out"][0] for row in rows if row["kind"] == "dense"][:-1]
    if work["kind"] != "train" or kinds != ["dense", "relu"] * len(hidden) + ["dense"]:
        raise Absent("trains dense layers with ReLU between them only")
    return {"": Train(work, rows, arrays, hidden)}


class Train(Unit):
    def __init__(self, work, rows, arrays, hidden):
        options = registry.optimizers.create(work["optimizer"]).options()
        rule = registry.parse(work["optimizer"], "optimizer").name
        if rule == "sgd":
            own = {"solver": "sgd", "momentum": 0.0, "nesterovs_momentum": False}
        else:
            own = {"solver": "adam", "beta_1": options["beta1"], "beta_2": options["beta2"],
                   "epsilon": options["epsilon"]}  # fmt: skip
        self.arguments = {
            "hidden_layer_sizes": tuple(hidden), "learning_rate_init": options["lr"], "alpha": 0.0,
            "batch_size": work["batch"], "shuffle": False, **own,
        }  # fmt: skip
        self.classes = np.arange(rows[-1]["out"][0])
        order = arrays["order"].reshape(-1, work["batch"])
        self.batches = [(arrays["x"][o], arrays["target"][o]) for o in order]
        self.units = len(self.batches)
        self.names = [row["name"] for row in rows if row["kind"] == "dense"]
        self.arrays = arrays
        self.reset()

    def reset(self):
        """Make a new model; its first call draws parameters, which ours replace, with the moments at zero."""
        self.model = MLPClassifier(**self.arguments)
        self.model.partial_fit(*self.batches[0], classes=self.classes)
        for name, W, b in zip(self.names, self.model.coefs_, self.model.intercepts_, strict=True):
            W[...], b[...] = self.arrays[f"initial:{name}.W"].T, self.arrays[f"initial:{name}.b"]
        del self.model._optimizer  # the next call makes another

    def check(self):
        self.model.partial_fit(*self.batches[0])
        found = {"loss": np.array([self.model.loss_])}
        for name, W, b in zip(self.names, self.model.coefs_, self.model.intercepts_, strict=True):
            found[f"change:{name}.W"] = W.T.astype(float) - self.arrays[f"initial:{name}.W"]
            found[f"change:{name}.b"] = b.astype(float) - self.arrays[f"initial:{name}.b"]
        return found

    def run(self):
        for x, target in self.batches:
            self.model.partial_fit(x, target)
