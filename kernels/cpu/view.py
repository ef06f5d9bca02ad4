"""Views: matrices and images in memory as values.

A view is an address and strides, as BLIS describes a matrix. It is passed in registers and owns nothing::

    A = View(a, K, 1)                                   # an array a, row by row: A[i, k] is a[i * K + k]
    A = View(a, 1, M)                                   # column by column: A[i, k] is a[i + k * M]
    A.at(i, k), A.row(i), A.column(k)                   # views that begin at A[i, k], A[i, 0], A[0, k]
    P = Images(p, C * D * H * W, D * H * W, H * W, W, 1)  # P[n, c, d, h, w], of any strides
    P.at(n, c, d, h, w)                                 # the images that begin there
    View(P.at(n, c, d, h, w), P.row_stride, 1)          # the rows that begin there, as a matrix
    Vectors(P.at(n, c, d, h, w), P.map_stride, P.row_stride)   # a matrix of vectors: [map, row]

The words of words.py load and store tiles where a View or Vectors begin. The numbers of a row of a View follow each
other; Vectors are whole vectors, `vector_stride` apart in a row. In plain Python a view is a PlainView of an array.
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

from .tile import word

STRIDES = {
    "View": ("row_stride", "column_stride"),
    "Vectors": ("row_stride", "vector_stride"),
    "Images": ("sample_stride", "map_stride", "depth_stride", "row_stride", "column_stride"),
}


class ViewType(types.Type):
    """An address and the strides of one of the kinds of STRIDES, in numbers."""

    def __init__(self, dtype, kind):
        self.dtype, self.kind, self.strides = dtype, kind, STRIDES[kind]
        super().__init__(f"{kind}({dtype})")


@register_model(ViewType)
class _ViewModel(models.StructModel):
    def __init__(self, manager, kind):
        members = [("data", types.CPointer(kind.dtype)), *((name, types.intp) for name in kind.strides)]
        super().__init__(manager, kind, members)


def parts(context, builder, kind, value):
    """Return a view's value taken apart: its data and its strides in LLVM."""
    return cgutils.create_struct_proxy(kind)(context, builder, value=value)


def _made(context, builder, kind, data, strides):
    made = cgutils.create_struct_proxy(kind)(context, builder)
    made.data = data
    for name, stride in zip(kind.strides, strides, strict=True):
        setattr(made, name, stride)
    return made._getvalue()


class PlainView:
    """A view in plain Python: a flat array, the place where it begins, and the strides."""

    def __init__(self, kind, data, strides, first):
        self.kind, self.data, self.strides, self.first, self.dtype = kind, data, strides, first, data.dtype
        for name, stride in zip(STRIDES[kind], strides, strict=True):
            setattr(self, name, stride)

    def at(self, *index):
        return PlainView(self.kind, self.data, self.strides, self._place(index))

    def row(self, i):
        return self.at(i, 0)

    def column(self, j):
        return self.at(0, j)

    def _place(self, index):
        return self.first + sum(i * stride for i, stride in zip(index, self.strides, strict=True))

    def __getitem__(self, index):
        return self.data[self._place(index)]

    def __setitem__(self, index, value):
        self.data[self._place(index)] = value


def _plain(kind, data, strides, first):
    if isinstance(data, PlainView):
        return PlainView(kind, data.data, strides, data.first + first)
    return PlainView(kind, data.reshape(-1), strides, first)


def _construct(kind, data):
    """Signature and code of a view of an array, of a panel or of what another view views."""
    if isinstance(data, types.Array) and data.layout != "C":
        return None
    made, count = ViewType(data.dtype, kind), len(STRIDES[kind])

    def generate(context, builder, sig, args):
        pointer = args[0]
        if isinstance(data, ViewType):
            pointer = parts(context, builder, data, pointer).data
        elif isinstance(data, types.Array):
            pointer = builder.extract_value(pointer, 4)
        return _made(context, builder, made, builder.gep(pointer, [args[-1]]), args[1:-1])

    return made(data, *[types.intp] * (count + 1)), generate


def _view(data, row_stride, column_stride, first=0):
    """Return a matrix in an array, from number `first` on; of a view: with other strides."""
    return _plain("View", data, (row_stride, column_stride), first)


@word(_view)
def View(typing, data, row_stride, column_stride, first=0):
    return _construct("View", data)


def _vectors(data, row_stride, vector_stride, first=0):
    """Return a matrix of vectors in an array, from number `first` on; of a view: with other strides."""
    return _plain("Vectors", data, (row_stride, vector_stride), first)


