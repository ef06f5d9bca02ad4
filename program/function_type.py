"""The Numba type of a program's functions: which calls jitted code may make, and how each is compiled.

A call is in one of several forms: for a batch or for one sample, with arrays for the outputs or without, which are then
allocated and returned. It is refused when the user's function is compiled if it fits no form, or has arrays of another
element type, rank or order in memory.
"""

from math import nan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.typing import signature as call_signature
from numba.extending import NativeValue, lower_builtin, make_attribute_wrapper, models, register_model, unbox
from numba.np.arrayobj import _empty_nd_impl as allocate
from numba.np.numpy_support import as_dtype

from ..kernels.compiler.cache import digest
from ..kernels.counters import FAULT
from .direct import KEY as DIRECT_KEY
from .direct import call_entry, entry_type, numbers_of, sample_of, signature_of
from .overlap import KEY as OVERLAP_KEY
from .overlap import emit_mixed
from .state import LEAST, WHOLE

KEY = digest(Path(__file__).read_text(encoding="utf-8"), DIRECT_KEY, OVERLAP_KEY)
CALLED = ("predict", "step")  # calls from compiled code are direct
PARALLEL = "__numba_parfor_gufunc"  # prefix of the names that Numba gives to bodies of parallel loops


class Parameter(NamedTuple):
    """An argument of a program's function.

    Parameters
    ----------
    name : str
    type : Numba type
    shape : tuple or None
        Of an array; "N" stands for the number of samples.
    role : str
        "state", "input", "output", "labels", "weight", "order", "jacobian", "number" or "flag" (False if it is left
        out).
    output : bool
        Whether the function writes the array.
    """

    name: str
    type: types.Type
    shape: tuple[int | str, ...] | None = None
    role: str = "state"
    output: bool = False

    def __str__(self) -> str:
        if self.shape is None:
            return "the program's state" if self.role == "state" else f"{self.name}, a {self.role}"
        shape = ", ".join(map(str, self.shape)) + "," * (len(self.shape) == 1)
        return f"{self.name} ({shape}) of {self.type.dtype}"

    def misfit(self, value: Any) -> str | None:
        """Say why an argument from Python does not fit; return None if it does."""
        if self.shape is None:
            return None if np.isscalar(value) or np.ndim(value) == 0 else f"got {type_of(value)}"
        if not isinstance(value, np.ndarray):
            return f"got {type_of(value)}"
        if value.dtype != as_dtype(self.type.dtype):
            return f"got {value.dtype} {value.shape}; convert it with astype"
        free = [i for i, size in enumerate(self.shape) if isinstance(size, str)]
        fits = value.ndim == len(self.shape)
        if not fits or any(value.shape[i] != size for i, size in enumerate(self.shape) if i not in free):
            return f"got shape {value.shape}"
        if not value.flags.c_contiguous:
            return "got an array that is not C-contiguous; np.ascontiguousarray makes a copy that is"
        if self.output and not value.flags.writeable:
            return "got a read-only array, but the result is written into it"
        return None


def type_of(value):
    return f"an object of type {type(value).__name__}"


class Form(NamedTuple):
    """The form of a call: whether x is one sample, outputs are to be made, and the flag is given."""

    single: bool
    made: bool
    flag: bool


