"""Certify layers, losses, optimizers and schedules: layers on their cases, with a batch of one and of five."""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np

from ..errors import NnjitError, ShapeError, SpecError, UnknownName
from ..kernels.compiler.environment import need_compiler
from ..kernels.compiler.machine_code import first_line
from ..program.program import Program
from ..registry import compose, losses, optimizers, schedules
from ..registry import layers as catalogue
from ..registry.specs import did_you_mean, parse, quoted
from .cases import BATCHES, cases, cases_of, file_of, small_options
from .derivatives import (
    TOLERANCE,
    Cost,
    backward_product,
    differences,
    forward_product,
    hint,
    remainders,
    slopes,
)
from .extremes import extremes
from .kernels import Broken, examine
from .losses import certify_loss
from .optimizers import certify_optimizer
from .places import placed
from .report import Report, Row
from .runner import Run, same_bits
from .schedules import certify_schedule
from .verdicts import gradient_sentence, kinks, taylor

SEED = 7
ROUNDED = 1e-5  # largest difference in float32 between two orders of a sum, of its size
KINDS = (catalogue, losses, optimizers, schedules)


def certify(
    names: Iterable[str] | None = None,
    progress: Callable[[int, int, str, str], object] | None = None,
    shapes: Sequence[tuple[int, ...]] | None = None,
) -> Report:
    """Certify registered layers, losses, optimizers and schedules, those of installed or loaded plug-ins included.

    Parameters
    ----------
    names : list of str or None
        Registered names, patterns (``conv*``) or specs with options (``rbf(units=5)``); None for all.
    progress : callable or None
        Called as ``progress(done, total, name, case)`` before each case, such as (7, 64, "conv(4, 3)", "on (2, 6, 6),
        batch of 5"): 7 of 64 are certified.
    shapes : list of tuple of int, or None
        Input shapes of layers and output shapes for losses, without the batch; None: those of `Layer.check_cases`, or
        some common ones.

    Returns
    -------
    Report

    Raises
    ------
    UnknownName
        Nothing that can be certified has this name.
    SpecError
        A spec cannot be read, or an option is wrong.
    NnjitError
        Numba's compiler is switched off.
    """
    need_compiler()
    chosen, report = _chosen(names), Report()
    for done, (kind, label) in enumerate(chosen):
        show = None if progress is None else partial(progress, done, len(chosen))
        report.rows.append(_row(kind, label, shapes, show))
    return report


def _chosen(names):
    """Return (catalogue, name or spec) of what is to be certified.

    Each class counts once even if it has aliases; plug-ins whose import fails are there, too.
    """
    chosen: dict[object, tuple] = {}
    for text in ["*"] if names is None else names:
        if re.fullmatch(r"[\w*?\[\]!-]*[*?\[][\w*?\[\]!-]*", text):
            found = [(kind, name) for kind in KINDS for name in kind.names(text)]
            if not found:
                raise UnknownName(f"no layer, loss, optimizer or schedule matches {text!r}; {_known()}")
        else:
            name = parse(text).name
            found = [(kind, text) for kind in KINDS if kind.names(name)][:1]
            if not found:
                near = did_you_mean(name, (each for kind in KINDS for each in kind.names()))
                raise UnknownName(f"no layer, loss, optimizer or schedule is called {quoted(name)}{near}; {_known()}")
        for kind, label in found:
            spec = parse(label)
            try:
                cls = kind.get(spec.name)
                if spec.args or spec.kwargs:
                    kind.create(label)  # a wrong option is a wrong request
                    chosen.setdefault(label, (kind, label))
                else:
                    chosen.setdefault(cls, (kind, kind.name_of(cls)))
            except UnknownName:
                raise
            except NnjitError:
                if spec.args or spec.kwargs:
                    raise
                chosen[label] = (kind, label)
    return list(chosen.values())


def _known():
    names = "; ".join(f"{kind.kind}: {', '.join(kind.names())}" for kind in KINDS)
    return f"load your own with --plugin FILE_OR_MODULE; known names are {names}"


def _row(kind, label, shapes, show):
    if kind is catalogue:
        return certify_layer(label, shapes, show)
    if show is not None:
        show(label, kind.one)
    if shapes is not None and kind is not losses:
        raise SpecError(f"{label}: {kind.one} takes no shape; leave --shape out")
    try:
        hint = f'check it with a value, such as nnjit check "{label}(...)"'
        spec = (label, small_options(label, kind.get(label), hint)) if label == parse(label).name else label
        made = kind.create(spec)
    except NnjitError as error:
        row = Row(label, kind.kind)
        row.answer("shapes", "", "", str(error))
        return row
    if kind is losses:
        return certify_loss(label, made, shapes)
    return (certify_optimizer if kind is optimizers else certify_schedule)(label, made)


