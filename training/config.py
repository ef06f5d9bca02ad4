"""The config of a run: TOML read, checked as a whole, and written down resolved.

::

    [model]
    input_shape = [1, 8, 8]          # not needed: the data says it
    layers = ["conv(filters=16, kernel_size=3, padding='same')", "relu", "maxpool(2)", "flatten", "dense(10)"]
    [data]
    name = "digits"                  # or a spec, "idx(path='mnist')", or {dataset = "csv", path = ...} as a table
    [training]
    optimizer = "adam(lr=1e-3)"
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .. import registry
from ..errors import NnjitError, SpecError
from ..network.network import DEVICES
from ..registry.specs import did_you_mean, either, quoted, shown, split
from . import metrics, toml
from .spec_check import Problems, check, check_fit, check_shapes

Count = Annotated[int, Field(ge=1)]
LAYERS = [
    "conv(filters=16, kernel_size=3, padding='same')",
    "relu",
    "maxpool(2)",
    "conv(filters=32, kernel_size=3, padding='same')",
    "relu",
    "maxpool(2)",
    "flatten",
    "dense(10)",
]


class _Section(BaseModel):
    """Descriptions complete the sentence "expected ..." and comment what `nnjit init config` writes."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Model(_Section):
    """What is trained."""

    layers: list[Any] = Field(LAYERS, min_length=1, description="a list of layers")
    input_shape: list[Count] | None = Field(
        None, min_length=1, description="the sizes of a sample without the batch, such as [1, 28, 28]"
    )
    dtype: Literal["float32", "float64"] = Field("float32", description='"float32" or "float64"')


class Training(_Section):
    """How it is trained."""

    loss: Any = Field("cross_entropy", description='a loss, such as "cross_entropy" or "huber(delta=0.5)"')
    optimizer: Any = Field("adam(lr=1e-3)", description='an optimizer, such as "sgd(lr=0.1, momentum=0.9)"')
    schedule: Any = Field("constant", description='of the learning rate, such as "cosine" or "step(every=5)"')
    clip: str | None = Field(None, description='the largest norm of a gradient, "norm(max=1.0, p=2)"')
    epochs: Count = Field(10, description="a whole number from 1 on")
    batch_size: int = Field(32, ge=0, description="a whole number from 1 on, or 0 for the whole set")
    seed: int = Field(0, ge=0, lt=2**31, description="a whole number from 0 to 2147483647")
    norm: float = Field(2.0, gt=0, description="the p of the logged gradient norms, a number above 0")
    metrics: list[str] = Field([], description='a list of metrics, such as ["accuracy"]')


class Run(_Section):
    """Where it is trained."""

    device: str = Field("cpu", description=either(f'"{device}"' for device in DEVICES))
    threads: Count | None = Field(None, description="a whole number from 1 on")
    plugins: list[str] = Field([], description="a list of files or modules with layers of your own")


class Config(_Section):
    """A whole config. What is not given has its default; all defaults together are the run without arguments."""

    model: Model = Field(Model(), description="a section [model]")
    data: dict[str, Any] = Field({"name": "digits"}, description="a section [data]")
    training: Training = Field(Training(), description="a section [training]")
    run: Run = Field(Run(), description="a section [run]")

    def text(self):
        """The config as TOML; read and resolved again it is equal."""
        return toml.write(self.model_dump())


def resolve(table, where=""):
    """Check a table as a whole and fill in what it leaves out; every spec is written out by its registry.

    Plug-ins must have been loaded (`load_plugins`).

    Parameters
    ----------
    table : dict
        What `config_file.read` gives, perhaps overridden.
    where : str
        The file's name, for errors.

    Returns
    -------
    Config

    Raises
    ------
    SpecError : every mistake, each with its path: ``model.layers[2].filter: unknown option; did you mean filters?``
    """
    problems = Problems()
    config = _structure(table, problems)
    model, training = config.model, config.training
    layers = [check(registry.layers, spec, f"model.layers[{i}]", problems) for i, spec in enumerate(model.layers)]
    dataset = check(registry.datasets, _data_spec(config.data), "data", problems)
    made = {
        key: check(catalogue, getattr(training, key), f"training.{key}", problems)
        for key, catalogue in {
            "loss": registry.losses,
            "optimizer": registry.optimizers,
            "schedule": registry.schedules,
        }.items()
    }
    for i, name in enumerate(training.metrics):
        try:
            metrics.get(name)
        except NnjitError as error:
            problems.add(f"training.metrics[{i}]", error)
    if config.run.device not in DEVICES:
        problems.add("run.device", f"expected {either(DEVICES)}, got {quoted(config.run.device)}")
    if model.input_shape and not any(line.startswith("model") for line in problems):
        check_fit(layers, model.input_shape, made["loss"], problems)
    problems.report(where)
    return config.model_copy(
        update={
            "model": model.model_copy(update={"layers": [layer.spec() for layer in layers]}),
            "data": {"name": dataset.spec()},
            "training": training.model_copy(update={key: one.spec() for key, one in made.items()}),
        }
    )


def build(config, dataset, where=""):
    """The network of a config for a data set, and the config with the input shape filled in.

    Raises
    ------
    SpecError : what does not fit together, with its path.
    """
    problems, model = Problems(), config.model
    shape = model.input_shape or list(dataset.input_shape)
    if tuple(shape) != tuple(dataset.input_shape):
        problems.add("model.input_shape", f"{dataset.name} has samples of {list(dataset.input_shape)}, not {shape}")
    layers = [registry.create(spec) for spec in model.layers]
    graph = check_fit(layers, shape, registry.losses.create(config.training.loss), problems)
    if graph is not None:
        _check_size(graph, config, problems)
    if graph is not None and dataset.classes is not None and len(graph.output.shape) == 1:
        outputs = graph.output.shape[0]
        if outputs < dataset.classes and outputs > 1:
            
            problems.add("model.layers", f"{dataset.name} has {dataset.classes} classes, but the last layer gives {outputs}")
    problems.report(where)
