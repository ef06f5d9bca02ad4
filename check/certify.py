"""Certify layers: each on its cases, with a batch of one and of five, in float32 and float64."""

import re
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from ..errors import NnjitError, UnknownName
from ..kernels.compiler.environment import need_compiler
from ..kernels.compiler.machine_code import first_line
from ..registry import compose
from ..registry import layers as catalogue
from .cases import BATCHES, cases
from .derivatives import STEPS, TOLERANCE, Cost, differences, hint, products, remainders, slopes
from .kernels import Broken, examine
from .report import Report, Row
from .runner import Run, same_bits

SEED = 7
SLOPE = 0.1  # largest deviation of the Taylor slope from 2
ROUNDED = 1e-5  # largest difference in float32 between two orders of a sum, of its size
KINKS = 0.3  # largest share of derivatives that may be skipped because they lie at a kink


def certify(
    names: Iterable[str] | None = None, progress: Callable[[int, int, str, str], object] | None = None
) -> Report:
    """Certify registered layers, those of installed or loaded plug-ins included.

    Parameters
    ----------
    names : list of str or None
        Registered names or patterns (``conv*``); None for all layers.
    progress : callable or None
        Called as ``progress(done, total, layer, case)`` before each case, such as (7, 64, "conv(4, 3)", "on (2, 6, 6),
        batch of 5"): 7 of 64 layers are certified.

    Returns
    -------
    Report

    Raises
    ------
    UnknownName
        No layer has this name.
    NnjitError
        Numba's compiler is switched off.
    """
    need_compiler()
    chosen, report = _chosen(names), Report()
    for done, name in enumerate(chosen):
        show = None if progress is None else partial(progress, done, len(chosen))
        report.rows.append(certify_layer(name, show))
    return report


def _chosen(names):
    """Return the layers to certify, each class once even if it has aliases, and plug-ins whose import fails."""
    found: list[str] = []
    for name in ["*"] if names is None else names:
        matching = catalogue.names(name) if re.search(r"[*?\[]", name) else [name]
        if not matching:
            raise UnknownName(f"no layer matches {name!r}; known are {', '.join(catalogue.names())}")
        found += matching
    chosen: dict[object, str] = {}
    for name in dict.fromkeys(found):
        try:
            cls = catalogue.get(name)
            chosen.setdefault(cls, catalogue.name_of(cls))
        except UnknownName:
            raise
        except NnjitError:
            chosen[name] = name
    return list(chosen.values())


def certify_layer(name: str, show: Callable[[str, str], object] | None = None) -> Row:
    """Return the `Row` of one layer; an exception of any kind in the layer's code becomes a sentence.

    `show` is called with each case before it is certified.
    """
    row = Row(name)
    try:
        found = cases(name)
    except NnjitError as error:
        row.answer("shapes", "", "", str(error))
        return row
    for spec, shape in found:
        for N in BATCHES:
            if show is not None:
                show(spec if isinstance(spec, str) else name, f"on {shape}, batch of {N}")
            _certify_case(row, spec, shape, N, last=(spec, shape, N) == (*found[-1], BATCHES[-1]))
    if row.kinks > KINKS * row.derivatives:
        text = f"{row.kinks} of {row.derivatives} derivatives lie at kinks, too many for a verdict"
        row.answer("gradient", name, "", text)
    elif row.kinks:
        row.notes.append(f"{name}: {row.kinks} of {row.derivatives} derivatives lie at kinks and were skipped")
    return row


def _certify_case(row, spec, shape, N, last):
    place = f"{row.name} on {shape}, batch of {N}"
    try:
        place = f"{spec if isinstance(spec, str) else catalogue.create(spec).spec()} on {shape}, batch of {N}"
        case = _Case(row, place, spec, shape, N)
        case.kernels()
        case.shapes()
        case.derivatives()
        case.forward_mode()
        if last:  # compiling costs more than all the rest
            case.program()
    except Broken as broken:
        row.answer(broken.column, place, broken.kernel, str(broken))
    except NnjitError as error:
        row.answer("shapes", place, "", str(error))
    except Exception as error:
        row.answer("shapes", place, "", f"fails with {type(error).__name__}: {first_line(error)}")


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
            sentence = None
            if wrong:
                at = f"dC/d{name.rpartition('.')[2]}[{', '.join(map(str, wrong[0].index))}]"
                whole = gradient[first : first + int(np.prod(shape))].reshape(shape)
                sentence = (
                    f"{at} is {wrong[0].numeric:.6g} by differences, backward gives {wrong[0].analytic:.6g};"
                    f" {len(wrong)} of {len(found)} are wrong{hint(found, whole)}"
                )
            self.answer("gradient", name, sentence)
        self._taylor(cost, gradient)

    def forward_mode(self):
        """Check jvp and vjp of prediction against each other and against central differences in one direction."""
        try:
            jvp, vjp = products(self.network, len(self.x))
        except NnjitError as error:
            self.row.notes += [str(error)] * (str(error) not in self.row.notes)
            return
        dx = self.rng.standard_normal(self.x.shape)
        dy, differences = jvp(self.x, dx), slopes(self.network, self.x, np.where(self._are_codes(), 0, dx))
        back, scale = vjp(self.x, self.target), max(1.0, np.abs(dy).max(initial=0))
        sentence = None
        if min(np.abs(dy - each).max(initial=0) for each in differences) > TOLERANCE * scale:
            sentence = "the derivative in a direction is not that of central differences"
        elif not np.isclose((self.target * dy).sum(), (back * dx).sum(), rtol=1e-9, atol=1e-9 * dy.size * scale):
            sentence = f"<dy, J dx> is {(self.target * dy).sum():.9g}, <J^T dy, dx> is {(back * dx).sum():.9g}"
        self.answer("jvp", "", sentence)

    def _are_codes(self):
        """Return a mask (N, *shape) of the numbers that are codes: no step leads from one to the next."""
        mask = np.zeros((len(self.x), *self.x.shape[1:]), bool)
        mask.reshape(len(mask), -1)[:, list(self.network.graph.codes())] = True
        return mask

    def _taylor(self, cost, gradient):
        remainder, slope = remainders(cost, gradient, self.rng)
        far = abs(slope - 2)
        if np.isnan(slope):
            return
        if not far <= abs(self.row.slope - 2):
            self.row.steps, self.row.remainder, self.row.slope = STEPS, remainder, slope
        self.answer("taylor", "", None if far <= SLOPE else f"the Taylor remainder falls with slope {slope:.2f}, not 2")


def _strided(array):
    """Return the same numbers as every other element of a larger array."""
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]))
    wide[..., ::2] = array
    return wide[..., ::2]
