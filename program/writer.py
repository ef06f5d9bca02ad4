"""The text of a program from its plan: what a person reads, and what is compiled."""

import sys

from ..kernels.counters import FAULT, HEAD, ROWS, SEED, STEP, STOP
from .graph import Ref
from .plan import Var
from .slots import Slot
from .state import FAULTS, WRONG_STATE

FINITE = sys.float_info.max


def write(plan):
    """The source. Block functions take (s, n0, n1, seed, training), whole ones a part as well."""
    lines = _header(plan) + _arrays(plan)
    program = plan.program
    for i, region in enumerate(plan.regions, start=1):
        lines += _function(f"forward_{i}", region.forward, plan, region.coupled)
    if program.backward:
        for i, region in reversed(list(enumerate(plan.regions, start=1))):
            lines += _function(f"backward_{i}", region.backward, plan, region.coupled)
        lines += _function("gradients", plan.gradients, plan, True)
    if program.loss is not None:
        lines += _training(plan)
    elif program.backward:
        lines += _by_hand(plan)
    if program.loss is not None or not program.backward:
        lines += _predict(plan)
    return "\n".join(lines) + "\n"


def _header(plan):
    program, network = plan.program, plan.program.network
    how = [f"{network.theta.size} parameters in {program.dtype.name}", f"batches of {plan.N}"]
    if program.loss is not None:
        specs = [program.loss.spec(), program.optimizer.spec()]
        how += [spec.replace("\\", "").replace('"', "'") for spec in specs]  # a text among them ends no docstring
    lines = [f'"""nnjit program: {", ".join(how)}.', ""]
    lines += [f"{network.input_shape!s:>16}  input"]
    lines += [f"{node.y.shape!s:>16}  {node.name}" for node in plan.graph.nodes]
    ways = "serial" if plan.blocks == 1 else f"{plan.blocks} blocks of {plan.samples} samples"
    lines += ["", f"Schedule: {ways}, loops over parameters in {plan.parts} part{'s' * (plan.parts > 1)}.", '"""', ""]
    constants = f"BLOCKS, SAMPLES, WORKERS, PARTS = {plan.blocks}, {plan.samples}, {plan.workers}, {plan.parts}"
    return [*lines, constants, ""]


def _arrays(plan):
    """One definition an array: where it lives in the state and its shape."""
    lines, taken = [], {*plan.bindings, *_function_names(plan)}
    plan.variables = {}
    plan.parted = {call.binding.name for call in _calls(plan) if call.parted}  # these take a part in every call
    for call in _calls(plan):
        for value in call.values.values():
            slot = plan.slot(value) if isinstance(value, Ref) else value
            if isinstance(slot, Slot) and value not in plan.variables:
                name = plan.names[value]
                while name in taken:
                    name += "_"
                taken.add(name)
                plan.variables[value] = name
                lines.append(f"{name} = {slot}")
    for name, ref in (("a1", Ref("value", 0)), ("output", Ref("value", plan.graph.output.index))):
        if plan.slot(ref) is not None and name not in taken:
            lines.append(f"{name} = {plan.slot(ref)}")
            plan.variables[ref] = plan.variables.get(ref, name)
    if plan.program.loss is not None:
        plan.variables.setdefault(Ref("target", None), "target")
    return [*lines, ""]


def _function_names(plan):
    """Names that functions of the text have."""
    names = ["gradients", "extent", "measure", "descend", "cost", "record", "learn", "step", "epoch", "predict"]
    return [*names, *(f"{way}_{i}" for way in ("forward", "backward") for i in range(1, len(plan.regions) + 1))]


def _calls(plan):
    for region in plan.regions:
        yield from region.forward
    for region in reversed(plan.regions):
        yield from region.backward
    yield from plan.gradients
    if plan.program.loss is not None:
        yield from (plan.scale, plan.measure, plan.update)


def _line(call, plan, n0="n0", n1="n1", part="part"):
    given = ", ".join(f"{name}={_text(value, plan)}" for name, value in call.values.items())
    whole = ", part=0, parts=1" if call.binding.name in plan.parted else ""
    parts = f", part={part}, parts=PARTS" if call.parted else whole
    text = f"    {call.binding.name}(s, {n0}, {n1}, {given}{parts})"
    return f"{text}  # {call.comment}" if call.comment else text