@word(_vectors)
def Vectors(typing, data, row_stride, vector_stride, first=0):
    return _construct("Vectors", data)


def _images(data, sample_stride, map_stride, depth_stride, row_stride, column_stride, first=0):
    """Images in an array, from number `first` on; of a view: with other strides."""
    return _plain("Images", data, (sample_stride, map_stride, depth_stride, row_stride, column_stride), first)


@word(_images)
def Images(typing, data, sample_stride, map_stride, depth_stride, row_stride, column_stride, first=0):
    return _construct("Images", data)


# Numba types of arguments of `linked` functions that are annotated with one of them.
View.argument_type = lambda element: ViewType(element, "View")
Vectors.argument_type = lambda element: ViewType(element, "Vectors")
Images.argument_type = lambda element: ViewType(element, "Images")


@infer_getattr
class _ViewAttributes(AttributeTemplate):
    key = ViewType

    @bound_function("view.at")
    def resolve_at(self, view, args, kws):
        rank = len(view.strides)
        return signature(view, *[types.intp] * rank) if len(args) == rank and not kws else None

    @bound_function("view.row")
    def resolve_row(self, view, args, kws):
        return signature(view, types.intp) if len(view.strides) == 2 and len(args) == 1 and not kws else None

    @bound_function("view.column")
    def resolve_column(self, view, args, kws):
        return signature(view, types.intp) if len(view.strides) == 2 and len(args) == 1 and not kws else None

    def generic_resolve(self, view, name):
        return types.intp if name in view.strides else None


def _strides(view, kind):
    return [getattr(view, name) for name in kind.strides]


def _lower_stride(name):
    @lower_getattr(ViewType, name)
    def lower(context, builder, kind, value):
        return getattr(parts(context, builder, kind, value), name)


for _name in {name for names in STRIDES.values() for name in names}:
    _lower_stride(_name)


def _place(builder, view, kind, index):
    """Return the address of view[index]; None stands for 0."""
    offset = ir.IntType(64)(0)
    for i, stride in zip(index, _strides(view, kind), strict=True):
        if i is not None:
            offset = builder.add(offset, builder.mul(i, stride, flags=["nsw"]), flags=["nsw"])
    return builder.gep(view.data, [offset])


def _moved(context, builder, kind, value, index):
    view = parts(context, builder, kind, value)
    return _made(context, builder, kind, _place(builder, view, kind, index), _strides(view, kind))


@lower_builtin("view.at", ViewType, types.VarArg(types.intp))
def _lower_at(context, builder, sig, args):
    return _moved(context, builder, sig.args[0], args[0], args[1:])


@lower_builtin("view.row", ViewType, types.intp)
def _lower_row(context, builder, sig, args):
    return _moved(context, builder, sig.args[0], args[0], (args[1], None))


@lower_builtin("view.column", ViewType, types.intp)
def _lower_column(context, builder, sig, args):
    return _moved(context, builder, sig.args[0], args[0], (None, args[1]))


def _index(args):
    """Return the type of the index, as whole numbers, if the first arguments are a view and one for each stride."""
    view, index = args[:2]
    if not isinstance(view, ViewType) or not isinstance(index, types.BaseTuple) or len(index) != len(view.strides):
        return None
    return types.UniTuple(types.intp, len(index)) if all(isinstance(k, types.Integer) for k in index) else None


@infer_global(operator.getitem)
class _Number(AbstractTemplate):
    def generic(self, args, kws):
        index = _index(args)
        return signature(args[0].dtype, args[0], index) if index else None


@infer_global(operator.setitem)
class _SetNumber(AbstractTemplate):
    def generic(self, args, kws):
        index = _index(args)
        return signature(types.none, args[0], index, args[0].dtype) if index else None


def _number(context, builder, sig, args):
    """Return the address of the number that the arguments of getitem and setitem name."""
    kind, index = sig.args[:2]
    view = parts(context, builder, kind, args[0])
    return _place(builder, view, kind, cgutils.unpack_tuple(builder, args[1], len(index)))


@lower_builtin(operator.getitem, ViewType, types.UniTuple)
def _lower_number(context, builder, sig, args):
    return builder.load(_number(context, builder, sig, args))


@lower_builtin(operator.setitem, ViewType, types.UniTuple, types.Float)
def _lower_set_number(context, builder, sig, args):
    builder.store(args[2], _number(context, builder, sig, args))
    return context.get_dummy_value()
