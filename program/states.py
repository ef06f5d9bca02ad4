"""Many states of one program in one value, for parallel loops: in jitted code `states[k]` is a state.

Its arrays are borrowed. A loop over k gives each iteration, or each thread, a state. The value holds the memory of all:
keep it as long as its states are used.
"""

import operator
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.core.typing.typeof import Purpose
from numba.extending import NativeValue, lower_builtin, models, register_model, typeof_impl, unbox
from numba.np.numpy_support import from_dtype

from ..kernels.compiler.cache import digest
from ..kernels.compiler.lock import once
from .function_type import PARALLEL
from .memory import aligned
from .state import KEY as STATE_KEY
from .state import State, StateType

KEY = digest(Path(__file__).read_text(encoding="utf-8"), STATE_KEY)
LINE = 16  # numbers; rows begin at multiples of it, so that two threads never write one cache line


class States:
    """States of a program; `Program.states` makes them.

    Parameters
    ----------
    count : int
    layout : int
        The number of these states.
    arrays : mapping
        Field of a state -> (array, numbers of a state): an array of one dimension is shared by all states, one of two
        has a row for each.
    """

    def __init__(self, count: int, layout: int, arrays: dict[str, tuple[np.ndarray, int]]) -> None:
        self.count, self.layout, self._arrays = count, layout, arrays

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "numbers"}  # a copy has other addresses

    @property
    def theta(self) -> np.ndarray:
        """The parameters of all states (count, S), or those that they share (S,)."""
        return self._of("theta")

    def _of(self, field):
        array, size = self._arrays[field]
        return array[..., :size]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, k: int) -> State:
        """Return a state, views of the arrays; IndexError beyond the last one."""
        if not -self.count <= k < self.count:
            raise IndexError(f"states: there are {self.count}, got number {k}")
        rows = {name: self._of(name) for name in self._arrays}
        found = {name: rows[name][k] if rows[name].ndim == 2 else rows[name] for name in rows}
        return State(**found, layout=self.layout)

    @once
    def numbers(self) -> tuple[int, ...]:
        """Return the numbers that compiled code gets: count, layout, and of each array address, size, bytes a row."""
        found = [self.count, self.layout]
        for array, size in self._arrays.values():
            found += [array.ctypes.data, size, array.strides[0] if array.ndim == 2 else 0]
        return tuple(found)

    @property
    def real(self) -> np.dtype:
        return self._arrays["theta"][0].dtype


def rows(count: int, size: int, dtype: Any) -> np.ndarray:
    """Return an array of `count` rows of at least `size` numbers, each in separate cache lines."""
    width = -(-size // LINE) * LINE
    return aligned(count * width, dtype).reshape(count, width)


class StatesType(types.Type):
    """The type of States in jitted code."""

    code = ""

    def __init__(self, real):
        self.real, self.code, self.state = real, KEY, StateType(real)
        super().__init__(f"States({real})")

    @property
    def key(self):
        return self.real, self.code


FIELDS = State._fields[:-1]


@register_model(StatesType)
class _StatesModel(models.StructModel):
    def __init__(self, manager, kind):
        names = [f"{field}_{what}" for field in FIELDS for what in ("address", "size", "step")]
        super().__init__(manager, kind, [(name, types.intp) for name in ("count", "layout", *names)])


@typeof_impl.register(States)
def _typeof(states, context):
    if context.purpose is Purpose.constant:
        raise TypingError(
            "States cannot be a global or closure variable of jitted code, whose cache would keep the addresses of"
            " memory that is gone: pass them as an argument"
        )
    return StatesType(from_dtype(states.real))


@unbox(StatesType)
def _unbox(kind, obj, c):
    numbers = c.pyapi.object_getattr_string(obj, "numbers")
    count = 2 + 3 * len(FIELDS)
    values = c.unbox(types.UniTuple(types.int64, count), numbers).value
    c.pyapi.decref(numbers)
    whole = cgutils.create_struct_proxy(kind)(c.context, c.builder)
    names = ["count", "layout", *(f"{field}_{what}" for field in FIELDS for what in ("address", "size", "step"))]
    for name, value in zip(names, cgutils.unpack_tuple(c.builder, values), strict=True):
        setattr(whole, name, value)
    return NativeValue(whole._getvalue())


@infer_global(operator.getitem)
class _GetItem(AbstractTemplate):
    def generic(self, args, kws):
        if len(args) == 2 and isinstance(args[0], StatesType) and isinstance(args[1], types.Integer):
            return signature(args[0].state, args[0], types.intp)
        return None


@infer_global(len)
class _Len(AbstractTemplate):
    def generic(self, args, kws):
        return signature(types.intp, *args) if len(args) == 1 and isinstance(args[0], StatesType) else None


@lower_builtin(len, StatesType)
def _len(context, builder, sig, args):
    return cgutils.create_struct_proxy(sig.args[0])(context, builder, args[0]).count


@lower_builtin(operator.getitem, StatesType, types.intp)
def _getitem(context, builder, sig, args):
    """Emit a state whose arrays lie in the memory of all.

    Beyond the last one IndexError is raised; in the body of a parallel loop, which cannot raise, every function refuses
    the state.
    """
    kind, (states, k) = sig.args[0], args
    states = cgutils.create_struct_proxy(kind)(context, builder, states)
    k = builder.select(builder.icmp_signed("<", k, k.type(0)), builder.add(k, states.count), k)
    inside = builder.icmp_unsigned("<", k, states.count)
    if PARALLEL not in builder.function.name:
        with cgutils.if_unlikely(builder, builder.not_(inside)):
            context.call_conv.return_user_exc(builder, IndexError, ("states: there is none of this number",))
    k = builder.select(inside, k, k.type(0))
    state = cgutils.create_struct_proxy(kind.state)(context, builder)
    for field, array in zip(FIELDS, kind.state.types, strict=False):
        address, size, step = (getattr(states, f"{field}_{what}") for what in ("address", "size", "step"))
        item = k.type(context.get_abi_sizeof(context.get_data_type(array.dtype)))
        made = cgutils.create_struct_proxy(array)(context, builder)
        made.meminfo = made.parent = ir.Constant(made.meminfo.type, None)  # borrowed: the caller holds the memory
        made.nitems, made.itemsize = size, item
        made.data = builder.inttoptr(builder.add(address, builder.mul(k, step)), made.data.type)
        made.shape, made.strides = (cgutils.pack_array(builder, [each]) for each in (size, item))
        setattr(state, field, made._getvalue())
    state.layout = builder.select(inside, states.layout, k.type(-1))
    return state._getvalue()
