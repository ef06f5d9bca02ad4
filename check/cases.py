"""What each layer is tried on: small networks of one layer, with odd and tiny shapes.

Shapes are without the batch; every case runs with a batch of one and of five. A plug-in layer may carry its own list,
``check_cases = [("spec", input_shape), ...]``; otherwise it is tried on a few common shapes.
"""

import inspect
import typing

from ..errors import NnjitError, ShapeError, SpecError
from ..registry import layers as catalogue

BATCHES = (1, 5)  # five: one more than kernels take at once

ANY: list[tuple[str, tuple[int, ...]]] = [
    ("", (1,)),
    ("", (7,)),
    ("", (2, 3, 5)),
]  # a layer without options that takes any shape
COMMON = [(3,), (2, 5), (2, 5, 4), (2, 3, 4, 3)]

# Layer -> its options and an input shape. Sizes of 1, primes, strides that leave a rest, every border; and numbers
# of rows and columns that fill the register tiles of dense and conv and leave a rest.
CASES: dict[str, list[tuple[str, tuple[int, ...]]]] = {
    "dense": [("(1)", (1,)), ("(3)", (3,)), ("(5, bias=False)", (7,)), ("(6)", (101,))],
    "conv": [
        ("(1, 1)", (1, 1)),
        ("(3, 3, stride=2)", (2, 8)),
        ("(4, 3, padding='same', groups=2)", (2, 5, 4)),
        ("(2, (3, 2), stride=(1, 3), dilation=(2, 1), padding=((1, 0), (0, 2)), bias=False)", (1, 7, 5)),
        ("(2, 3, padding='same', border='edge')", (1, 3, 4)),
        ("(1, 3, padding='full', border='reflect')", (2, 4, 5)),
        ("(1, 2, padding='full', border='wrap', stride=2)", (1, 3, 5)),
        ("(2, 2, padding=1)", (1, 2, 3, 2)),
        ("(5, (3, 2))", (1, 10, 19)),
    ],
    "conv1d": [("(2, 3)", (3, 5)), ("(2, 2, stride=3, padding='full', border='edge')", (1, 7))],
    "conv2d": [("(2, 3)", (1, 3, 3)), ("(3, 2, stride=2, groups=3)", (3, 5, 4))],
    "conv3d": [("(1, 2)", (2, 2, 3, 2)), ("(2, (1, 2, 3), padding='same')", (1, 2, 2, 3))],
    "conv_transpose": [
        ("(1, 1)", (1, 1)),
        ("(3, 3, stride=2)", (2, 4)),
        ("(2, 3, stride=2, padding='same', groups=2)", (2, 3, 2)),
        ("(1, (3, 2), dilation=(1, 2), bias=False)", (2, 3, 1)),
        ("(2, 2, stride=2)", (1, 2, 1, 2)),
    ],
    "conv_transpose1d": [("(2, 3)", (3, 5))],
    "conv_transpose2d": [("(2, 3, stride=2)", (1, 3, 2))],
    "conv_transpose3d": [("(1, 2)", (2, 1, 3, 2))],
    "maxpool": [
        ("(1)", (1, 1)),
        ("(2)", (3, 7)),
        ("(2)", (2, 4, 5)),
        ("((3, 2), stride=2, padding=1)", (1, 5, 3)),
        ("(2, stride=1, padding=((0, 1), (1, 0), (0, 0)))", (2, 2, 3, 2)),
    ],
    "avgpool": [
        ("(2)", (3, 7)),
        ("(3, stride=2, padding=1)", (1, 5, 3)),
        ("((3, 2), stride=1, padding=1, count_padding=True)", (2, 3, 2)),
        ("(2)", (1, 2, 3, 2)),
    ],
    "lppool": [("(2)", (3, 7)), ("(3, p=3, stride=2, padding=1)", (1, 5, 3)), ("(2, p=1.5)", (1, 2, 3, 2))],
    "global_avgpool": [("", (3, 1)), ("", (2, 3, 5)), ("", (1, 2, 3, 2))],
    "global_maxpool": [("", (3, 1)), ("", (2, 3, 5)), ("", (1, 2, 3, 2))],
    **dict.fromkeys(("relu", "selu", "gelu", "silu", "softplus", "sigmoid", "tanh", "identity"), ANY),
    "leaky_relu": [("", (1,)), ("(0.2)", (7,)), ("(0.0)", (2, 3, 5))],
    "elu": [("", (1,)), ("(0.5)", (7,)), ("(2.0)", (2, 3, 5))],
    "softmax": [("", (1,)), ("", (5,)), ("", (3, 2, 3))],
    "flatten": [("", (1,)), ("", (2, 3)), ("", (2, 1, 3, 2))],
    "reshape": [("((6,))", (2, 3)), ("((3, -1, 2))", (2, 3, 5)), ("(1)", (1,))],
    "dropout": [("(0.5)", (7,)), ("(0.2)", (2, 3, 5)), ("(0.0)", (1,))],
    "batchnorm": [("", (5,)), ("(epsilon=0.1)", (1, 4)), ("(momentum=0.5)", (2, 3, 3))],
    "layernorm": [("(epsilon=0.1)", (1,)), ("", (7,)), ("", (2, 3, 5))],
    "residual": [
        ("(['dense(4)', 'tanh'])", (4,)),
        ("(['conv(2, 3, padding=\"same\")', ('residual', {'layers': ['sigmoid']}), 'batchnorm'])", (2, 3, 4)),
    ],
}


HINT = 'give the class check_cases = [("spec", input_shape), ...]'
SMALL = {int: 3, float: 0.5, bool: True}


def cases(name):
    """The cases of a layer: a list of (spec, input_shape).

    Raises
    ------
    NnjitError
        The layer cannot be imported, takes none of the common shapes, or has an option whose value cannot be guessed.
    """
    cls = catalogue.get(name)
    if cls.check_cases:
        try:
            return [(spec, tuple(shape)) for spec, shape in cls.check_cases]
        except (TypeError, ValueError):
            raise SpecError(f"{name}: check_cases is a list of (spec, input_shape), got {cls.check_cases!r}") from None
    if name in CASES and catalogue.find(name).source == "built-in":
        return [(name + options, shape) for options, shape in CASES[name]]
    spec = (name, _small_options(name, cls))
    found = [(spec, shape) for shape in COMMON if _accepts(spec, shape)]
    if not found:
        raise ShapeError(f"{name}: takes none of the input shapes {', '.join(map(str, COMMON))}; {HINT}")
    return found


def _small_options(name, cls):
    """A value for every option that has no default."""
    options = {}
    for option, parameter in inspect.signature(cls).parameters.items():
        if parameter.default is parameter.empty:
            kinds = typing.get_args(parameter.annotation) or (parameter.annotation,)
            known = [SMALL[kind] for kind in kinds if kind in SMALL]
            if not known:
                raise SpecError(f"{name}: no small value of its option {option} is known; {HINT}")
            options[option] = known[0]
    return options


def _accepts(spec, shape):
    """Whether the layer takes an input shape; it says no by ShapeError."""
    try:
        layer = catalogue.create(spec)
    except NnjitError as error:
        raise SpecError(f"{error}; {HINT}") from None
    try:
        layer.output_shape(shape)
    except ShapeError:
        return False
    except Exception as error:
        text = f"output_shape fails on {shape} with {type(error).__name__}: {error}"
        raise ShapeError(f"{spec[0]}: {text}; raise ShapeError for what it does not take, or {HINT}") from None
    return True
