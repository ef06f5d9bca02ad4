"""Times of single kernel calls of a program, each in its loops and on its arrays.

The program's text is compiled again with a number before every kernel call: ``run(first, last)`` then runs the calls
from `first` to `last` of one training step and skips all others, loops over threads included. The time of a step
without calls is measured too and subtracted.
"""

import ast
import time
from dataclasses import dataclass

import numpy as np
from numba import njit, typeof
from numba import prange as numba_prange

from ..kernels.compiler.options import HELPER, NO_WRAPPERS, OPTIONS
from ..kernels.counters import HEAD, STEP, STOP
from ..kernels.operations import Operation
from ..program.assemble import _bound

ROOT = "train_step"  # the text's function that does one training step


@dataclass(frozen=True)
class Line:
    """One kernel call of the text: its number, the function around it, the kernel's name, and its node of the graph."""

    number: int
    function: str
    kernel: str
    node: str | None
    direction: str  # "forward", "backward_input", "backward_weight", "add", ... of a layer; otherwise ""


class Probe:
    """The training program of a network, its kernel calls numbered.

    Parameters
    ----------
    program : Program
        With a loss.
    x, target : arrays
        One batch, as for ``program.step``.

    Attributes
    ----------
    lines : list of Line
    """

    def __init__(self, program, x, target):
        self.program, self.state = program, program.new_state()
        tree = ast.parse(program.source)
        self.functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        self.lines, self.spans = [], {}
        nodes, calls = program.network.graph.nodes, program.plan.calls()
        known = {call.binding.name: call for call in calls if call.node is not None}
        self._owners = {name: (nodes[call.node].name, call.attribute) for name, call in known.items()}
        self._visit(ROOT)
        text = ast.unparse(ast.fix_missing_locations(_Numbered(self).visit(tree)))
        self._compile(text)
        self.x, self.target, self.N = np.ascontiguousarray(x), np.ascontiguousarray(target), len(x)
        self.restore()

    def _visit(self, name):
        """Give numbers to the calls of a function and of the functions it calls, in order; store their span."""
        first = len(self.lines)
        for node in ast.walk(self.functions[name]):  # level by level, in order within a level
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                called = node.func.id
                if called in self.program.plan.bindings:
                    number = node.number = len(self.lines)  # type: ignore[attr-defined]  # a mark on the tree
                    self.lines.append(Line(number, name, called, *self._owners.get(called, (None, ""))))
                elif called in self.functions and called not in self.spans:
                    self._visit(called)
        self.spans[name] = (first, len(self.lines) - 1)

    def _compile(self, text):
        """Compile the numbered text; kernels are those of the program, called by symbol or inlined."""
        program, plan, real = self.program, self.program.plan, self.program.dtype.type
        state = typeof(program.state)
        flats = state.dtypes()

        def kernel_of(binding, signature):
            kernel = binding.kernel.on(program.device) if isinstance(binding.kernel, Operation) else binding.kernel
            return kernel.inlined(signature, real) if plan.shares.inline else kernel.symbol(signature, real)

        for binding, values in _bound(program):  # a kernel is registered before code that calls it is compiled
            kernel_of(binding, binding.signature(values, flats, real))
        former, program.source = program.source, text
        try:
            space = program.namespace({name: b.compiled(kernel_of, real, flats) for name, b in plan.bindings.items()})
        finally:
            program.source = former
        space["prange"] = numba_prange
        parallel = plan.shares.blocks > 1 or plan.shares.parts > 1
        for name in self.functions:  # none is called from Python
            options = {**OPTIONS, **NO_WRAPPERS, "parallel": True} if parallel and name == ROOT else HELPER
            space[name] = njit(**options)(space[name])
        train_step = space[ROOT]

        @njit(no_cfunc_wrapper=True)
        def repeat(s, x, targets, order, N, first, last, times):
            for _ in range(times):
                train_step(s, x, targets, order, 0, N, first, last)

        self._repeat = repeat

    def run(self, first, last, times=1):
        """Run the calls from number `first` to `last` of a step, repeatedly; skip the others."""
        order = self.state.counters[HEAD : HEAD + self.N]
        self._repeat(self.state, self.x, self.target, order, self.N, first, last, times)

    def restore(self):
        """Run a whole step from the network's parameters, so that all arrays hold the results of a step."""
        net = self.program.network
        self.state.theta[:], self.state.buffers[:] = net.theta, net.flat_buffers
        self.state.moments[:] = 0
        self.state.counters[STEP] = self.state.counters[STOP] = 0
        self.run(0, len(self.lines))

    def seconds(self, first, last, turn=0.01, count=7):
        """Median seconds of the calls from `first` to `last`, without the rest of a step."""
        return max(0.0, self._median(first, last, turn, count) - self._empty)

    @property
    def _empty(self):
        if not hasattr(self, "_nothing"):
            nothing = len(self.lines)
            self._nothing = self._median(nothing, nothing, 0.01, 7)
        return self._nothing

    def _median(self, first, last, turn, count):
        self.restore()
        times, took = 1, 0.0
        while took < turn / 2:
            begin = time.perf_counter()
            self.run(first, last, times)
            took = time.perf_counter() - begin
            times = times * 2 if took < turn / 2 else max(1, round(times * turn / took))
        found = []
        for _ in range(count):
            begin = time.perf_counter()
            self.run(first, last, times)
            found.append((time.perf_counter() - begin) / times)
        return float(np.median(found))

    def of(self, node, *directions):
        """Numbers of a node's calls in some directions; "backward" means all directions that begin with it."""
        return [
            line.number
            for line in self.lines
            if line.node == node and any(line.direction.startswith(direction) for direction in directions)
        ]


class _Numbered(ast.NodeTransformer):
    """Transformer that adds (first, last) to the functions and a condition before statements with kernel calls."""

    def __init__(self, probe):
        self.probe = probe

    def visit_FunctionDef(self, node):
        if node.name not in self.probe.spans:
            return node
        node.args.args += [ast.arg("first_"), ast.arg("last_")]
        return self.generic_visit(node)

    def visit_Call(self, node):
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in self.probe.spans:
            node.args += [ast.Name("first_", ast.Load()), ast.Name("last_", ast.Load())]
        return node

    def visit_Expr(self, node):
        return self._guarded(node)

    def visit_For(self, node):
        return self._guarded(node)

    def _guarded(self, node):
        """Return the node after ``if first_ <= (last number inside) and (first number inside) <= last_``."""
        numbers = self._numbers(node)
        node = self.generic_visit(node)
        if not numbers:
            return node
        test = ast.parse(f"first_ <= {max(numbers)} and {min(numbers)} <= last_", mode="eval").body
        return ast.If(test, [node], [])

    def _numbers(self, node):
        found = []
        for inner in ast.walk(node):
            if hasattr(inner, "number"):
                found.append(inner.number)
            elif isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name):
                lo, hi = self.probe.spans.get(inner.func.id, (0, -1))
                found += range(lo, hi + 1)
        return found