class FunctionType(types.Callable):
    """The type of a `Function` in jitted code.

    Parameters
    ----------
    name : str
    parameters : sequence of Parameter
        The state first.
    result : Numba type
    ranks : (int, int)
        Of a sample and of an output.
    direct : str or None
        "predict" or "step" if there is a function for direct calls.
    """

    code = ""  # of types in files of older versions

    def __init__(self, name, parameters, result, ranks, direct=None):
        self.code = KEY  # code that a user caches holds the calls
        # Sizes are not part of the type: code that calls one network calls another of the same ranks.
        self.arguments = tuple(p._replace(shape=p.shape and ("N",) * len(p.shape)) for p in parameters)
        self.result, self.ranks, self.direct, self.title = result, ranks, direct, name
        told = ", ".join(f"{p.name}: {p.type}{' (output)' * p.output}" for p in parameters)
        super().__init__(f"{name}({told}) -> {result}, ranks {ranks}")

    @property
    def key(self):
        return self.title, self.arguments, self.result, self.ranks, self.direct, self.code

    @property
    def parameters(self):
        """The types of the arguments of a whole call."""
        return tuple(p.type for p in self.arguments)

    def __str__(self):
        return f"{self.title}({', '.join(p.name for p in self.arguments)})"

    def form(self, ranks):
        """Return the `Form` of a call with arrays of these ranks after the state, 0 for a number; None if none fits."""
        wanted = self.arguments[1:]
        for made in (False, True) if any(p.output for p in wanted) else (False,):
            for flag in (True, False) if any(p.role == "flag" for p in wanted) else (False,):
                left = [p for p in wanted if not (p.output and made) and (flag or p.role != "flag")]
                if len(left) != len(ranks):
                    continue
                for single in (False, True) if left and left[0].role == "input" else (False,):
                    if all(rank == _rank(p, single) for p, rank in zip(left, ranks, strict=True)):
                        return Form(single, made, flag)
        return None

    def given(self, form):
        """Return the arguments that a call of a form has."""
        return [p for p in self.arguments if not (p.output and form.made) and (form.flag or p.role != "flag")]

    def get_call_type(self, context, args, kws):
        form = self.form([getattr(kind, "ndim", 0) for kind in args[1:]]) if args and not kws else None
        if form is None:
            expected, got = (", ".join(map(in_words, kinds)) for kinds in (self.parameters, (*args, *kws.values())))
            raise TypingError(f"{self} takes, by position: {expected}; got {got}")
        given = self.given(form)
        for parameter, kind in zip(given, args, strict=True):
            if context.can_convert(kind, _type(parameter, form.single)) is None:
                raise TypingError(f"{self}: {_remedy(parameter, kind)}")
        outputs = [
            types.Array(p.type.dtype, _rank(p, form.single), "C") for p in self.arguments if p.output and form.made
        ]
        result = self.result if not outputs else outputs[0] if len(outputs) == 1 else types.Tuple(outputs)
        return call_signature(result, *(_type(p, form.single) for p in given), recvr=self)

    def get_call_signatures(self):
        return [call_signature(self.result, *self.parameters)], False

    def get_impl_key(self, sig):
        return type(self)


def _rank(parameter, single):
    """Return the rank of an argument, 0 of a number."""
    return len(parameter.shape or ()) - (single and parameter.shape is not None)


def _type(parameter, single):
    """Return the type of an argument in a call for a batch or for a single sample."""
    kind = parameter.type
    if not single or parameter.shape is None:
        return kind
    return kind.copy(ndim=kind.ndim - 1) if kind.ndim > 1 else kind.dtype


def _remedy(parameter, kind):
    """Say what is wrong with an argument of the right rank, and what to do."""
    name, wanted = parameter.name, parameter.type
    if parameter.role == "state":
        return f"expected the program's state first, as program.new_state() makes it, got {kind}"
    if not isinstance(kind, types.Array):
        return f"{name}: expected {in_words(wanted)}, got {kind}"
    if kind.dtype != wanted.dtype:
        return (
            f"{name}: expected {in_words(wanted)}, got {kind.dtype}; convert it with {name}.astype(np.{wanted.dtype})"
        )
    if kind.layout != "C":
        how = "write into one that is" if parameter.output else f"np.ascontiguousarray({name}) makes a copy that is"
        return f"{name}: expected a C-contiguous array, got one of another order; {how}"
    return f"{name}: the result is written into it, but it is read-only"


def in_words(kind):
    if not isinstance(kind, types.Array):
        return str(kind)
    layout = "" if kind.layout == "C" else " that is not C-contiguous"
    return f"{'' if kind.mutable else 'a read-only '}{kind.dtype} array of rank {kind.ndim}{layout}"


@register_model(FunctionType)
class _FunctionModel(models.StructModel):
    def __init__(self, manager, kind):
        input_shape, output_shape = (types.UniTuple(types.intp, rank) for rank in kind.ranks)
        members = [(name, types.intp) for name in ("address", "direct", "largest", "layout")]
        super().__init__(manager, kind, [*members, ("input_shape", input_shape), ("output_shape", output_shape)])


