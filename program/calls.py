"""The calls of a program: kernels, bound by the names of their arguments to arrays, numbers and variables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import NnjitError
from ..kernels.operations import operation
from .graph import COLUMNS, Ref
from .notation import call_name, identifier, numbers
from .slots import Binding

RESERVED = ("s", "n0", "n1", "part", "parts")  # arguments that every call of the text has, or its kernel


@dataclass(frozen=True)
class Var:
    """A local variable of the program's text, plus a whole number, as a kernel argument.

    `kind` is int, float or bool.
    """

    name: str
    kind: type = int
    plus: int = 0

    def __post_init__(self):
        if not self.name.isidentifier():
            raise ValueError(f"a variable must be an identifier, got {self.name!r}")

    @property
    def text(self):
        return f"{self.name} + {self.plus}" if self.plus else self.name


class Call(NamedTuple):
    """One call of a kernel.

    Parameters
    ----------
    binding : Binding
    values : mapping
        Its arguments by name.
    equation : str
        The equation that it computes, with the lecture's number.
    node : int or None
        The number of its node in the graph.
    attribute : str
        Which of the node's kernels it is.
    split : bool
        Whether the kernel's own loop is divided into parts, on the whole batch; else it runs on blocks of samples.
    """

    binding: Binding
    values: Mapping
    equation: str = ""
    node: int | None = None
    attribute: str = ""
    split: bool = False


class CallList(NamedTuple):
    """A function of the text that is one list of calls.

    Parameters
    ----------
    name : str
    calls : tuple of Call
    split : bool
        As in `Call`.
    columns : bool
        Whether samples are columns: it is called tile by tile.
    loop : int
        The number of its loop over blocks: forward and backward pass of the last region are one.
    """

    name: str
    calls: tuple[Call, ...]
    split: bool = False
    columns: bool = False
    loop: int = 0


class Calls:
    """Makes calls of kernels, and collects their bindings, each with a name that nothing else has.

    Parameters
    ----------
    graph : Graph
    names : mapping
        Ref or Slot -> variable name.
    division : Shares
    taken : set of str
        Names of functions in the text.
    own : int
        The number of the first node whose gradients have separate memory, not that of the state's gradient.
    """

    def __init__(self, graph, names, division, taken, own):
        self.graph, self.names, self.division, self.own = graph, names, division, own
        self.columns = division.narrow is not None
        self.bindings: dict = {}
        self._taken, self._numbers = {*names.values(), *taken}, numbers(graph)

    def call(self, name, title, kernel, values, equation="", **more):
        """Return a call of a kernel, its numbers bound; `more` as in `Call`."""
        for argument in kernel.arguments:
            if argument in RESERVED:
                raise NnjitError(f"{title}: a kernel argument cannot be called {argument!r}, a name of the program")
        values = {k: values[k] for k in kernel.arguments}
        options = {k: v for k, v in values.items() if isinstance(v, (bool, int, float, tuple))}
        while name in self.bindings or name in self._taken:
            name += "_"
        self.bindings[name] = Binding(name, title, kernel, options, self.division.parts if more.get("split") else None)
        return Call(self.bindings[name], values, equation, **more)

    @staticmethod
    def ref(kind, value, columns):
        """Return the `Ref` of a value or delta, as rows or as columns."""
        return Ref(COLUMNS[kind] if columns else kind, value.index)

    def of_node(self, index, attribute, kernel, values, text, split=False):
        """Return the call of a kernel of a node."""
        kind = self.graph.nodes[index].kind
        name = call_name(kind, self._numbers[index][0], attribute)
        title = identifier(f"{kind}_{attribute}")
        return self.call(name, title, kernel, values, text, node=index, attribute=attribute, split=split)

    def turn(self, kind, value, name):
        """Return the call that turns samples into columns, or back into rows."""
        rows, columns = (self.ref(kind, value, as_columns) for as_columns in (False, True))
        x, y = (rows, columns) if name == "of_rows" else (columns, rows)
        text = f"{self.names[y]} = {self.names[x]}, samples as {'columns' if name == 'of_rows' else 'rows'}"
        kernel = operation("columns.transpose", form="matrix")
        return self.call(f"{self.names[columns]}_{name}", "columns_transpose", kernel, {"x": x, "y": y}, text)

    def data(self, names):
        """Bind the kernels that bring samples into the batch and results out of it."""
        for name in names:
            self.bindings[name] = Binding(name, name, operation(name.replace("_", ".", 1), form="flat"))


def numbers_of(options):
    """Return the options that a kernel can take."""
    return {k: v for k, v in options.options().items() if isinstance(v, (bool, int, float))}
