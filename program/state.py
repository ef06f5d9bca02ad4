"""The arrays a program works on, and their type in jitted code.

Numba freezes a global tuple of arrays: compiled code would keep a read-only copy of a network. So a State has a Numba
type, by element type, which refuses to be a constant.
"""

from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.typing.typeof import Purpose
from numba.extending import NativeValue, make_attribute_wrapper, models, register_model, typeof_impl, unbox
from numba.np.numpy_support import from_dtype
from numpy.typing import NDArray

from ..kernels.compiler.cache import digest

KEY = digest(Path(__file__).read_text(encoding="utf-8"))
MAX_SEED = 2**31 - 1
# Refused calls; State.counters[FAULT] counts them from 1 on.
FAULTS = (
    "predict state", "predict arrays", "step state", "step arrays", "step labels",
    "epoch state", "epoch arrays", "epoch labels", "epoch order", "gradient state", "gradient arrays",
    "gradient labels", "update state", "clear state", "vjp state", "vjp arrays", "jvp state", "jvp arrays",
    "jacobian state", "jacobian arrays", "shard_gradient state", "shard_gradient arrays", "shard_gradient labels",
    "shard_gradient order", "shard_update state", "shard_update samples",
)  # fmt: skip
# A state's number is that of its program plus what the state has: what predictions need; the gradient, too; all of it.
LIGHT, LEARNS, WHOLE = range(3)
LEAST = {"predict": LIGHT, "jvp": LIGHT, "jacobian": LIGHT, "vjp": LEARNS, "clear": LEARNS}  # other functions: WHOLE
WRONG_STATE = "the state is another program's or a light one; program.new_state() makes one"
READ_ONLY = "the state is read-only, but programs write into it; copy.deepcopy makes one that is not"


class _Fields(NamedTuple):
    theta: NDArray[Any]
    gradient: NDArray[Any]
    moments: NDArray[Any]
    buffers: NDArray[Any]
    arena: NDArray[Any]
    rates: NDArray[np.float64]
    log: NDArray[np.float64]
    counters: NDArray[np.int64]
    layout: int


class State(_Fields):
    """The arrays a program works on; a state belongs to one thread. `Program.new_state` makes one.

    theta, gradient (S,); moments (k S,) of the update rule; buffers; arena: activations and deltas; rates: the learning
    rate of every step (the last one holds for all later steps); log (float64): rows of loss, rate, total norm and norms
    by layer, then partial sums; counters (int64): step, seed, rows written, stop flag, refused call (see `FAULTS`),
    then the identity order and the batch's labels. The stop flag is set if the loss or a gradient was not finite in the
    latest call of `step` or `epoch`, which begins by clearing it; such a step is not counted, and the next call
    continues from the current theta. `layout` is the number of the program's text and types plus that of what the state
    has (see `LIGHT`): a function refuses a state with another number.
    """

    __slots__ = ()

    def _replace(self, **changes: Any) -> NoReturn:
        raise TypeError(
            f"State: {', '.join(changes)} cannot be replaced, since compiled code relies on the sizes; write into the "
            "arrays, as in state.theta[:] = values, or make a state with program.new_state()"
        )

    def writable(self) -> bool:
        """Tell whether compiled code may write into every array."""
        return all(array.flags.writeable for array in self[:-1])


class StateType(types.Type):
    """The type of a State in jitted code.

    It is not Numba's named tuple, which a parallel loop takes apart and rebuilds as a plain one.
    """

    fields = State._fields
    code = ""  # of types in files of older versions

    def __init__(self, real):
        self.real, self.code = real, KEY  # code that a user caches holds the places of the fields
        kinds = [real] * 5 + [types.float64] * 2 + [types.int64]
        self.types: tuple[Any, ...] = (*(types.Array(kind, 1, "C") for kind in kinds), types.int64)
        super().__init__(f"State({real})")

    @property
    def key(self):
        return self.real, self.code

    def dtypes(self):
        """Map each array's field to its element type."""
        return {name: kind.dtype for name, kind in zip(self.fields, self.types, strict=True) if name != "layout"}


@register_model(StateType)
class _StateModel(models.StructModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, list(zip(kind.fields, kind.types, strict=True)))


for _field in State._fields:
    make_attribute_wrapper(StateType, _field, _field)


@typeof_impl.register(State)
def _typeof(state, context):
    if context.purpose is Purpose.constant:
        raise TypingError(
            "a State cannot be a global or closure variable of jitted code, which would keep frozen copies of its"
            " arrays: pass it as an argument (a @cfunc takes the address of a program.c_state())"
        )
    if not state.writable():
        raise TypingError(READ_ONLY)
    return StateType(from_dtype(np.dtype(state.theta.dtype)))


@unbox(StateType)
def _unbox(kind, obj, c):
    state = cgutils.create_struct_proxy(kind)(c.context, c.builder)
    failed = cgutils.false_bit
    for i, (field, of) in enumerate(zip(kind.fields, kind.types, strict=True)):
        value = c.unbox(of, c.pyapi.tuple_getitem(obj, i))
        setattr(state, field, value.value)
        failed = c.builder.or_(failed, value.is_error)
    return NativeValue(state._getvalue(), is_error=failed)