for _member in ("layout", "input_shape", "output_shape"):
    make_attribute_wrapper(FunctionType, _member, _member)


@unbox(FunctionType)
def _unbox(kind, obj, c):
    numbers = c.pyapi.object_getattr_string(obj, "numbers")  # compiles at the first time
    function = cgutils.create_struct_proxy(kind)(c.context, c.builder)
    failed = cgutils.is_null(c.builder, numbers)
    with c.builder.if_then(c.builder.not_(failed)):
        inputs, outputs = kind.ranks
        values = c.unbox(types.UniTuple(types.int64, 4 + inputs + outputs), numbers).value
        values = cgutils.unpack_tuple(c.builder, values)
        function.address, function.direct, function.largest, function.layout = values[:4]
        function.input_shape = cgutils.pack_array(c.builder, values[4 : 4 + inputs])
        function.output_shape = cgutils.pack_array(c.builder, values[4 + inputs :])
        c.pyapi.decref(numbers)
    return NativeValue(function._getvalue(), is_error=failed)


@lower_builtin(FunctionType, types.VarArg(types.Any))
def _call(context, builder, sig, args):
    """Emit the call, a direct one if the arguments fit."""
    kind, given = sig.args[0], sig.args[1:]
    function = cgutils.create_struct_proxy(kind)(context, builder, args[0])
    form = kind.form([getattr(each, "ndim", 0) for each in given[1:]])
    values, made = _whole(context, builder, kind, function, form, list(zip(args[1:], given, strict=True)))
    result = cgutils.alloca_once(builder, context.get_value_type(kind.result))

    def call_whole():
        llvm_type = context.call_conv.get_function_type(kind.result, kind.parameters)
        code = builder.inttoptr(function.address, llvm_type.as_pointer())
        status, found = context.call_conv.call_function(builder, code, kind.result, kind.parameters, values)
        builder.store(_checked(context, builder, kind, status, found, values[0], made), result)

    if kind.direct is None:
        call_whole()
    else:
        with builder.if_else(emit_fits(context, builder, kind, function, values), likely=True) as (direct, whole):
            with direct:
                status, found = emit_call(context, builder, kind, function, values)
                builder.store(_checked(context, builder, kind, status, found, values[0], made), result)
            with whole:  # refuses the arguments
                call_whole()
    if not made:
        return builder.load(result)
    arrays = [value for _, value in made]
    return arrays[0] if len(made) == 1 else context.make_tuple(builder, sig.return_type, arrays)


def _whole(context, builder, kind, function, form, given):
    """Return the arguments of a whole call, and (type, value) of the arrays made for its outputs."""
    left = iter(given)
    values: list = []
    made: list = []
    for parameter in kind.arguments:
        wanted, array = _type(parameter, form.single), parameter.type
        if parameter.output and form.made:
            lengths = _lengths(context, builder, kind, function, form, parameter, values)
            wanted = types.Array(array.dtype, _rank(parameter, form.single), "C")
            value = allocate(context, builder, wanted, lengths[form.single :])._getvalue()
            made.append((wanted, value))
        elif parameter.role == "flag" and not form.flag:
            value = cgutils.false_bit
        else:
            value, of = next(left)
            value = context.cast(builder, value, of, wanted)
        if form.single and parameter.shape is not None:
            value = _with_samples(context, builder, wanted, array, value)
        values.append(value)
    return values, made


def _lengths(context, builder, kind, function, form, parameter, values):
    """Return the lengths of an output, samples first."""
    shapes = {"input": function.input_shape, "output": function.output_shape}
    inputs, outputs = (cgutils.unpack_tuple(builder, shapes[name]) for name in ("input", "output"))
    samples = context.get_constant(types.intp, 1)
    if not form.single:
        samples = builder.extract_value(values[1], [5, 0])
    if parameter.role == "jacobian":
        return [samples, _product(builder, outputs), _product(builder, inputs)]
    return [samples, *(inputs if parameter.role == "input" else outputs)]


def _product(builder, numbers):
    found = numbers[0]
    for number in numbers[1:]:
        found = builder.mul(found, number)
    return found


