"""The text of a program from its plan, for people to read and for Numba to compile.

A function of the text is a `Text`: its name, its arguments, and a body of lines, calls and indented bodies. `_written`
writes any of them. The network determines lists of calls (`Plan.passes`); around them are the functions that every
program has: a step, an epoch, a prediction.
"""

import sys
from dataclasses import dataclass, field
from itertools import groupby
from math import inf, prod
from operator import attrgetter
from textwrap import wrap
from typing import NamedTuple

from ..kernels.counters import FAULT, HEAD, ROWS, SEED, STEP, STOP
from .graph import Ref, is_alias
from .notation import name_of
from .plan import Call, CallList, Var
from .slots import Slot
from .state import FAULTS, WRONG_STATE

FINITE = sys.float_info.max
WIDTH = 116  # columns of a line of the text: marks of comments and docstrings may follow


@dataclass
class Text:
    """A function of the text; an item of the body is a line, a `Call`, or a list that is indented."""

    name: str
    arguments: str
    body: list = field(default_factory=list)
    title: str = ""
    block: tuple = ("n0", "n1")  # the numbers that the calls work on: from the first, below the second


def write(plan):
    """Return the source: a table, constants, functions, and the place of every array."""
    task = plan.task
    texts = [
        Text(each.name, "s, n0, n1, seed, training" + ", part" * each.split, list(each.calls)) for each in plan.passes
    ]
    if task.loss is not None:
        texts += [*_update(plan), _step(plan), *_entries(plan)]
    elif task.backward:
        texts += _by_hand(plan)
    if task.loss is not None or not task.backward:
        texts += _predict(plan)
    lines = [*_head(plan), *_constants(plan)]
    for text in texts:
        lines += ["", "", *_written(text, plan)]
    return "\n".join([*lines, "", "", *_options(plan), *_memory(plan)]) + "\n"


# -- one function ------------------------------------------------------------------------------------------------------


def _written(text, plan):
    """Return the lines of a function."""
    rows = list(_rows(text.body or ["pass"], plan, text.block, 1))
    column = max([len(line) for line, comment in rows if comment and len(line) + len(comment) <= WIDTH], default=0)
    lines = [f"def {text.name}({text.arguments}):", *([f'    """{text.title}"""'] if text.title else [])]
    for line, comment in rows:
        if comment and max(len(line), column) + len(comment) <= WIDTH:
            lines.append(f"{line:<{column}}  # {comment}")
        else:
            indent = line[: len(line) - len(line.lstrip())]
            lines += _wrapped(comment, f"{indent}# ", f"{indent}#     ") if comment else []
            lines += _wrapped(line, "", f"{indent}    ") if line.endswith(")") and '"' not in line else [line]
    return lines


def _wrapped(text, first, further):
    """Break a text at blanks into lines of at most `WIDTH` columns, which begin with `first`, then `further`."""
    return wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=further, break_long_words=False, break_on_hyphens=False
    )  # fmt: skip


def _rows(body, plan, block, depth):
    """Yield (line, comment) of every item of a body."""
    indent = "    " * depth
    for item in body:
        if isinstance(item, list):
            yield from _rows(item, plan, block, depth + 1)
        elif isinstance(item, Call):
            yield f"{indent}{_call(item, plan, block)}", item.equation
        else:
            yield f"{indent}{item}", ""


def _call(call, plan, block):
    given = [_value(call.values[name], plan) for name in call.binding.free]
    return f"{call.binding.name}({', '.join(['s', *block, *given, *(['part'] if call.split else [])])})"


def _value(value, plan):
    return value.text if isinstance(value, Var) else plan.variables[value]


class Lines(NamedTuple):
    """Lines and calls of the loop over blocks of this number; where samples are `columns`, of every tile."""

    body: list
    loop: int
    columns: bool


def _load(plan, body):
    """Put lines before the forward pass, in its first loop over blocks."""
    first = plan.forward[0]
    return Lines(body, -1 if first.split else first.loop, first.columns)


def _give(plan, body):
    """Put lines after the forward pass, in its last loop."""
    last = plan.forward[-1]  # never split
    return Lines(body, last.loop, last.columns)


def _passes(plan, lists, training):
    """Return a body that runs `CallList`s and `Lines` in their order; those of one number share their loop."""
    body: list = []
    for _, group in groupby(lists, attrgetter("loop")):
        first, *others = group
        if isinstance(first, CallList) and first.split:
            body += _parts(plan, first, training) if first.calls else []
        else:
            body += _blocks(plan, [first, *others], training)
    return body


