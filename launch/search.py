"""The section [sweep] of a config with ranges, and the checks before its first trial."""

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import ShapeError, SpecError
from ..registry import Spec
from ..registry.specs import did_you_mean, shown
from ..training import config_file
from ..training.config import Resolved, resolve
from ..training.spec_check import Problems, inside
from . import launch
from .ranges import Range, filled, find

# Options that decide which rows trials are judged by.
ROWS = ("path", "name", "dataset", "validation", "test")


class Search(BaseModel):
    """The section [sweep]; descriptions complete the sentence "expected ..."."""

    model_config = ConfigDict(extra="forbid", strict=True)

    trials: Annotated[int, Field(ge=1)] = Field(default=20, description="a whole number from 1 on")
    metric: str = Field(default="", description='a figure of an epoch, such as "val_loss" or "val_accuracy"')
    direction: Literal["minimize", "maximize"] | None = Field(default=None, description='"minimize" or "maximize"')
    prune: bool = Field(default=True, description="true or false")
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = Field(
        default=None, description="a whole number from 0 to 2147483647"
    )


def read_search(table: Any, source_name: str = "") -> Search:
    """Read the section [sweep] of a config; raise SpecError for all its mistakes."""
    problems = Problems()
    if not isinstance(table, dict):
        problems.add("sweep", f"expected a section [sweep], got {shown(table)}")
    else:
        try:
            return Search.model_validate(table)
        except ValidationError as errors:
            for key, kind in {str(error["loc"][0]): error["type"] for error in errors.errors()}.items():
                if kind == "extra_forbidden":
                    takes = f"; [sweep] takes {', '.join(Search.model_fields)}"
                    what = "unknown option" + (did_you_mean(key, Search.model_fields) or takes)
                else:
                    what = f"expected {Search.model_fields[key].description}, got {shown(table[key])}"
                problems.add(inside("sweep", key), what)
    problems.report(source_name)
    raise AssertionError


def find_ranges(tree: dict[str, Any], source_name: str) -> list[Range]:
    """Return the ranges of a config; raise SpecError for the mistakes in them."""
    return find(tree, lambda table: resolve(table, source_name), source_name)


def _first(ranges):
    """Return a value for each range: its first one."""
    return {each.place: each.ends()[0][1] for each in ranges}


def refuse_other_rows(ranges: list[Range], source_name: str) -> None:
    """Refuse ranges of what the trials are judged by."""
    problems = Problems()
    for each in ranges:
        if each.path in ("training.seed", "run.fold"):
            way = "seeds" if each.path == "training.seed" else "folds"
            problems.add(each.path, f"trials must be judged by the same rows; nnjit run --{way} trains a run for each")
        elif each.place[0] == "data" and each.place[-1] in ROWS:
            problems.add(each.path, "trials must be judged by the same rows, so that it cannot have a range")
    problems.report(source_name)


def check_with_data(tree: dict[str, Any], ranges: list[Range], source_name: str) -> tuple[Resolved, launch.Prepared]:
    """Make the network of every bound for the data; return what the first values give, resolved and prepared."""
    first = _first(ranges)
    resolved = resolve(filled(tree, first), source_name)
    prepared = launch.prepare(resolved, source_name)
    problems = Problems()
    for each in ranges:
        for what, value in each.ends():
            one = resolve(filled(tree, {**first, each.place: value}), source_name)
            try:
                launch.prepare(one, source_name, dataset=None if each.place[0] == "data" else prepared.dataset)
            except (SpecError, ShapeError) as error:
                problems.add(each.path, f"{what}: {str(error).removeprefix(f'{source_name}: ')}")
    problems.report(source_name)
    return resolved, prepared


def completed(
    search: Search,
    ranges: list[Range],
    prepared: launch.Prepared,
    trials: int | None,
    seed: int,
    source_name: str,
) -> Search:
    """Return the section [sweep] with what was not given."""
    trainer, problems = prepared.trainer, Problems()
    known = ["loss"]
    if trainer.validation is not None:
        known += ["val_loss", *(f"val_{name}" for name in trainer.metrics.metrics)]
    metric = search.metric or "val_loss"
    if metric not in known:
        lacks = "" if trainer.validation is not None else "; the data has no validation set: give it validation=0.2"
        problems.add("sweep.metric", f"{metric} is no figure of its epochs: {', '.join(known)}{lacks}")
    direction = search.direction or ("minimize" if metric in ("val_loss", "loss") else None)
    if direction is None and metric in known:
        problems.add("sweep.direction", f'say whether a better {metric} is higher, "maximize", or lower, "minimize"')
    varied = [each.path for each in ranges if each.path.startswith(("training.loss", "training.class_weights"))]
    if metric in ("val_loss", "loss") and varied:
        others = [name for name in known if "loss" not in name] or ["a metric"]
        problems.add("sweep.metric", f"{varied[0]} has a range, so losses cannot be compared; judge by {others[-1]}")
    problems.report(source_name)
    count = math.prod(each.size() for each in ranges)
    wanted = trials or search.trials
    about = {"metric": metric, "direction": direction, "seed": seed if search.seed is None else search.seed}
    return search.model_copy(update={**about, "trials": int(min(wanted, count))})


def portable(tree: dict[str, Any], ranges: list[Range], resolved: Resolved) -> dict[str, Any]:
    """Return the config with absolute paths of data and plug-ins, so that it can be continued from any folder."""
    whole = launch.portable(resolved)
    if "data" in tree:
        varied = any(each.place[0] == "data" for each in ranges)
        tree = {**tree, "data": _absolute(tree["data"]) if varied else whole.data}
    if whole.run.plugins:
        tree = {**tree, "run": {**tree["run"], "plugins": whole.run.plugins}}
    return tree


def _absolute(data):
    """Return a section [data] that holds a range with absolute paths."""
    if isinstance(data, Spec):
        return Spec(data.name, data.args, _absolute(data.kwargs))
    if not isinstance(data, dict):
        return data
    return {key: _absolute_value(key, value) for key, value in data.items()}


def _absolute_value(key, value):
    if isinstance(value, str) and (key == "path" or key.endswith("_path")):
        return config_file.absolute(value)
    return _absolute(value)