def _with_samples(context, builder, kind, array, value):
    """Return a sample's array, or its label, as a batch of one sample."""
    whole = ir.Constant(context.get_value_type(array), None)
    one, item = (
        context.get_constant(types.intp, n) for n in (1, context.get_abi_sizeof(context.get_data_type(array.dtype)))
    )
    if not isinstance(kind, types.Array):
        place = cgutils.alloca_once_value(builder, value)
        numbers, lengths, steps = {2: one, 3: item, 4: place}, [], []
    else:
        numbers = {k: builder.extract_value(value, k) for k in range(5)}
        lengths, steps = ([builder.extract_value(value, [k, i]) for i in range(kind.ndim)] for k in (5, 6))
    for k, number in numbers.items():
        whole = builder.insert_value(whole, number, k)
    stride = builder.mul(numbers[2], item)
    for k, each in ((5, [one, *lengths]), (6, [stride, *steps])):
        for i, number in enumerate(each):
            whole = builder.insert_value(whole, number, [k, i])
    return whole


def emit_call(context, builder, kind, function, values):
    """Emit a direct call; return its status and result."""
    signature = signature_of(kind.direct, kind.parameters)
    llvm_type = entry_type(context, kind.direct, kind.result, signature)
    entry = builder.inttoptr(function.direct, llvm_type.as_pointer())
    numbers = numbers_of(builder, kind.direct, kind.parameters, values)
    if kind.direct == "predict":
        count = builder.extract_value(function.input_shape, kind.ranks[0] - 1)
        numbers += sample_of(builder, builder.extract_value(values[1], 4), count)
    status, number = call_entry(context, builder, entry, numbers)
    if kind.result is not types.none:
        return status, number
    builder.store(number, builder.extract_value(values[2], 4))  # y[0] again, which a loop then need not read
    return status, context.get_dummy_value()


def emit_fits(context, builder, kind, function, values):
    """Tell whether the state and the arrays of samples fit, as the text's guard does, and there are samples."""
    state, *arrays = values[:3]
    layout = cgutils.create_struct_proxy(kind.parameters[0])(context, builder, state).layout
    (N, *x), (M, *other) = (cgutils.unpack_tuple(builder, builder.extract_value(array, 5)) for array in arrays)
    inputs, outputs = (cgutils.unpack_tuple(builder, shape) for shape in (function.input_shape, function.output_shape))
    least = LEAST.get(kind.direct, WHOLE)
    above = builder.sub(layout, builder.add(function.layout, layout.type(least)))
    pairs = [(N, M), *zip(x, inputs, strict=True)]
    pairs += zip(other, outputs, strict=True) if other else []  # labels have no second axis
    fits = builder.icmp_unsigned("<=", above, layout.type(WHOLE - least))
    for found, wanted in pairs:
        fits = builder.and_(fits, builder.icmp_signed("==", found, wanted))
    if kind.direct == "predict":
        fits = builder.and_(fits, builder.not_(emit_mixed(builder, *arrays)))
    # 1 to `largest` samples of a step, at least one of a prediction
    most = function.largest if kind.direct == "step" else N.type(-1)
    return builder.and_(fits, builder.icmp_unsigned("<", builder.sub(N, N.type(1)), most))


def _checked(context, builder, kind, status, result, state, made):
    """Emit what follows a call: propagate its exception; the body of a parallel loop cannot raise."""
    if PARALLEL not in builder.function.name:
        with cgutils.if_unlikely(builder, status.is_error):
            for of, array in made:
                context.nrt.decref(builder, of, array)
            _mark_as_raised(context, builder, state, kind.parameters[0])
            context.call_conv.return_status_propagate(builder, status)
    elif kind.result is types.float64:
        result = builder.select(status.is_error, context.get_constant(types.float64, nan), result)
    return result


def _mark_as_raised(context, builder, state, kind):
    """Negate the number of the refused call in the state."""
    counters = cgutils.create_struct_proxy(kind)(context, builder, state).counters
    data = cgutils.create_struct_proxy(types.Array(types.int64, 1, "C"))(context, builder, counters).data
    place = builder.gep(data, [context.get_constant(types.intp, FAULT)])
    builder.store(builder.neg(builder.load(place)), place)
