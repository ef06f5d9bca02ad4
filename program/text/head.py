"""The head of the text: a table of the layers with their equations, and how a batch is divided."""

from ...registry import Spec, parse
from ..graph import is_alias
from ..notation import name_of
from ..tangents import TANGENTS
from .lines import WIDTH, wrapped

TITLES = {
    "gradient": "gradient of the loss", "vjp": "vjp", "jvp": "jvp", "rows": "Jacobian by rows",
    "columns": "Jacobian by columns",
}  # fmt: skip


def head(plan):
    """Return the docstring of the text."""
    task, graph, shares = plan.task, plan.task.graph, plan.shares
    how = [TITLES[task.derivative]] if task.derivative else []
    how += [f"{task.graph.size} parameters in {task.dtype}", f"batches of {task.batch_size}"]
    if task.loss is not None:
        optimizer = parse(task.optimizer.spec(), "optimizer")
        # Without the rate, which is data: programs that differ in it have one text, and so one machine code.
        options = {name: value for name, value in optimizer.kwargs.items() if name != "lr"}
        specs = [task.loss.spec(), str(Spec(optimizer.name, (), options))]
        how += [spec.replace("\\", "").replace('"', "'") for spec in specs]  # no option ends the docstring
    ways = "serial" if shares.blocks == 1 else f"{shares.blocks} blocks of {shares.samples} samples"
    if narrow := shares.narrow:
        if narrow.first:
            ways += f"; from {graph.nodes[narrow.first].name} on {narrow.blocks} of {narrow.samples}"
        ways += f", {narrow.tile} at once as columns"
    return [
        *wrapped(f'"""nnjit program: {", ".join(how)}.', "", ""),
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
    ahead = [call for each in plan.forward for call in each.calls]
    forward = {call.node: call for call in ahead if call.attribute not in TANGENTS}
    backward: dict[int | None, list] = {}
    further = [call for each in (*plan.tangents, *plan.backward, plan.gradients) for call in each.calls]
    for call in [*ahead, *further]:
        if call.attribute and forward.get(call.node) is not call:  # no turn of rows into columns
            backward.setdefault(call.node, []).append(" ".join(call.equation.split()))
    graph = plan.task.graph
    title = "tangents" if plan.task.tangents else "backward"
    rows = [("layer", "shape", "forward", [title]), ("input", str(graph.input.shape), "a1 = x", [])]
    for index, node in enumerate(graph.nodes):
        x, y = (name_of(plan.names, value) for value in (node.x, node.y))
        text = f"{y} = {x}, in its shape" if is_alias(node) else forward[index].equation
        rows.append((node.name, str(node.y.shape), text, backward.get(index, [])))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    if plan.task.loss is not None:
        one, *deltas = backward[None]
        rows.append(("loss", "", " ".join(one.split()), deltas))
        rows.append(("update", "", plan.update_chunk[-1].equation, []))
    lines = []
    for *cells, equations in rows:
        begin = "    " + "   ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)) + "   "
        if not equations or len(begin) + max(map(len, equations)) > WIDTH:
            lines += wrapped(begin.rstrip(), "", " " * 8)
            begin = " " * min(4 + widths[0] + 3 + widths[1] + 3, 40)  # equations that do not fit go below
        for line in _joined(equations, WIDTH - len(begin)):
            lines += wrapped(line, begin, " " * (len(begin) + 4))
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
