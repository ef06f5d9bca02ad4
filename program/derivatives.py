"""The texts of a program's derivatives: each is planned with the program and compiled when it is first called.

Their arrays lie in the arena of the program's states, where those of training lie too: a call of one function keeps
nothing for another one but theta, the gradient, moments, buffers and counters.
"""

from math import prod

from ..errors import NnjitError
from .code import Code
from .plan import Task
from .schedule import inline

INLINED_AT_ONCE = 8  # unit vectors of a Jacobian whose kernels are compiled into the text
JACOBIAN = 64  # unit vectors at once where kernels are linked: enough to fill vectors, few enough for the caches


class Derivatives:
    """The texts of the derivatives of a program.

    Parameters
    ----------
    task : Task
        The program's.
    layout : int
        Its layout number.

    Attributes
    ----------
    sizes : dict
        The numbers that a state must have of "arena" and "counters".
    """

    def __init__(self, task: Task, layout: int) -> None:
        self._codes: dict[str, Code | NnjitError] = {}
        plain = task._replace(loss=None, loss_name="", optimizer=None, labels=False, weighted=False)
        plain = plain._replace(clip=None, norm=2.0)
        tasks = {"vjp": plain._replace(backward=True), "jvp": plain._replace(backward=False)}
        if task.loss is not None:
            tasks["gradient"] = task
        for name, each in tasks.items():
            self._codes[name] = self._made(each._replace(derivative=name), layout)
        self._codes["jacobian"] = self._jacobian(plain, layout)
        codes = [code for code in self._codes.values() if isinstance(code, Code)]
        self.sizes = {name: max((code.sizes[name] for code in codes), default=0) for name in ("arena", "counters")}

    @staticmethod
    def _made(task, layout):
        """Return the text of a task, or the error that says why there is none."""
        try:
            return Code(task, layout)
        except NnjitError as error:
            return error

    def _jacobian(self, plain, layout):
        """Return the text of the Jacobian by the cheaper direction, or by the other if a layer lacks that."""
        inputs, outputs = (prod(value.shape) for value in (plain.graph.input, plain.graph.output))
        rows = plain._replace(derivative="rows", backward=True, batch_size=_at_once(plain.graph, outputs))
        columns = plain._replace(derivative="columns", backward=False, batch_size=_at_once(plain.graph, inputs))
        first, second = (rows, columns) if outputs <= inputs else (columns, rows)
        made = self._made(first, layout)
        return made if isinstance(made, Code) else self._made(second, layout)

    def code(self, name: str) -> Code:
        """Return a text: "gradient", "vjp", "jvp" or "jacobian"; raise NnjitError if a layer lacks what it needs."""
        code = self._codes[name]
        if isinstance(code, NnjitError):
            raise type(code)(f"{name}: {code}")
        return code


def _at_once(graph, count):
    """Return how many of the unit vectors of a Jacobian are taken at once."""
    few = min(count, INLINED_AT_ONCE)
    return few if inline(graph, few, gradients=False) else min(count, JACOBIAN)
