"""Compilation of a program's text: kernels first, then each function of the text, bound to each other by symbol.

Kernels and functions are registered with LLVM under names that contain the hash of everything that decides their code;
their callers compile only a call. So a program compiles in the time of its few lines, and a cached one loads in
milliseconds. For tiny networks (schedule.inline) everything is compiled into one function instead.
"""

from pathlib import Path

import numpy as np
from numba import types

from ..kernels.compiler.cache import digest
from ..kernels.compiler.lock import COMPILING
from ..kernels.compiler.options import FLOATS
from ..kernels.compiler.prepare import Item, Work, helped
from ..kernels.compiler.source import all_called
from ..kernels.operations import Operation
from ..registry.sources import uncollected
from .calls import Var
from .functions import KEY as FUNCTIONS_KEY
from .functions import Functions
from .graph import Ref
from .plan import samples
from .slots import KEY as SLOTS_KEY
from .slots import Slot, sizes
from .state import StateType

KEY = digest(Path(__file__).read_text(encoding="utf-8"))
_assembled: dict = {}  # key of a text -> its functions, which all networks with this text share


@COMPILING
@uncollected()
def assemble(code):
    """Compile a text; return its functions by name."""
    plan, real = code.plan, code.dtype.type
    inline = plan.shares.inline
    device = _folder(code)
    state = StateType(FLOATS[real])
    flats = state.dtypes()

    def kernel_of(binding, signature):  # Numba keeps it for ever, so it must not hold the program
        kernel = _kernel(binding, device)
        if inline:
            return kernel.inlined(signature, real, unreached[binding])
        return kernel.named.get((signature, real)) or kernel.symbol(signature, real, unreached[binding])

    bound, unreached = [(b, b.signature(values, flats, real)) for b, values in _bound(code)], not_reached(code)
    kernels = {} if inline else {binding: _kernel(binding, device) for binding, _ in bound}
    absent = [(kernels[b], s, unreached[b]) for b, s in bound if b in kernels and not kernels[b].stored(s, real)]
    used = {made if isinstance(made, str) else made.py_func.__name__ for made in (kernel_of(*each) for each in bound)}
    key = digest(code.source, code.layout, *sorted(used), *state.key, inline, KEY, FUNCTIONS_KEY, SLOTS_KEY)
    work = Work(_in_order(absent), real)
    with helped(work):
        # The program's functions know kernels by name, so a second process may compile kernels meanwhile.
        made = None
        if key not in _assembled:
            words = {name: b.compiled(kernel_of, real, flats) for name, b in plan.bindings.items()}
            made = Functions(code, code.namespace(words), state, key)
            functions = made.build()
        while item := work.take():
            item.compile(real)
        work.wait()
    for binding, signature in [] if inline else bound:  # registered before code that calls it is loaded
        kernels[binding].symbol(signature, real, unreached[binding])
    if made:
        made.load()
        _assembled[key] = functions
    return _assembled[key]


def _folder(code):
    return "few" if code.plan.shares.inline else code.device


def _kernel(binding, device):
    return binding.kernel.on(device) if isinstance(binding.kernel, Operation) else binding.kernel


def _in_order(kernels):
    """Return items for kernels, each with its signature and unreached functions, and for what they call, first."""
    items: dict = {}
    for kernel, signature, unreached in kernels:
        needs = tuple(kernel.source.linked(unreached))
        items.setdefault((kernel, signature), Item(kernel, signature, needs, unreached))
        for function in needs:
            items.setdefault(function, Item(function, None, tuple(all_called(function.told()[1]))))
    return sorted(items.values(), key=lambda item: (item.signature is not None, len(item.needs)))


def not_reached(code):
    """Map each binding to the `seldom` functions that its kernel does not reach, from the shapes of its arguments."""
    plan, real, device = code.plan, code.dtype.type, _folder(code)
    block = plan.shares.samples if plan.shares.narrow is None else plan.task.batch_size
    found: dict = dict.fromkeys(plan.bindings.values(), frozenset())
    for call in plan.calls():
        binding = call.binding
        n = block if binding.parts is None else plan.task.batch_size  # the most samples of a call
        values = binding.values([call.values[name] for name in binding.free])
        slots = (plan.slot(v) if isinstance(v, Ref) else v for v in values)
        given = [np.broadcast_to(real(0), sizes(v, binding.form, n)) if isinstance(v, Slot) else v for v in slots]
        found[binding] = _kernel(binding, device).not_reached(given)
    return found


def _bound(code):
    """Yield every binding with sample values of its arguments."""
    plan, labels = code.plan, code.task.labels
    flat, whole = types.Array(FLOATS[code.dtype.type], 1, "C"), types.Array(types.int64, 1, "C")
    for call in plan.calls():
        values = [call.values[name] for name in call.binding.names]
        yield (
            call.binding,
            [plan.slot(v) if isinstance(v, Ref) else v.kind() if isinstance(v, Var) else v for v in values],
        )
    for name, ref in samples(code.task):
        slot, source = plan.slot(ref), whole if ref.kind == "target" and labels else flat
        given = {"batch": slot, "source": source, "order": whole, "target": flat}
        binding = plan.bindings[name]
        yield binding, [given.get(argument, 0) for argument in binding.names]
