"""The end of the text: the options in the calls, and the place of every array in the state."""

from textwrap import wrap

from ..slots import Slot
from .lines import WIDTH


def options(plan):
    """Return comments with the options in the calls; those of one layer are the same."""
    found: dict[str, dict] = {}
    for call in plan.calls():
        name, options = call.binding.name.removesuffix(f"_{call.attribute}"), call.binding.options
        if any(repr(found.get(name, {}).get(key, value)) != repr(value) for key, value in options.items()):
            name = call.binding.name
        found.setdefault(name, {}).update(options)
    lines = []
    for name, options in found.items():
        if options:
            text = ", ".join(f"{option}={value!r}" for option, value in options.items())
            lines += wrap(f"#   {name}: {text}", WIDTH, subsequent_indent="#       ", break_long_words=False)
    return ["# Options, which are in the calls:", *lines, ""] if lines else []


def places(plan):
    """Return the definition of every array: its place in the state, and its shape."""
    titles = {
        "theta": "Parameters",
        "gradient": "Gradients",
        "buffers": "Saved, not learned",
        "arena": "Activations and deltas of a batch",
        "scratch": "Activations and deltas of a block of samples, in a worker's memory: offset, size, samples, workers",
        "tiles": "Those of a tile of samples, as columns",
        "gradients": "The gradient of a block of samples: offset, size, samples, blocks",
        "counters": "Labels of a batch",
        "log": "Norms",
        "whole": "Whole arrays, for the update",
    }
    groups: dict[str, list] = {key: [] for key in titles}
    for value, name in plan.variables.items():
        slot = value if isinstance(value, Slot) else plan.slot(value)
        if slot is None:
            continue
        key = "whole" if slot in plan.flats.values() else slot.flat
        if slot.scratch is not None:
            key = "tiles" if slot.columns else "scratch" if slot.per_sample else "gradients"
        groups[key].append(f"{name} = {slot.text(key.upper())}")
    lines = ["# Places of arrays in the state: fixed(flat array, first number, shape), batch: one row per sample."]
    for key in ("scratch", "tiles", "gradients"):
        if groups[key]:
            groups[key].insert(0, f"{key.upper()} = {tuple(getattr(plan.layout, key))}")
    for key, definitions in groups.items():
        if definitions:
            lines += [f"# {titles[key]}", *definitions]
    return lines