def _blocks(plan, lists, training):
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
        lines = [*(plan.clear if training == "True" else ()), *_tiles(division, lines)]
    if division.blocks == 1:
        return ["n0, n1 = 0, N", *lines]
    bounds = f"n0, n1 = {mark}SAMPLES * p, min({mark}SAMPLES * (p + 1), N)"
    return [
        f"for w in prange({mark}WORKERS):",
        [f"for p in range(w, {mark}BLOCKS, {mark}WORKERS):", [bounds, "if n0 < n1:", lines]],
    ]


def _tiles(narrow, body):
    """Return a body that runs another on every tile of a block."""
    if narrow.tile == narrow.samples:
        return body
    return ["last = n1", "for n0 in range(n0, last, TILE):", ["n1 = min(n0 + TILE, last)", *body]]


def _parts(plan, each, training):
    """Return a body that runs calls in parts of their own loops."""
    if plan.shares.parts == 1:
        return [f"{each.name}(s, 0, N, seed, {training}, 0)"]
    return ["for q in prange(PARTS):", [f"{each.name}(s, 0, N, seed, {training}, q)"]]


# -- the head ----------------------------------------------------------------------------------------------------------


def _head(plan):
    task, graph, shares = plan.task, plan.task.graph, plan.shares
    how = [f"{task.graph.size} parameters in {task.dtype}", f"batches of {task.batch_size}"]
    if task.loss is not None:
        specs = [task.loss.spec(), task.optimizer.spec()]
        how += [spec.replace("\\", "").replace('"', "'") for spec in specs]  # no option ends the docstring
    ways = "serial" if shares.blocks == 1 else f"{shares.blocks} blocks of {shares.samples} samples"
    if narrow := shares.narrow:
        if narrow.first:
            ways += f"; from {graph.nodes[narrow.first].name} on {narrow.blocks} of {narrow.samples}"
        ways += f", {narrow.tile} at once as columns"
    return [
        *_wrapped(f'"""nnjit program: {", ".join(how)}.', "", ""),
        "",
        *_table(plan),
        "",
        "Notation and equations (1) to (5) are those of docs/lecture.md; all but sums are of one sample. delta = dC/dz",
        "and da = dC/da, t is the target, ' a derivative, o the product number by number, * a convolution.",
        f"Schedule: {ways}, loops over parameters in {shares.parts} part{'s' * (shares.parts > 1)}.",
        '"""',
        "",
    ]


def _table(plan):
    """Return a row for each layer: its name, shape and equations."""
    forward = {call.node: call for each in plan.forward for call in each.calls}
    backward: dict[int | None, list] = {}
    for each in (*plan.backward, plan.gradients):
        for call in each.calls:
            if call.attribute:  # no turn of rows into columns
                backward.setdefault(call.node, []).append(" ".join(call.equation.split()))
    graph = plan.task.graph
    rows = [("layer", "shape", "forward", ["backward"]), ("input", str(graph.input.shape), "a1 = x", [])]
    for index, node in enumerate(graph.nodes):
        x, y = (name_of(plan.names, value) for value in (node.x, node.y))
        text = f"{y} = {x}, in its shape" if is_alias(node) else forward[index].equation
        rows.append((node.name, str(node.y.shape), text, backward.get(index, [])))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    if plan.task.loss is not None:
        one, delta = backward[None]
        rows.append(("loss", "", " ".join(one.split()), [delta]))
        rows.append(("update", "", plan.update_chunk[-1].equation, []))
    lines = []
    for *cells, equations in rows:
        begin = "    " + "   ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)) + "   "
        if not equations or len(begin) + max(map(len, equations)) > WIDTH:
            lines += _wrapped(begin.rstrip(), "", " " * 8)
            begin = " " * min(4 + widths[0] + 3 + widths[1] + 3, 40)  # equations that do not fit go below
        for line in _joined(equations, WIDTH - len(begin)):
            lines += _wrapped(line, begin, " " * (len(begin) + 4))
            begin = " " * len(begin)
    return lines


def _joined(equations, room):
    """Return equations in as few lines as hold them, none broken."""
    lines: list[str] = []
    for equation in equations:
        if lines and len(lines[-1]) + 2 + len(equation) <= room:
            lines[-1] += f", {equation}"
        else:
            lines.append(equation)
    return lines


