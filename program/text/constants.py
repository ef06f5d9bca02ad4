"""The constants of the text: sizes, the division of a batch, places in the state, numbers of refusals, chunks."""

import sys
from math import inf, prod

from ...kernels.counters import FAULT, HEAD, ROWS, SEED, STEP, STOP
from ..graph import Ref
from ..plan import ENTRIES, OF_RANKS
from ..state import FAULTS
from .lines import wrapped
from .refusals import fault_name

FINITE = sys.float_info.max


def constants(plan):
    """Return the definitions of the constants, with comments."""
    task, graph, shares, log = plan.task, plan.task.graph, plan.shares, plan.log
    kept = {"BUFFERS": graph.buffer_size, "KEPT": plan.layout.kept} if task.derivative == "gradient" else {}
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
    if task.by_hand:
        return lines
    places = {"FAULT": FAULT}
    if task.loss is not None:
        places = {"STEP": STEP, "SEED": SEED, "ROWS": ROWS, "STOP": STOP, "FAULT": FAULT, "HEAD": HEAD}
    elif task.derivative == "vjp":
        places = {"STEP": STEP, "SEED": SEED, "FAULT": FAULT}
    own = ENTRIES[task.derivative] if task.loss is not None or task.derivative else ("predict",)
    own = OF_RANKS if task.ranks > 1 else own
    faults = {fault_name(name): k for k, name in enumerate(FAULTS, start=1) if name.split()[0] in own}
    lines += [_equal(places, "places in s.counters"), "# Numbers of refused calls in s.counters[FAULT]:"]
    lines += [_equal(dict(part)) for part in (list(faults.items())[k : k + 5] for k in range(0, len(faults), 5))]
    if task.loss is None:
        return lines
    largest, p = task.largest_norm, task.norm
    power = _power(largest, p)
    return [
        *lines,
        _equal({"LOSSES": plan.slot(Ref("loss", None)).offset, **kept}, "of s.arena: C_i of the batch"),
        _equal({"LOG_ROWS": log.rows, "LOG_WIDTH": log.width, "SUMS": log.sums}, "of s.log; sums of chunks"),
        f"LARGEST, POWER = {largest!r}, {power!r}  # the largest norm of a step, and its power p",
        "# theta in chunks, each of one layer: layer k owns chunks FIRST[k] to FIRST[k + 1], from BOUNDS[k] on.",
        _equal({"LAYERS": len(log.segments), "CHUNK": log.chunk}),
        *wrapped(f"BOUNDS = ({', '.join(str(lo) for _, lo, _ in log.segments)}, {graph.size})", "", "    "),
        *wrapped(f"FIRST = ({', '.join(map(str, log.first_chunk))})", "", "    "),
    ]


def _power(largest, p):
    """Return the largest sum of powers of a gradient with which a step is taken, at most the largest finite number."""
    try:
        return largest if p == inf or p <= 1 else min(largest**p, FINITE)
    except OverflowError:
        return FINITE


def _equal(values, comment=""):
    """Return a line that gives names their values."""
    line = f"{', '.join(values)} = {', '.join(map(str, values.values()))}"
    return f"{line}  # {comment}" if comment else line