def _text(value, plan):
    if isinstance(value, (Slot, Ref)):
        return plan.variables[value]
    return value.text if isinstance(value, Var) else repr(value)


def _function(name, calls, plan, parted):
    part = ", part" if parted else ""
    body = [_line(call, plan) for call in calls] or ["    pass"]
    return ["", f"def {name}(s, n0, n1, seed, training{part}):", *body, ""]


def _loop(plan, lines, indent="    "):
    """Lines on every block of samples."""
    if plan.blocks == 1:
        return [f"{indent}n0, n1 = 0, N", *(indent + line for line in lines)]
    return [
        f"{indent}for w in prange(WORKERS):",
        f"{indent}    for p in range(w, BLOCKS, WORKERS):",
        f"{indent}        n0, n1 = SAMPLES * p, min(SAMPLES * (p + 1), N)",
        f"{indent}        if n0 < n1:",
        *(f"{indent}            {line}" for line in lines),
    ]


def _parts(plan, line, indent="    "):
    """A line on every part of its own loops."""
    if plan.parts == 1:
        return [f"{indent}{line.format(part=0)}"]
    return [f"{indent}for q in prange(PARTS):", f"{indent}    {line.format(part='q')}"]


def _forward(plan, training, first=(), last=(), indent="    "):
    """Lines of the forward pass; `first` and `last` join the first and last region on blocks."""
    lines, blocks = [], [i for i, r in enumerate(plan.regions) if not r.coupled]
    if plan.regions[0].coupled and first:
        lines += _loop(plan, first, indent)
        first = ()
    for i, region in enumerate(plan.regions):
        if region.coupled:
            lines += _parts(plan, f"forward_{i + 1}(s, 0, N, seed, {training}, {{part}})", indent)
        else:
            own = [*(first if i == blocks[0] else ())]
            if region.forward:
                own.append(f"forward_{i + 1}(s, n0, n1, seed, {training})")
            own += last if i == blocks[-1] else ()
            lines += _loop(plan, own, indent) if own else []
    return lines


def _backward(plan, skip_last, training="True", indent="    "):
    lines = []
    for i, region in reversed(list(enumerate(plan.regions))):
        if not region.backward or (skip_last and i == len(plan.regions) - 1):
            continue
        if region.coupled:
            lines += _parts(plan, f"backward_{i + 1}(s, 0, N, seed, {training}, {{part}})", indent)
        else:
            lines += _loop(plan, [f"backward_{i + 1}(s, n0, n1, seed, {training})"], indent)
    if plan.gradients:
        lines += _parts(plan, f"gradients(s, 0, N, seed, {training}, {{part}})", indent)
    return lines


def _by_hand(plan):
    """For Network.forward and Network.backward."""
    return [
        "", "def forward(s, N, seed, training):", *(_forward(plan, "training") or ["    pass"]), "",
        "", "def backward(s, N, seed, training):", *(_backward(plan, False, "training") or ["    pass"]), "",
    ]  # fmt: skip


def _predict(plan):
    width, out = plan.graph.input, plan.graph.output
    n, m = _size(width.shape), _size(out.shape)
    return [
        "",
        "def predict(s, x, y):",
        '    """y = F(x), batch by batch."""',
        *_guard("predict", plan, "y", out.shape),
        "    seed = 0",
        f"    for first in range(0, x.shape[0], {plan.N}):",
        f"        N = min({plan.N}, x.shape[0] - first)",
        *_forward(
            plan,
            "False",
            [f"batch_copy(s, n0, n1, source=x, at=(first + n0) * {n}, batch={_input(plan)})"],
            [f"batch_put(s, n0, n1, batch={_output(plan)}, at=(first + n0) * {m}, target=y)"],
            "        ",
        ),
        "",
    ]


def _guard(function, plan, name, shape, largest=None):
    """Lines that refuse a state or arrays which do not fit; compiled code would read and write beyond them."""
    batch = lambda n, shape: f"({n}, {', '.join(map(str, shape))})" if shape else f"({n},)"  # noqa: E731
    x, most = plan.graph.input.shape, f", N from 1 to {largest}" if largest else ""
    size = f" or not 1 <= x.shape[0] <= {largest}" if largest else ""
    return [
        "    if s.layout != LAYOUT:",
        *_refuse(f"{function} state", WRONG_STATE),
        f"    if x.shape[1:] != {x} or {name}.shape != {batch('x.shape[0]', shape)}{size}:",
        *_refuse(f"{function} arrays", f"expected x {batch('N', x)} and {name} {batch('N', shape)}{most}"),
    ]