def _constants(plan):
    task, graph, shares, log = plan.task, plan.task.graph, plan.shares, plan.log
    sizes = {"BATCH": task.batch_size, "INPUTS": prod(graph.input.shape), "OUTPUTS": prod(graph.output.shape)}
    if task.loss is not None:
        sizes["TARGETS"] = 1 if task.labels else sizes["OUTPUTS"]
    ways = {"BLOCKS": shares.blocks, "SAMPLES": shares.samples, "WORKERS": shares.workers, "PARTS": shares.parts}
    lines = [
        _equal(sizes, "the largest batch; numbers of a sample"),
        _equal(ways, "blocks of samples, and who works on them; parts of other loops"),
    ]
    if narrow := shares.narrow:
        if narrow.first and narrow.blocks > 1:
            ways = {"BLOCKS": narrow.blocks, "SAMPLES": narrow.samples, "WORKERS": narrow.workers}
            lines.append(_equal({f"NARROW_{name}": n for name, n in ways.items()}, "those of the narrow layers"))
        lines.append(_equal({"TILE": narrow.tile}, "samples that pass through narrow layers together"))
    if plan.layout.gradients and plan.layout.added:
        lines.append(_equal({"ADDED": plan.layout.added}, "from here in theta on gradients are summed block by block"))
    if task.loss is None and task.backward:
        return lines
    places = {"STEP": STEP, "SEED": SEED, "ROWS": ROWS, "STOP": STOP, "FAULT": FAULT, "HEAD": HEAD}
    faults = {_fault(name): k for k, name in enumerate(FAULTS, start=1)}
    if task.loss is None:
        places = {"FAULT": FAULT}
        faults = {name: k for name, k in faults.items() if name.startswith("PREDICT")}
    lines += [_equal(places, "places in s.counters"), "# Numbers of refused calls in s.counters[FAULT]:"]
    lines += [_equal(dict(part)) for part in (list(faults.items())[k : k + 5] for k in range(0, len(faults), 5))]
    if task.loss is None:
        return lines
    largest, p = task.largest_norm, task.norm
    power = largest if p == inf or p <= 1 else min(largest**p, FINITE) if largest < FINITE else FINITE
    return [
        *lines,
        _equal({"LOSSES": plan.slot(Ref("loss", None)).offset}, "of s.arena: C_i of the batch"),
        _equal({"LOG_ROWS": log.rows, "LOG_WIDTH": log.width, "SUMS": log.sums}, "of s.log; sums of chunks"),
        f"LARGEST, POWER = {largest!r}, {power!r}  # the largest norm of a step, and its power p",
        "# theta in chunks, each of one layer: layer k owns chunks FIRST[k] to FIRST[k + 1], from BOUNDS[k] on.",
        _equal({"LAYERS": len(log.segments), "CHUNK": log.chunk}),
        *_wrapped(f"BOUNDS = ({', '.join(str(lo) for _, lo, _ in log.segments)}, {graph.size})", "", "    "),
        *_wrapped(f"FIRST = ({', '.join(map(str, log.first_chunk))})", "", "    "),
    ]


def _equal(values, comment=""):
    line = f"{', '.join(values)} = {', '.join(map(str, values.values()))}"
    return f"{line}  # {comment}" if comment else line


# -- the end -----------------------------------------------------------------------------------------------------------


def _options(plan):
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


def _memory(plan):
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


# -- training ----------------------------------------------------------------------------------------------------------


