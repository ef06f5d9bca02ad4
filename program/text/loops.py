"""The loops around the calls of a pass: over blocks of samples, tiles of a block, and parts of a kernel's own loop."""

from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from ..calls import CallList


class Lines(NamedTuple):
    """Lines and calls of the loop over blocks of this number; where samples are `columns`, of every tile."""

    body: list
    loop: int
    columns: bool


def before(plan, body):
    """Return lines that run before the forward pass, in its first loop over blocks."""
    first = plan.forward[0]
    return Lines(body, -1 if first.split else first.loop, first.columns)


def after(plan, body):
    """Return lines that run after the forward pass, in its last loop."""
    last = plan.forward[-1]  # never split
    return Lines(body, last.loop, last.columns)


def run_passes(plan, lists, training, samples=("0", "N")):
    """Return a body that runs `CallList`s and `Lines` in their order; those of one number share their loop.

    `samples` are those of the batch to run on: from the first, below the second.
    """
    body: list = []
    for _, group in groupby(lists, attrgetter("loop")):
        first, *others = group
        if isinstance(first, CallList) and first.split:
            body += _parts(plan, first, training, samples) if first.calls else []
        else:
            body += _blocks(plan, [first, *others], training, samples)
    return body


def one_sample(plan):
    """Return a body that runs the forward pass on the first row of the batch, alone."""
    body: list = []
    for each in filter(attrgetter("calls"), plan.forward):
        if each.split:
            body += ["for part in range(PARTS):", [f"{each.name}(s, 0, 1, seed, False, part)"]]
        else:
            body.append(f"{each.name}(s, 0, 1, seed, False)")
    return body


def _blocks(plan, lists, training, samples):
    """Return a body that runs lists on every block of samples, tile by tile where samples are columns."""
    lines: list = []
    for each in lists:
        if isinstance(each, Lines):
            lines += each.body
        elif each.calls:
            lines.append(f"{each.name}(s, n0, n1, seed, {training})")
    if not lines:
        return []
    division, mark = plan.shares, ""
    if lists[0].columns:
        division, mark = plan.shares.narrow, "NARROW_" * (plan.shares.narrow.first > 0)
        lines = [*(() if training == "False" else plan.clear), *_tiles(division, lines)]
    low, high = samples
    if division.blocks == 1:
        return [f"n0, n1 = {low}, {high}", *lines]
    start = f"{mark}SAMPLES * p" if low == "0" else f"max({mark}SAMPLES * p, {low})"
    bounds = f"n0, n1 = {start}, min({mark}SAMPLES * (p + 1), {high})"
    return [
        f"for w in prange(min({mark}WORKERS, ({high} + {mark}SAMPLES - 1) // {mark}SAMPLES)):",
        [f"for p in range(w, {mark}BLOCKS, {mark}WORKERS):", [bounds, "if n0 < n1:", lines]],
    ]


def _tiles(narrow, body):
    """Return a body that runs another on every tile of a block."""
    if narrow.tile == narrow.samples:
        return body
    return ["last = n1", "for n0 in range(n0, last, TILE):", ["n1 = min(n0 + TILE, last)", *body]]


def _parts(plan, each, training, samples):
    """Return a body that runs calls in parts of their own loops."""
    given = f"s, {', '.join(samples)}, seed, {training}"
    if plan.shares.parts == 1:
        return [f"{each.name}({given}, 0)"]
    return ["for q in prange(PARTS):", [f"{each.name}({given}, q)"]]
