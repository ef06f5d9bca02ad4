"""The config of a run: check it as a whole, complete it by its defaults, make its instances, and write it.

::

    [model]
    input_shape = [1, 8, 8]          # optional: the data has it
    layers = ["conv(filters=16, kernel_size=3, padding='same')", "relu", "maxpool(2)", "flatten", "dense(10)"]
    [data]
    name = "digits"                  # or a spec, "idx(path='mnist')", or {dataset = "csv", path = ...} as a table
    [training]
    optimizer = "adam(lr=3e-3)"
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .. import registry
from ..data.files import reader_spec
from ..errors import NnjitError
from ..layers.base import Layer
from ..program.graph import Graph
from ..program.precision import DEVICES, PRECISIONS, unfit
from ..program.protocols import NetworkLike
from ..registry.specs import did_you_mean, either, quoted, shown, split
from ..storage import toml
from . import clip, weights
from .settings import NEEDS_PATIENCE, Settings
from .spec_check import Problems, check, check_shapes, inside

Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    """Descriptions complete the sentence "expected ..." and comment what `nnjit init config` writes."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Model(_Section):
    """The network to train."""

    layers: list[Any] = Field(
        default=[
            "conv(filters=16, kernel_size=3, padding='same')",
            "relu",
            "maxpool(2)",
            "conv(filters=32, kernel_size=3, padding='same')",
            "relu",
            "maxpool(2)",
            "flatten",
            "dense(10)",
        ],
        min_length=1,
        description="a list of layers",
    )
    input_shape: list[Count] | None = Field(
        default=None, min_length=1, description="the sizes of a sample without the batch, such as [1, 28, 28]"
    )
    dtype: Literal["float32", "float64"] = Field(default="float32", description='"float32" or "float64"')
    scale: Literal["auto", "off"] = Field(
        default="auto", description='"auto", so that tables and pixels are scaled by layers of the network, or "off"'
    )


class Training(_Section):
    """The settings of the training; see `Settings`."""

    loss: Any = Field(default=Settings.loss, description='a loss, such as "cross_entropy" or "huber(delta=0.5)"')
    optimizer: Any = Field(default=Settings.optimizer, description='an optimizer, such as "sgd(lr=0.1, momentum=0.9)"')
    schedule: Any = Field(
        default=Settings.schedule, description='a schedule of the learning rate, such as "cosine" or "step(every=5)"'
    )
    clip: Any = Field(
        default=Settings.clip, description='a bound on the norm of the gradient, such as "norm(max=1.0, p=2)"'
    )
    epochs: Count = Field(default=Settings.epochs, description="a whole number from 1 on")
    batch_size: int = Field(
        default=Settings.batch_size, ge=0, description="a whole number from 1 on, or 0 for the whole set"
    )
    seed: int = Field(default=Settings.seed, ge=0, lt=2**31, description="a whole number from 0 to 2147483647")
    norm: float = Field(
        default=Settings.norm, gt=0, description="the p of the logged gradient norms, a number above 0 or inf"
    )
    metrics: list[Any] = Field(
        default=list(Settings.metrics), description='a list of metrics, such as ["accuracy", "top_k(k=3)"]'
    )
    patience: Count | None = Field(
        default=Settings.patience,
        description="a whole number from 1 on, the epochs without a lower validation loss after which training ends",
    )
    min_delta: float = Field(
        default=Settings.min_delta,
        ge=0,
        allow_inf_nan=False,
        description="a finite number from 0 on: with patience, the loss must fall by more than this",
    )
    class_weights: Any = Field(
        default=Settings.class_weights, description=f"factors of the losses by class: {weights.FORM}"
    )


