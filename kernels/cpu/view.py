"""Views: matrices in memory as values.

A view is an address and two strides, as BLIS describes a matrix. It is passed in registers and owns nothing::

    A = View(a, K, 1)                                   # an array a, row by row: A[i, k] is a[i * K + k]
    A = View(a, 1, M)                                   # column by column: A[i, k] is a[i + k * M]
    A.at(i, k), A.row(i), A.column(k)                   # views that begin at A[i, k], A[i, 0], A[0, k]

The words of words.py load and store tiles where a view begins. In plain Python a view is a PlainView of a NumPy array.
"""

import operator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.typing.templates import (
    AbstractTemplate,
    AttributeTemplate,
    bound_function,
    infer_getattr,
    infer_global,
    signature,
)
from numba.extending import lower_builtin, lower_getattr, register_model

from .tile import _word


class ViewType(types.Type):
    """The address of a matrix, the distance of its rows and that of its columns, in numbers."""

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(f"View({dtype})")


@register_model(ViewType)
class _ViewModel(models.StructModel):
    def __init__(self, manager, kind):
        members = [("data", types.CPointer(kind.dtype)), ("row_stride", types.intp), ("column_stride", types.intp)]
        super().__init__(manager, kind, members)


def parts(context, builder, kind, value):
    """A view's value taken apart: its data, row_stride and column_stride in LLVM."""
    return cgutils.create_struct_proxy(kind)(context, builder, value=value)


def _made(context, builder, kind, data, row_stride, column_stride):
    made = cgutils.create_struct_proxy(kind)(context, builder)
    made.data, made.row_stride, made.column_stride = data, row_stride, column_stride
    return made._getvalue()


class PlainView:
    """What a view is in plain Python: a flat array, the place where it begins, and the strides."""

    def __init__(self, data, row_stride, column_stride, first):
        self.data, self.row_stride, self.column_stride, self.first = data, row_stride, column_stride, first
        self.dtype = data.dtype

    def at(self, i, j):
        return PlainView(self.data, self.row_stride, self.column_stride, self._place(i, j))

    def row(self, i):
        return self.at(i, 0)

    def column(self, j):
        return self.at(0, j)

    def _place(self, i, j):
        return self.first + i * self.row_stride + j * self.column_stride

    def __getitem__(self, index):
        return self.data[self._place(*index)]

    def __setitem__(self, index, value):
        self.data[self._place(*index)] = value


def _view(data, row_stride, column_stride, first=0):
    """A matrix in an array, from number `first` on; of a view: with other strides."""
    if isinstance(data, PlainView):
        return PlainView(data.data, row_stride, column_stride, data.first + first)
    return PlainView(data.reshape(-1), row_stride, column_stride, first)


@_word(_view)
def View(typing, data, row_stride, column_stride, first=0):
    if isinstance(data, types.Array) and data.layout != "C":
        return None
    kind = ViewType(data.dtype)

    def generate(context, builder, sig, args):
        pointer = args[0]
        if isinstance(data, ViewType):
            pointer = parts(context, builder, data, pointer).data
        elif isinstance(data, types.Array):
            pointer = builder.extract_value(pointer, 4)
        return _made(context, builder, kind, builder.gep(pointer, [args[3]]), args[1], args[2])

    return kind(data, types.intp, types.intp, types.intp), generate


View.argument_type = ViewType  # of an argument of a `linked` function that is annotated with View


@infer_getattr
class _ViewAttributes(AttributeTemplate):
    key = ViewType

    @bound_function("view.at")
    def resolve_at(self, view, args, kws):
        return signature(view, types.intp, types.intp) if len(args) == 2 and not kws else None

    @bound_function("view.row")
    def resolve_row(self, view, args, kws):
        return signature(view, types.intp) if len(args) == 1 and not kws else None

    @bound_function("view.column")
    def resolve_column(self, view, args, kws):
        return signature(view, types.intp) if len(args) == 1 and not kws else None

    def resolve_row_stride(self, view):
        return types.intp

    def resolve_column_stride(self, view):
        return types.intp


@lower_getattr(ViewType, "row_stride")
def _lower_row_stride(context, builder, kind, value):
    return parts(context, builder, kind, value).row_stride


@lower_getattr(ViewType, "column_stride")
def _lower_column_stride(context, builder, kind, value):
    return parts(context, builder, kind, value).column_stride


def _place(builder, view, i=None, j=None):
    """The address of view[i, j]; None stands for 0."""
    offset = ir.IntType(64)(0)
    for index, stride in ((i, view.row_stride), (j, view.column_stride)):
        if index is not None:
            offset = builder.add(offset, builder.mul(index, stride, flags=["nsw"]), flags=["nsw"])
    return builder.gep(view.data, [offset])


def _moved(context, builder, kind, value, i=None, j=None):
    view = parts(context, builder, kind, value)
    return _made(context, builder, kind, _place(builder, view, i, j), view.row_stride, view.column_stride)


@lower_builtin("view.at", ViewType, types.intp, types.intp)
def _lower_at(context, builder, sig, args):
    return _moved(context, builder, sig.args[0], *args)


@lower_builtin("view.row", ViewType, types.intp)
def _lower_row(context, builder, sig, args):
    return _moved(context, builder, sig.args[0], args[0], i=args[1])


@lower_builtin("view.column", ViewType, types.intp)
def _lower_column(context, builder, sig, args):
    return _moved(context, builder, sig.args[0], args[0], j=args[1])


def _is_place(args):
    """Whether the first arguments are a view and a pair of whole numbers."""
    view, index = args[:2]
    pair = isinstance(index, types.BaseTuple) and len(index) == 2 and all(isinstance(k, types.Integer) for k in index)
    return isinstance(view, ViewType) and pair


@infer_global(operator.getitem)
class _Number(AbstractTemplate):
    def generic(self, args, kws):
        return signature(args[0].dtype, args[0], types.UniTuple(types.intp, 2)) if _is_place(args) else None


@infer_global(operator.setitem)
class _SetNumber(AbstractTemplate):
    def generic(self, args, kws):
        view = args[0]
        return signature(types.none, view, types.UniTuple(types.intp, 2), view.dtype) if _is_place(args) else None


@lower_builtin(operator.getitem, ViewType, types.UniTuple)
def _lower_number(context, builder, sig, args):
    view = parts(context, builder, sig.args[0], args[0])
    return builder.load(_place(builder, view, *cgutils.unpack_tuple(builder, args[1], 2)))


@lower_builtin(operator.setitem, ViewType, types.UniTuple, types.Float)
def _lower_set_number(context, builder, sig, args):
    view = parts(context, builder, sig.args[0], args[0])
    builder.store(args[2], _place(builder, view, *cgutils.unpack_tuple(builder, args[1], 2)))
    return context.get_dummy_value()
