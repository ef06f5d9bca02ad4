"""Compilation of a program's text: kernels first, then each function of the text, bound to each other by symbol.

Kernels and functions are registered with LLVM under names that contain the hash of everything that decides their code;
their callers compile only a call. So a program compiles in the time of its few lines, and a cached one loads in
milliseconds. For tiny networks (schedule.inline) everything is compiled into one function instead.
"""

from pathlib import Path

from numba import types

from ..kernels.compiler.cache import digest
from ..kernels.compiler.kernel import COMPILING, FLOATS
from ..kernels.compiler.prepare import Item, Work, helped
from ..kernels.compiler.source import Source
from ..kernels.operations import Operation
from ..registry.sources import uncollected
from .calls import Var
from .functions import KEY as FUNCTIONS_KEY
from .functions import Functions
from .graph import Ref
from .plan import samples
from .slots import KEY as SLOTS_KEY
from .state import StateType

KEY = digest(Path(__file__).read_text(encoding="utf-8"))
_assembled: dict = {}  # key of a text -> its functions, which all networks with this text share


@COMPILING
@uncollected()
def assemble(code):
    """Compile a text; return its functions by name."""
    plan, real = code.plan, code.dtype.type
    inline = plan.shares.inline
    device = "few" if inline else code.device
    state = StateType(FLOATS[real])
    flats = state.dtypes()
    used = []

    def kernel_of(binding, signature):  # Numba keeps it for ever, so it must not hold the program
        kernel = _kernel(binding, device)
        if inline:
            dispatcher = kernel.inlined(signature, real)
            used.append(dispatcher.py_func.__name__)
            return dispatcher
        name = kernel.symbol(signature, real)
        used.append(name)
        return name

    # A kernel must be registered before code that calls it is loaded; first those that need no others.
    bound = [(binding, binding.signature(values, flats, real)) for binding, values in _bound(code)]
    kernels = {binding: _kernel(binding, device) for binding, _ in bound}
    if not inline:
        absent = dict.fromkeys((kernels[b], s) for b, s in bound if not kernels[b].stored(s, real))
        work = Work(_in_order(absent), real)
        with helped(work):
            while item := work.take():
                item.compile(real)
            work.wait()
    for binding, signature in bound:
        kernel_of(binding, signature)
    key = digest(code.source, code.layout, *sorted(set(used)), *state.key, inline, KEY, FUNCTIONS_KEY, SLOTS_KEY)
    if key not in _assembled:
        words = {name: b.compiled(kernel_of, real, flats) for name, b in plan.bindings.items()}
        space = code.namespace(words)
        _assembled[key] = Functions(code, space, state, key).build()
    return _assembled[key]


def _kernel(binding, device):
    return binding.kernel.on(device) if isinstance(binding.kernel, Operation) else binding.kernel


def _in_order(kernels):
    """Return items for all these kernels, pairs with a signature, and for what they call, which comes first."""
    linked = {kernel: tuple(kernel.source.linked()) for kernel, _ in kernels}
    needs = {function: tuple(Source(function).linked()) for functions in linked.values() for function in functions}
    items = [Item(function, None, inner) for function, inner in needs.items()]
    items += [Item(kernel, signature, linked[kernel]) for kernel, signature in kernels]
    return sorted(items, key=lambda item: (item.signature is not None, len(item.needs)))


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