class Run(_Section):
    """The device, its threads, the fold that is held out, what processes share, and plug-ins."""

    device: str = Field(default="cpu", description=either(f'"{device}"' for device in DEVICES))
    precision: str = Field(default="float32", description=either(f'"{precision}"' for precision in PRECISIONS))
    threads: Count | None = Field(default=None, description="a whole number from 1 on")
    fold: list[Count] | None = Field(
        default=None,
        min_length=2,
        max_length=2,
        description="a fold to hold out for validation and the number of folds, such as [1, 5]",
    )
    global_statistics: bool = Field(
        default=False,
        description="true, so that batch normalisation under mpiexec takes the statistics of the whole batch, or false",
    )
    plugins: list[str] = Field(default=[], description="a list of files or modules with layers of your own")


class Config(_Section):
    """A whole config; the default of everything is the run without arguments."""

    model: Model = Field(default=Model(), description="a section [model]")
    data: dict[str, Any] = Field(default={"name": "digits"}, description="a section [data]")
    training: Training = Field(default=Training(), description="a section [training]")
    run: Run = Field(default=Run(), description="a section [run]")

    def text(self) -> str:
        """Return the config as TOML."""
        return toml.write(self.model_dump())


@dataclass(frozen=True)
class Resolved:
    """A checked config, and the instances that it describes, each made once.

    Parameters
    ----------
    config : Config
        Complete, with every spec as the registry writes it.
    layers : sequence of Layer
    graph : Graph or None
        That of the layers for ``model.input_shape``; None if the data has to give the shape.
    settings : Settings
    reader : Options
        The data set's reader.
    given : set of str
        The options that the table has, such as ``model.layers``; the others are defaults.
    """

    config: Config
    layers: Sequence[Layer]
    graph: Graph | None
    settings: Settings
    reader: Any
    given: frozenset[str] = frozenset()


def resolve(table: dict[str, Any], source_name: str = "") -> Resolved:
    """Check a table as a whole, fill in defaults and make what it describes.

    Parameters
    ----------
    table : dict
        As `config_file.read` returns it; its plug-ins must be loaded.
    source_name : str
        The file's name, for errors.

    Returns
    -------
    Resolved

    Raises
    ------
    SpecError : every mistake, each with its path: ``model.layers[2].filter: unknown option; did you mean filters?``
    """
    problems = Problems()
    for section, key in (("model", "layers"), ("training", "metrics")):
        table = _split(table, section, key, problems)
    config = _structure(table, problems)
    model, training, run = config.model, config.training, config.run
    given = frozenset(f"{name}.{key}" for name in config.model_fields_set for key in _set(getattr(config, name)))
    layers = [check(registry.layers, spec, f"model.layers[{i}]", problems) for i, spec in enumerate(model.layers)]
    data_spec = _attempt(reader_spec, _data_spec(config.data), "data", problems)
    reader: Any = None if data_spec is None else check(registry.datasets, data_spec, "data", problems)
    loss = check(registry.losses, training.loss, "training.loss", problems)
    optimizer = check(registry.optimizers, training.optimizer, "training.optimizer", problems)
    schedule = check(registry.schedules, training.schedule, "training.schedule", problems)
    bound = _attempt(clip.create, training.clip, "training.clip", problems)
    by_class = _attempt(weights.create, training.class_weights, "training.class_weights", problems)
    measured = [
        check(registry.metrics, spec, f"training.metrics[{i}]", problems) for i, spec in enumerate(training.metrics)
    ]
    if training.min_delta and training.patience is None:
        problems.add("training.min_delta", NEEDS_PATIENCE)
    if run.device not in DEVICES:
        problems.add("run.device", f"expected {either(DEVICES)}, got {quoted(run.device)}")
    elif wrong := unfit(run.precision, run.device, model.dtype):
        problems.add("run.precision", wrong)
    if run.fold is not None and not run.fold[0] <= run.fold[1] != 1:
        problems.add("run.fold", f"expected a number from 1 to that of the folds, which is 2 or more, got {run.fold}")
    graph = None
    if model.input_shape and not any(problem.startswith("model") for problem in problems):
        graph = check_shapes(layers, model.input_shape, loss, problems)
    problems.report(source_name)
    numbers = {key: getattr(training, key) for key in ("epochs", "batch_size", "seed", "norm", "patience", "min_delta")}
    settings = Settings(loss, optimizer, schedule, bound, **numbers, metrics=measured, class_weights=by_class)
    model = model.model_copy(update={"layers": [layer.spec() for layer in layers]})
    config = config.model_copy(
        update={"model": model, "data": {"name": reader.spec()}, "training": _training(settings)}
    )  # fmt: skip
    return Resolved(config, layers, graph, settings, reader, given)


