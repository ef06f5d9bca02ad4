"""The config of a run: checked as a whole, completed by its defaults, and written down.

::

    [model]
    input_shape = [1, 8, 8]          # may be left out: the data says it
    layers = ["conv(filters=16, kernel_size=3, padding='same')", "relu", "maxpool(2)", "flatten", "dense(10)"]
    [data]
    name = "digits"                  # or a spec, "idx(path='mnist')", or {dataset = "csv", path = ...} as a table
    [training]
    optimizer = "adam(lr=3e-3)"
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .. import registry
from ..errors import NnjitError
from ..program.precision import DEVICES, PRECISIONS, unfit
from ..program.program import NetworkLike
from ..registry.specs import did_you_mean, either, quoted, shown, split
from ..storage import toml
from . import clip, metrics
from .settings import Settings
from .spec_check import Problems, check, check_fit, inside

Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    """Descriptions complete the sentence "expected ..." and comment what `nnjit init config` writes."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Model(_Section):
    """What is trained."""

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


class Training(_Section):
    """How it is trained."""

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
    metrics: list[str] = Field(default=list(Settings.metrics), description='a list of metrics, such as ["accuracy"]')


class Run(_Section):
    """Where it is trained."""

    device: str = Field(default="cpu", description=either(f'"{device}"' for device in DEVICES))
    precision: str = Field(default="float32", description=either(f'"{precision}"' for precision in PRECISIONS))
    threads: Count | None = Field(default=None, description="a whole number from 1 on")
    plugins: list[str] = Field(default=[], description="a list of files or modules with layers of your own")


class Config(_Section):
    """A whole config. All defaults together are the run without arguments."""

    model: Model = Field(default=Model(), description="a section [model]")
    data: dict[str, Any] = Field(default={"name": "digits"}, description="a section [data]")
    training: Training = Field(default=Training(), description="a section [training]")
    run: Run = Field(default=Run(), description="a section [run]")

    def text(self) -> str:
        """The config as TOML."""
        return toml.write(self.model_dump())

    def settings(self) -> Settings:
        """What the `Trainer` wants."""
        values = self.training.model_dump()
        return Settings(**{**values, "metrics": tuple(values["metrics"])})


def resolve(table: dict[str, Any], where: str = "") -> Config:
    """Check a table as a whole, fill in what it leaves out and write every spec as the registry does.

    Parameters
    ----------
    table : dict
        As `config_file.read` gives it; its plug-ins must have been loaded.
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
    config = _structure(_split_layers(table, problems), problems)
    model, training, run = config.model, config.training, config.run
    layers = [check(registry.layers, spec, f"model.layers[{i}]", problems) for i, spec in enumerate(model.layers)]
    dataset = check(registry.datasets, _data_spec(config.data), "data", problems)
    loss = check(registry.losses, training.loss, "training.loss", problems)
    optimizer = check(registry.optimizers, training.optimizer, "training.optimizer", problems)
    schedule = check(registry.schedules, training.schedule, "training.schedule", problems)
    bound = _attempt(clip.create, training.clip, "training.clip", problems)
    for i, name in enumerate(training.metrics):
        _attempt(metrics.get, name, f"training.metrics[{i}]", problems)
    if run.device not in DEVICES:
        problems.add("run.device", f"expected {either(DEVICES)}, got {quoted(run.device)}")
    elif wrong := unfit(run.precision, run.device, model.dtype):
        problems.add("run.precision", wrong)
    if model.input_shape and not any(problem.startswith("model") for problem in problems):
        check_fit(layers, model.input_shape, loss, problems)
    problems.report(where)
    model = model.model_copy(update={"layers": [layer.spec() for layer in layers]})
    written = {"loss": loss.spec(), "optimizer": optimizer.spec(), "schedule": schedule.spec()}
    written["clip"] = None if bound is None else f"norm(max={bound.max}, p={bound.p})"
    training = training.model_copy(update=written)
    return config.model_copy(update={"model": model, "data": {"name": dataset.spec()}, "training": training})


def of_fit(network: NetworkLike, settings: Settings) -> str:
    """The config of `Network.fit`: its data are arrays, which no config can name."""
    composed = {"layers": [layer.spec() for layer in network.layers], "input_shape": list(network.input_shape)}
    model = Model.model_validate(composed | {"dtype": network.dtype.name})
    specs = {key: _spec(getattr(settings, key)) for key in ("loss", "optimizer", "schedule", "clip")}
    numbers = {"epochs": settings.epochs, "batch_size": settings.batch_size, "seed": settings.seed}
    training = Training(**specs, **numbers, norm=float(settings.norm), metrics=list(settings.metrics))
    run = Run(device=network.device, precision=network.precision)
    config = Config(model=model, training=training, run=run).model_dump()
    return "# Trained by fit() on arrays: name the data before running it again.\n" + toml.write(config | {"data": {}})


def _spec(spec):
    """A spec of any form as text."""
    return spec if spec is None or isinstance(spec, str) else str(getattr(spec, "spec", lambda: registry.parse(spec))())


def _attempt(make, value, path, problems):
    try:
        return make(value)
    except NnjitError as error:
        problems.add(path, error)
        return None


def _split_layers(table, problems):
    """``layers = "conv(8, 3) relu"`` as a list."""
    model = table.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("layers"), str):
        return table
    specs = _attempt(split, model["layers"], "model.layers", problems)
    others = {key: value for key, value in model.items() if key != "layers"}
    return table | {"model": others if specs is None else others | {"layers": specs}}


def _structure(table, problems):
    """The table as a Config, with the defaults in place of what is wrong."""
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
    """One mistake in the structure, in plain words."""
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
    """``{name = SPEC}`` is that spec; otherwise the table itself is one, with the key dataset or name."""
    for key in ("name", "dataset"):
        if table.keys() == {key}:
            return table[key]
    return table