def certify_layer(
    label: str,
    shapes: Sequence[tuple[int, ...]] | None = None,
    show: Callable[[str, str], object] | None = None,
) -> Row:
    """Return the `Row` of a layer, by name or spec; an exception of any kind in its code becomes a sentence.

    `show` is called with each case before it is certified.
    """
    row, name = Row(label), parse(label).name
    try:
        found = cases(name) if label == name and shapes is None else cases_of(label, shapes)
    except NnjitError as error:
        if shapes is not None:  # the request is wrong, not the layer
            raise
        row.answer("shapes", "", "", str(error))
        return row
    for spec, shape in found:
        for N in BATCHES:
            if show is not None:
                show(spec if isinstance(spec, str) else name, f"on {shape}, batch of {N}")
            _certify_case(row, spec, shape, N, last=(spec, shape, N) == (*found[-1], BATCHES[-1]))
    kinks(row)
    return row


def _certify_case(row, spec, shape, N, last):
    place = f"{row.name} on {shape}, batch of {N}"
    try:
        place = f"{spec if isinstance(spec, str) else catalogue.create(spec).spec()} on {shape}, batch of {N}"
        case = _Case(row, place, spec, shape, N)
        case.kernels()
        case.shapes()
        case.derivatives()
        case.products()
        if BATCHES[-1] == N:
            extremes(case.single, case.rng, case.answer)
        if last:  # compiling costs more than all the rest
            case.program()
    except Broken as broken:
        row.answer(broken.column, place, broken.kernel, str(broken))
    except NnjitError as error:
        text = str(error)
        if isinstance(error, ShapeError) and (where := placed(error, file_of(parse(row.name).name))):
            text += f"{where}; give its check_cases shapes that it takes, or mend its output_shape"
        row.answer("shapes", place, "", text)
    except Exception as error:
        text = f"fails with {type(error).__name__}: {first_line(error)}{placed(error, file_of(parse(row.name).name))}"
        row.answer("shapes", place, "", text)