def of_fit(network: NetworkLike, settings: Settings) -> str:
    """Return the config of `Network.fit` as TOML: its data are arrays, which a config cannot name."""
    composed = {"layers": [layer.spec() for layer in network.layers], "input_shape": list(network.input_shape)}
    scale = "auto" if any(layer.fitted_to for layer in network.layers) else "off"
    model = Model.model_validate(composed | {"dtype": network.dtype.name, "scale": scale})
    run = Run(device=network.device, precision=network.precision)
    config = Config(model=model, training=_training(settings), run=run).model_dump()
    return "# Trained by fit() on arrays: name the data before running it again.\n" + toml.write(config | {"data": {}})


def _set(section):
    """Return the keys of a section that its table has."""
    return section.model_fields_set if isinstance(section, BaseModel) else section


def _training(settings):
    """Return the section [training] of some settings, with every spec as the registry writes it."""
    made = {key: getattr(settings, key) for key in ("loss", "optimizer", "schedule", "clip")}
    specs = {key: None if each is None else each.spec() for key, each in made.items()}
    return Training(
        **specs, epochs=settings.epochs, batch_size=settings.batch_size, seed=settings.seed,  # type: ignore[arg-type]
        norm=float(settings.norm), metrics=[metric.spec() for metric in settings.metrics], patience=settings.patience,
        min_delta=settings.min_delta, class_weights=settings.class_weights,
    )  # fmt: skip


def _attempt(make, value, path, problems):
    try:
        return make(value)
    except NnjitError as error:
        problems.add(path, error)
        return None


def _split(table, section, key, problems):
    """Split a text of several specs, such as ``layers = "conv(8, 3) relu"``, into a list."""
    inner = table.get(section)
    if not isinstance(inner, dict) or not isinstance(inner.get(key), str):
        return table
    specs = _attempt(split, inner[key], f"{section}.{key}", problems)
    others = {name: value for name, value in inner.items() if name != key}
    return table | {section: others if specs is None else others | {key: specs}}


def _structure(table, problems):
    """Return the table as a Config, with defaults in place of wrong values."""
    try:
        return Config.model_validate(table)
    except ValidationError as errors:
        table = {key: dict(value) if isinstance(value, dict) else value for key, value in table.items()}
        for (place, *keys), kind in {error["loc"][:2]: error["type"] for error in errors.errors()}.items():
            section = str(place)
            if keys:
                _say(problems, kind, keys[0], Config.model_fields[section].annotation, table[section], section)
                del table[section][keys[0]]
            else:
                _say(problems, kind, section, Config, table)
                del table[section]
        return Config.model_validate(table)


def _say(problems, kind, key, holder, table, section=""):
    """Report one mistake in the structure."""
    path = inside(section, key)
    if kind != "extra_forbidden":
        return problems.add(path, f"expected {holder.model_fields[key].description}, got {shown(table[key])}")
    if section:
        takes = f"; [{section}] takes {', '.join(holder.model_fields)}"
        return problems.add(path, "unknown option" + (did_you_mean(key, holder.model_fields) or takes))
    homes = [
        name for name, field in Config.model_fields.items() if key in getattr(field.annotation, "model_fields", ())
    ]
    hint = f"; {key} belongs in [{homes[0]}]" if homes else did_you_mean(key, Config.model_fields)
    problems.add(path, "unknown section" + (hint or f"; the sections are {', '.join(Config.model_fields)}"))


def _data_spec(table):
    """Return the spec of ``{name = SPEC}``; any other table is a spec itself, with the key dataset or name."""
    for key in ("name", "dataset"):
        if table.keys() == {key}:
            return table[key]
    return table