def _update(plan):
    """Return the functions of a chunk of theta, of the cost and of the log."""
    p = plan.task.norm
    root = "share" if p == inf or p < 1 else ("np.sqrt(share)" if p == 2 else f"share ** {1 / p!r}")
    join = "np.maximum({0}, s.log[SUMS + c])" if p == inf else "{0} + s.log[SUMS + c]"
    losses = plan.slot(Ref("loss", None))
    bounds, parts = "lo, hi = chunk_bounds(c)", plan.layout.gradients is not None
    samples = "NARROW_SAMPLES" if plan.layout.added else "SAMPLES"
    sums: list = [f"used = (N + {samples} - 1) // {samples}", plan.mean_gradient[0]] if parts else []
    if parts and plan.layout.added:
        sums = ["if lo >= ADDED:", ["first = lo - ADDED", *sums]]
    return [
        Text("chunk_bounds", "c", [
            "k = 0",
            "while FIRST[k + 1] <= c:",
            ["k += 1"],
            "lo = BOUNDS[k] + (c - FIRST[k]) * CHUNK",
            "return lo, min(lo + CHUNK, BOUNDS[k + 1])",
        ], "The part of theta that chunk c owns."),
        Text("chunk_norm", "s, c, N", [
            bounds,
            *sums,
            *(["if N > 1:", ["share = 1.0 / N", *plan.mean_gradient[parts:]]] if plan.mean_gradient[parts:] else []),
            *plan.chunk_norm,
        ], "The mean gradient of chunk c, and its norm.", ("lo", "hi")),
        Text("update_chunk", "s, c, rate, steps, clip", [
            "if not s.log[SUMS + c] <= POWER:",
            ["return"],
            bounds,
            *plan.update_chunk,
        ], "The update rule on chunk c, unless its gradient is not finite.", ("lo", "hi")),
        Text("cost", "s, N", [
            "total = 0.0",
            "for i in range(N):",
            [f"total += s.{losses.flat}[LOSSES + i]"],
            "return total / N",
        ], "C = 1/N sum C_i  (1)"),
        Text("record", "s, C, rate", [
            "row = (s.counters[ROWS] % LOG_ROWS) * LOG_WIDTH",
            "s.counters[ROWS] += 1",
            "s.log[row], s.log[row + 1] = C, rate",
            "total = 0.0",
            "for k in range(LAYERS):",
            [
                "share = 0.0",
                "for c in range(FIRST[k], FIRST[k + 1]):",
                [f"share = {join.format('share')}", f"total = {join.format('total')}"],
                f"s.log[row + 3 + k] = {root}",
            ],
            f"s.log[row + 2] = {root.replace('share', 'total')}",
            "return s.log[row + 2]",
        ], "A row of the log: loss, rate, norm of the gradient in total and by layer; returns the total."),
    ]  # fmt: skip


def _step(plan):
    N = plan.task.batch_size
    batch, target = (plan.variables[ref] for ref in (Ref("value", 0), Ref("target", None)))
    load = [
        f"batch_gather(s, n0, n1, x, order, first + n0, INPUTS, {batch})",
        f"batch_gather(s, n0, n1, targets, order, first + n0, TARGETS, {target})",
    ]
    return Text("train_step", "s, x, targets, order, first, N", [
        *(["N = 1"] if N == 1 else []),  # a constant, so that there are no loops over the batch
        "steps = s.counters[STEP]",
        "seed = (s.counters[SEED] * 1000003 + steps) * 1009",
        "rate = s.rates[min(steps, s.rates.size - 1)]",
        *_passes(plan, [_load(plan, load), *plan.forward, *plan.backward, plan.gradients], "True"),
        "C = cost(s, N)",
        *_chunks(plan),
        "s.counters[STEP] = steps + 1",
        "return C",
    ], "One step of gradient descent on the samples order[first : first + N]; returns their mean loss.")  # fmt: skip


def _chunks(plan):
    """Return the update of theta chunk by chunk; clipping takes two passes, since it needs the norm."""
    total = plan.log.chunks
    each = f"for c in {'prange' if plan.shares.parts > 1 and total > 1 else 'range'}({total}):"
    stop = ["if not norm <= LARGEST or not np.isfinite(C):", ["s.counters[STOP] = 1", "return np.nan"]]
    clip = plan.task.clip
    if clip is None:
        return [
            "if not np.isfinite(C):",
            [
                f"for c in range({total}):", ["chunk_norm(s, c, N)"],
                "record(s, C, rate)", "s.counters[STOP] = 1", "return C",
            ],
            each, ["chunk_norm(s, c, N)", "update_chunk(s, c, rate, steps, 1.0)"],
            "norm = record(s, C, rate)", *stop,
        ]  # fmt: skip
    return [
        each, ["chunk_norm(s, c, N)"],
        "norm = record(s, C, rate)", *stop,
        f"clip = min(1.0, {clip.max!r} / norm) if norm > 0.0 else 1.0",
        each, ["update_chunk(s, c, rate, steps, clip)"],
    ]  # fmt: skip


