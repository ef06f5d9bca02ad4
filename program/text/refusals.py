"""Lines of the text that refuse a state or arrays which do not fit: compiled code would read and write beyond them."""

from ..overlap import sharing
from ..state import LEAST, WHOLE, WRONG_STATE

SHARED = "an output shares a part of its memory with another array; it needs its own"
NAMES = ("LIGHT", "LEARNS", "WHOLE")  # of the numbers that a state can have


def state_guard(function, outputs=()):
    """Return lines that refuse the state of another program."""
    least = LEAST.get(function, WHOLE)
    return [
        "if s.layout != WHOLE:" if least == WHOLE else f"if not {NAMES[least]} <= s.layout <= WHOLE:",
        refuse(f"{function} state", WRONG_STATE, outputs),
    ]


def guard(function, plan, shapes, outputs=(), largest=None):
    """Return lines that refuse a state or arrays which do not fit; compiled code would read and write beyond them.

    Parameters
    ----------
    function : str
    plan : Plan
    shapes : dict
        Array, beside x -> its shape without the samples, as many as x has.
    outputs : sequence of str
        The arrays that a refused call fills with NaN.
    largest : int or None
        The largest number of samples.
    """
    batch = lambda n, shape: f"({n}, {', '.join(map(str, shape))})" if shape else f"({n},)"  # noqa: E731
    x, most = plan.task.graph.input.shape, f", N from 1 to {largest}" if largest else ""
    wrong = [
        f"x.shape[1:] != {x}",
        *(f"{name}.shape != {batch('x.shape[0]', shape)}" for name, shape in shapes.items()),
    ]
    wrong += ["not 1 <= x.shape[0] <= BATCH"] if largest else []
    *first, last = [f"{name} {batch('N', shape)}" for name, shape in {"x": x, **shapes}.items()]
    inputs = ["x", *(name for name in shapes if name not in outputs)]
    shared = [f"if {sharing(inputs, outputs)}:", refuse(f"{function} arrays", SHARED, outputs)] if outputs else []
    return [
        *state_guard(function, outputs),
        f"if {' or '.join(wrong)}:",
        refuse(f"{function} arrays", f"expected {', '.join(first)} and {last}{most}", outputs),
        *shared,
    ]


def refuse(fault, sentence, outputs=()):
    """Return lines that fill the outputs with NaN, note the refusal in the state, and raise."""
    return [
        *(f"{name}[...] = np.nan" for name in outputs),
        f"s.counters[FAULT] = {fault_name(fault)}",
        f'raise ValueError("{fault.split()[0]}: {sentence}")',
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
