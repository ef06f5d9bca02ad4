"""Lines of the text that refuse a state or arrays which do not fit: compiled code would read and write beyond them."""

from ..state import WRONG_STATE


def guard(function, plan, name, shape, largest=None):
    """Return lines that refuse a state or arrays which do not fit; compiled code would read and write beyond them."""
    batch = lambda n, shape: f"({n}, {', '.join(map(str, shape))})" if shape else f"({n},)"  # noqa: E731
    x, most = plan.task.graph.input.shape, f", N from 1 to {largest}" if largest else ""
    size = " or not 1 <= x.shape[0] <= BATCH" if largest else ""
    return [
        "if s.layout != LAYOUT:",
        refuse(f"{function} state", WRONG_STATE),
        f"if x.shape[1:] != {x} or {name}.shape != {batch('x.shape[0]', shape)}{size}:",
        refuse(f"{function} arrays", f"expected x {batch('N', x)} and {name} {batch('N', shape)}{most}"),
    ]


def refuse(fault, sentence):
    """Return lines that fill the output with NaN, note the refusal in the state, and raise."""
    function = fault.split()[0]
    return [
        *(["y[...] = np.nan"] if function == "predict" else []),
        f"s.counters[FAULT] = {fault_name(fault)}",
        f'raise ValueError("{function}: {sentence}")',
    ]


def fault_name(fault):
    """Return the constant with the number of a refusal."""
    return fault.upper().replace(" ", "_")


def label_guard(function, label, plan):
    """Return lines that refuse a label outside of the classes, where targets are labels."""
    if not plan.task.labels:
        return []
    classes = plan.task.graph.output.shape[0]
    sentence = f"labels are whole numbers from 0 to {classes - 1}"
    return [f"if not 0 <= {label} < {classes}:", refuse(f"{function} labels", sentence)]