def _entries(plan):
    """Return step and epoch, without their guards and with them."""
    N, labels = plan.task.batch_size, plan.task.labels
    shape = () if labels else plan.task.graph.output.shape
    step = [
        *_guard("step", plan, "target", shape, N),
        "return step_samples(s, x, target)",
    ]
    samples = [
        *(["for label in target:", _label_guard("step", "label", plan)] if labels else []),
        "s.counters[STOP] = 0",
        "return train_step(s, x, target, s.counters[HEAD : HEAD + BATCH], 0, x.shape[0])",
    ]
    epoch = [
        *_guard("epoch", plan, "targets", shape),
        "if order.size == 0:",
        _refuse("epoch order", "order must hold at least one index"),
        "for i in order:",
        [
            "if not 0 <= i < x.shape[0]:",
            _refuse("epoch order", "order must hold indices of samples of x"),
            *_label_guard("epoch", "targets[i]", plan),
        ],
        "return epoch_samples(s, x, targets, order)",
    ]
    batches = [
        "s.counters[STOP] = 0",
        "total = 0.0",
        "for first in range(0, order.size, BATCH):",
        [
            "N = min(BATCH, order.size - first)",
            "total += N * train_step(s, x, targets, order, first, N)",
            "if s.counters[STOP]:",
            ["return np.nan"],
        ],
        "return total / order.size",
    ]
    return [
        Text("step_samples", "s, x, target", samples),
        Text("step", "s, x, target", step,
             "One step on one batch; returns its mean loss, NaN where a gradient is not finite."),
        Text("epoch_samples", "s, x, targets, order", batches),
        Text("epoch", "s, x, targets, order", epoch,
             "One step on every batch of `order`; returns the mean loss. Stops where one of them is not finite."),
    ]  # fmt: skip


# -- other ways to use a network ---------------------------------------------------------------------------------------


def _by_hand(plan):
    """Return forward and backward of a whole batch, for Network.forward and Network.backward."""
    return [
        Text("forward", "s, N, seed, training", _passes(plan, plan.forward, "training")),
        Text("backward", "s, N, seed, training", _passes(plan, [*plan.backward, plan.gradients], "training")),
    ]


def _predict(plan):
    graph = plan.task.graph
    batch, output = (plan.variables[Ref("value", value.index)] for value in (graph.input, graph.output))
    load = [f"batch_copy(s, n0, n1, x, (first + n0) * INPUTS, {batch})"]
    give = [*plan.exit, f"batch_put(s, n0, n1, {output}, (first + n0) * OUTPUTS, y)"]
    size = "N = min(BATCH, x.shape[0] - first)" if plan.task.batch_size > 1 else "N = 1"
    return [
        Text("predict_samples", "s, x, y", [
            "seed = 0",
            "for first in range(0, x.shape[0], BATCH):",
            [size, *_passes(plan, [_load(plan, load), *plan.forward, _give(plan, give)], "False")],
        ]),
        Text("predict", "s, x, y", [
            *_guard("predict", plan, "y", graph.output.shape),
            "predict_samples(s, x, y)",
        ], "y = F(x), batch by batch."),
    ]  # fmt: skip


# -- refusals ----------------------------------------------------------------------------------------------------------


def _guard(function, plan, name, shape, largest=None):
    """Return lines that refuse a state or arrays which do not fit; compiled code would read and write beyond them."""
    batch = lambda n, shape: f"({n}, {', '.join(map(str, shape))})" if shape else f"({n},)"  # noqa: E731
    x, most = plan.task.graph.input.shape, f", N from 1 to {largest}" if largest else ""
    size = " or not 1 <= x.shape[0] <= BATCH" if largest else ""
    return [
        "if s.layout != LAYOUT:",
        _refuse(f"{function} state", WRONG_STATE),
        f"if x.shape[1:] != {x} or {name}.shape != {batch('x.shape[0]', shape)}{size}:",
        _refuse(f"{function} arrays", f"expected x {batch('N', x)} and {name} {batch('N', shape)}{most}"),
    ]


def _refuse(fault, sentence):
    """Return lines that fill the output with NaN, note the refusal in the state, and raise."""
    function = fault.split()[0]
    return [
        *(["y[...] = np.nan"] if function == "predict" else []),
        f"s.counters[FAULT] = {_fault(fault)}",
        f'raise ValueError("{function}: {sentence}")',
    ]


def _fault(fault):
    return fault.upper().replace(" ", "_")


def _label_guard(function, label, plan):
    """Return lines that refuse a label outside of the classes, where targets are labels."""
    if not plan.task.labels:
        return []
    classes = plan.task.graph.output.shape[0]
    sentence = f"labels are whole numbers from 0 to {classes - 1}"
    return [f"if not 0 <= {label} < {classes}:", _refuse(f"{function} labels", sentence)]