def _refuse(fault, sentence, indent="        "):
    """Lines that fill the output with NaN, note the refusal in the state, and raise."""
    function = fault.split()[0]
    return [
        *([f"{indent}y[...] = np.nan"] if function == "predict" else []),
        f"{indent}s.counters[{FAULT}] = {1 + FAULTS.index(fault)}",
        f'{indent}raise ValueError("{function}: {sentence}")',
    ]


def _label_guard(function, label, plan, indent="    "):
    """Lines that refuse a label outside of the classes, where targets are labels."""
    if not plan.program.labels:
        return []
    classes = plan.graph.output.shape[0]
    sentence = f"labels are whole numbers from 0 to {classes - 1}"
    return [
        f"{indent}if not 0 <= {label} < {classes}:",
        *_refuse(f"{function} labels", sentence, indent + "    "),
    ]


def _size(shape):
    size = 1
    for n in shape:
        size *= n
    return size


def _input(plan):
    return plan.variables[Ref("value", 0)]


def _output(plan):
    return plan.variables[Ref("value", plan.graph.output.index)]


def _training(plan):
    program, N = plan.program, plan.N
    n = _size(plan.graph.input.shape)
    target_shape = () if program.labels else plan.graph.output.shape
    m = _size(target_shape)
    p = program.norm
    root = "share" if p == float("inf") or p < 1 else ("np.sqrt(share)" if p == 2 else f"share ** {1 / p!r}")
    join = "np.maximum({0}, s.log[SUMS + c])" if p == float("inf") else "{0} + s.log[SUMS + c]"
    largest = program.largest_norm
    power = largest if p == float("inf") or p <= 1 else min(largest**p, FINITE) if largest < FINITE else FINITE
    target = plan.variables[Ref("target", None)]
    C = plan.slot(Ref("loss", None))
    load = [
        f"batch_gather(s, n0, n1, source=x, order=order, first=first + n0, width={n}, batch={_input(plan)})",
        f"batch_gather(s, n0, n1, source=targets, order=order, first=first + n0, width={m}, batch={target})",
    ]
    last = len(plan.regions)
    clip = program.clip
    return [
        "",
        "# theta in chunks, each of one layer: layer k owns chunks FIRST[k] to FIRST[k + 1], from BOUNDS[k] on.",
        f"BOUNDS = ({', '.join(str(lo) for _, lo, _ in plan.segments)}, {program.network.theta.size})",
        f"FIRST = ({', '.join(map(str, plan.first_chunk))},)",
        f"LAYERS, CHUNK, ROWS, WIDTH, SUMS = {len(plan.segments)}, {plan.chunk}, {plan.log_rows}, {plan.log_width}, {plan.sums}",  # noqa: E501
        f"LARGEST, POWER = {largest!r}, {power!r}  # no step is taken with a gradient of a larger norm; its power",
        "",
        "",
        "def extent(c):",
        '    """The part of theta that chunk c owns."""',
        "    k = 0",
        "    while FIRST[k + 1] <= c:",
        "        k += 1",
        "    lo = BOUNDS[k] + (c - FIRST[k]) * CHUNK",
        "    return lo, min(lo + CHUNK, BOUNDS[k + 1])",
        "",
        "",
        "def measure(s, c, N):",
        "    lo, hi = extent(c)",
        *([] if N == 1 else ["    if N > 1:", "    " + _line(plan.scale, plan, "lo", "hi")]),
        _line(plan.measure, plan, "lo", "hi"),
        "",
        "",
        "def descend(s, c, rate, t, clip):",
        "    if not s.log[SUMS + c] <= POWER:",
        "        return",
        "    lo, hi = extent(c)",
        *([_line(plan.clip, plan, "lo", "hi")] if clip else []),
        _line(plan.update, plan, "lo", "hi"),
        "",
        "",
        "def cost(s, N):",
        '    """C, the mean of the samples\' losses (1)."""',
        "    total = 0.0",
        "    for i in range(N):",
        f"        total += s.{C.flat}[{C.offset} + i]",
        "    return total / N",
        "",
        "",
        "def record(s, C, rate):",
        '    """A row of the log: loss, rate, norm of the gradient in total and by layer; returns the total."""',
        f"    row = (s.counters[{ROWS}] % ROWS) * WIDTH",
        f"    s.counters[{ROWS}] += 1",
        "    s.log[row], s.log[row + 1] = C, rate",
        "    total = 0.0",
        "    for k in range(LAYERS):",
        "        share = 0.0",
        "        for c in range(FIRST[k], FIRST[k + 1]):",
        f"            share = {join.format('share')}",
        f"            total = {join.format('total')}",
        f"        s.log[row + 3 + k] = {root}",
        f"    s.log[row + 2] = {root.replace('share', 'total')}",
        "    return s.log[row + 2]",
        "",
        "",
        "def learn(s, x, targets, order, first, N):",
        '    """One step of gradient descent on the samples order[first : first + N]; returns their mean loss."""',
        *(["    N = 1"] if N == 1 else []),  # a constant: loops over the batch go
        f"    t = s.counters[{STEP}]",
        f"    seed = (s.counters[{SEED}] * 1000003 + t) * 1009",
        "    rate = s.rates[min(t, s.rates.size - 1)]",
        *_forward(plan, "True", load, [f"backward_{last}(s, n0, n1, seed, True)"]),
        *_backward(plan, True),
        "    C = cost(s, N)",
        *_chunks(plan),
        f"    s.counters[{STEP}] = t + 1",
        "    return C",
        "",
        "",
        "def step(s, x, target):",
        '    """One step on one batch; returns its mean loss, NaN where a gradient is not finite."""',
        *_guard("step", plan, "target", target_shape, N),
        *(["    for label in target:", *_label_guard("step", "label", plan, "        ")] if program.labels else []),
        f"    s.counters[{STOP}] = 0",
        f"    return learn(s, x, target, s.counters[{HEAD}:{HEAD + N}], 0, x.shape[0])",
        "",
        "",
        "def epoch(s, x, targets, order):",
        '    """One step on every batch of `order`; returns the mean loss. Stops where one of them is not finite."""',
        *_guard("epoch", plan, "targets", target_shape),
        "    if order.size == 0:",
        *_refuse("epoch order", "order must hold at least one index"),
        "    for i in order:",
        "        if not 0 <= i < x.shape[0]:",
        *_refuse("epoch order", "order must hold indices of samples of x", "            "),
        *_label_guard("epoch", "targets[i]", plan, "        "),
        f"    s.counters[{STOP}] = 0",
        "    total = 0.0",
        f"    for first in range(0, order.size, {N}):",
        f"        N = min({N}, order.size - first)",
        "        total += N * learn(s, x, targets, order, first, N)",
        f"        if s.counters[{STOP}]:",
        "            return np.nan",
        "    return total / order.size",
        "",
    ]


def _chunks(plan):
    """The update of theta chunk by chunk; two passes when the norm must be known before (clipping)."""
    total = plan.first_chunk[-1]
    head = "for c in prange" if plan.parts > 1 and total > 1 else "for c in range"
    stop = [
        "    if not norm <= LARGEST or not np.isfinite(C):",
        f"        s.counters[{STOP}] = 1",
        "        return np.nan",
    ]
    bad = [
        "    if not np.isfinite(C):",
        f"        for c in range({total}):",
        "            measure(s, c, N)",
        "        record(s, C, rate)",
        f"        s.counters[{STOP}] = 1",
        "        return C",
    ]
    clip = plan.program.clip
    if clip is None:
        update = [f"    {head}({total}):", "        measure(s, c, N)", "        descend(s, c, rate, t, 1.0)"]
        return [*bad, *update, "    norm = record(s, C, rate)", *stop]
    return [
        f"    {head}({total}):", "        measure(s, c, N)",
        "    norm = record(s, C, rate)", *stop,
        f"    clip = min(1.0, {clip.max!r} / norm) if norm > 0.0 else 1.0",
        f"    {head}({total}):", "        descend(s, c, rate, t, clip)",
    ]  # fmt: skip