class _Case:
    """One spec on one input shape with a batch of N, as a network of float64 and the same one of float32."""

    def __init__(self, row, place, spec, shape, N):
        self.row, self.place = row, place
        rng = self.rng = np.random.default_rng(SEED)
        self.network, self.single = (compose([spec], shape, dtype=d, seed=SEED) for d in ("float64", "float32"))
        self.x = self.network.graph.draw(rng, N)
        self.target = rng.standard_normal((N, *self.network.output_shape))
        # Parameters move off their initial values: a gain of 1 and an offset of 0 would hide faults.
        self.network.theta[:] += 0.3 * rng.standard_normal(self.network.theta.size)
        self.network.flat_buffers[:] += 0.3 * abs(rng.standard_normal(self.network.flat_buffers.size))
        self.single.theta[:], self.single.flat_buffers[:] = self.network.theta, self.network.flat_buffers

    def answer(self, column, part, sentence=None, kind=""):
        self.row.answer(column, self.place + kind, part, sentence)

    def kernels(self):
        """Check every kernel by itself: races, reference, threads, writes, float32."""
        for network in (self.network, self.single):
            for training in (True, False):
                run = Run(network, self.x, self.target, training)
                examine(run, partial(self.answer, kind=f", {network.dtype}"))

    def shapes(self):
        """Check that output is finite, and the same for input that is not contiguous and for a single sample."""
        y = self.network.forward(self.x)
        dx = self.network.backward(self.target)
        if not np.isfinite(y).all():
            raise Broken("shapes", "forward", f"gives {y[~np.isfinite(y)][0]} for ordinary numbers")
        for view in (_strided, np.asfortranarray):
            if not same_bits(self.network.forward(view(self.x)), y).all():
                self.answer("shapes", "forward", "differs for input that is not contiguous")
            if not same_bits(self.network.backward(view(self.target)), dx).all():
                self.answer("shapes", "backward", "differs for dy that is not contiguous")
        alone = all(not node.layer.couples_batch for node in self.network.graph.nodes)
        if alone and not same_bits(self.network.forward(self.x[:1]), y[:1]).all():
            self.answer("shapes", "forward", "differs for the first sample alone")
        self.answer("shapes", "")

    def program(self):
        """Check that the compiled program predicts the same in batches, the last one smaller.

        In a program of few samples LLVM knows all sizes and may order sums otherwise, so the last bits can differ.
        """
        x = self.x.astype(np.float32)
        got, expected = self.single.predict(x, batch_size=3), self.single.forward(x)
        if not np.allclose(got, expected, rtol=ROUNDED, atol=ROUNDED * np.abs(expected).max()):
            self.answer("shapes", "predict", "the compiled program gives other numbers than its calls run one by one")

    def derivatives(self):
        """Check the gradient and the Taylor slope."""
        cost = Cost(self.network, self.x, self.target, self._are_codes())
        gradient = cost.gradient()
        for name, found in differences(cost, gradient, self.rng).items():
            first, shape = cost.arrays[name]
            wrong = [d for d in found if d.verdict == "wrong"]
            self.row.derivatives += len(found)
            self.row.kinks += sum(d.verdict == "kink" for d in found)
            whole = gradient[first : first + int(np.prod(shape))].reshape(shape)
            sentence = gradient_sentence(name, found, hint(found, whole), *(self._writer(name) if wrong else ()))
            self.answer("gradient", name, sentence)
        taylor(self.row, self.place, *remainders(cost, gradient, self.rng))

    def _writer(self, name):
        """Return the call that computes a gradient and the name of the array that it writes, or () for several."""
        owner, _, key = name.rpartition(".")
        for call in Run(self.network, self.x, self.target).calls():
            node = self.network.graph.nodes[call.node]
            wanted = node.x.index == 0 and call.attribute == "backward_input" if name == "x" else node.name == owner
            if wanted and f"d{key}" in call.outputs:
                return call, f"d{key}"
        return ()

    def products(self):
        """Check jvp and vjp of prediction against central differences in one direction, and against each other."""
        program, made = Program(self.network, batch_size=len(self.x), derivatives=True), []
        for make in (forward_product, backward_product):
            try:
                made.append(make(program))
            except NnjitError as error:
                made.append(None)
                self.row.notes += [str(error)] * (str(error) not in self.row.notes)
        jvp, vjp = made
        dx = self.rng.standard_normal(self.x.shape)
        dy = None if jvp is None else jvp(self.x, dx)
        sentence = None if dy is None else self._jvp_sentence(dx, dy)
        if vjp is not None and sentence is None:
            sentence = self._vjp_sentence(vjp, dx, dy)
        if dy is not None or sentence is not None:
            self.answer("jvp", "", sentence)

    def _jvp_sentence(self, dx, dy):
        still, scale = np.zeros_like(self.network.theta), max(1.0, np.abs(dy).max(initial=0))
        wanted = slopes(self.network, self.x, self._steps(dx), still)
        if min(np.abs(dy - each).max(initial=0) for each in wanted) > TOLERANCE * scale:
            return "the derivative in a direction is not that of central differences"
        return None

    def _vjp_sentence(self, vjp, dx, dy):
        """Say what is wrong with vjp: its products with directions of x and theta are known. dy is jvp's, or None."""
        weights, network = self.target, self.network
        back, gradient = vjp(self.x, weights)
        if dy is not None:
            ours, other = (weights * dy).sum(), (back * dx).sum()
            if not np.isclose(ours, other, rtol=1e-9, atol=1e-9 * dy.size * max(1.0, np.abs(dy).max(initial=0))):
                return f"<dy, J dx> is {ours:.9g}, <J^T dy, dx> is {other:.9g}"
        p = self.rng.standard_normal(network.theta.size)
        for name, ours, steps in (
            ("x", (back * dx).sum(), (self._steps(dx), 0 * p)),
            ("theta", gradient @ p, (np.zeros_like(self.x), p)),
        ):
            terms = [weights * each for each in slopes(network, self.x, *steps)]
            if not min(abs(ours - each.sum()) / max(1.0, np.abs(each).sum()) for each in terms) <= TOLERANCE:
                wanted = terms[0].sum()
                return f"vjp of prediction has slope {ours:.9g} along a direction of {name}, differences {wanted:.9g}"
        return None

    def _steps(self, dx):
        """Return the direction without the numbers that are codes."""
        return np.where(self._are_codes(), 0, dx)

    def _are_codes(self):
        """Return a mask (N, *shape) of the numbers that are codes: no step leads from one to the next."""
        mask = np.zeros((len(self.x), *self.x.shape[1:]), bool)
        mask.reshape(len(mask), -1)[:, list(self.network.graph.codes())] = True
        return mask


def _strided(array):
    """Return the same numbers as every other element of a larger array."""
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]))
    wide[..., ::2] = array
    return wide[..., ::2]
