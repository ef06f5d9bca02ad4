"""The program of a network: a short Python text in the lecture's notation, which can be run in three ways.

The text names every array and has one call per operation of the forward pass, the backward pass and the update. With
the NumPy reference kernels it is the oracle (`reference`); with the CPU kernels it runs call by call (`interpret`) or
compiled (`compile`). The files of text/ write it; no other file generates code of a network.

Notation (lecture): ``a1`` is the input x; ``z`` is an affine layer's output and ``a`` the activation after it, both
with the same number l; ``delta`` = dC/dz and ``da`` = dC/da, per sample, without 1/N; W, b, dW, db.
"""

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..data.split import is_masked
from ..errors import ShapeError, SpecError
from ..kernels.compiler.lock import COMPILING
from ..kernels.counters import HEAD, SEED
from ..registry import losses, optimizers
from ..registry.annotations import checked
from ..registry.options import SpecLike
from ..registry.specs import shown
from .c_functions import NAMES, CFunction, CState
from .code import Code
from .cuda_form import cuda_form
from .derivatives import Derivatives
from .duties import as_dtype, check_rounded, check_training
from .memory import aligned, need
from .norms import HIGHEST, WHY, check_p
from .plan import Task
from .protocols import ClipLike, NetworkLike
from .state import LEARNS, LIGHT, WHOLE, State
from .states import States, rows

if TYPE_CHECKING:
    from functools import cached_property as once  # the same for a type checker

    from .device_function import DeviceFunction
else:
    from ..kernels.compiler.lock import once


class Program(Code):
    """The training or prediction program of one network for one batch size.

    Parameters
    ----------
    network : Network
    loss, optimizer : specs or instances; None for prediction only
    batch_size : int
        The largest number of samples of a step; buffers are planned for it.
    labels : bool or None
        Whether targets are whole-number labels (N,) or values like the output; None: labels if the loss takes them.
    clip : Clip or None
        Clipping of the gradient by its norm.
    rates : array or None
        Learning rate of every step; None: the optimizer's own.
    norm : float
        The p of the logged gradient norms.
    backward : bool
        Without a loss: the text has ``forward`` and ``backward`` for `Network`, as one block, not ``predict``.
    derivatives : bool
        Whether the state has memory for `gradient`, `update`, `vjp`, `jvp` and `jacobian`.
    weighted : bool
        Whether `step`, `epoch` and `gradient` take the weights of the samples last, (N,): factors of their losses.
    ranks : int
        Processes that divide each batch among them: with more than one, there are `shard_gradient` and `shard_update`
        in place of `step` and `epoch`.
    global_statistics : bool
        Whether layers that couple a batch see all of it on every rank, instead of the rank's share.

    Attributes
    ----------
    source : str
        The program's text.
    state : State
        Shares theta, gradient and buffers with the network.
    predict, step, epoch : compiled functions
        Compiled when one of them is first read, or by `compile`. ``predict(state, x, y)`` writes y;
        ``step(state, x, target)`` and ``epoch(state, x, targets, order)`` return the mean loss. Pass them as arguments
        to your own jitted functions; on CUDA they are called from Python only.
    run : namespace
        The functions of the text for calls from Python, made when it is first read or by `interpret`.
    """

    def __init__(
        self,
        network: NetworkLike,
        loss: SpecLike | None = None,
        optimizer: SpecLike | None = None,
        batch_size: int = 32,
        labels: bool | None = None,
        clip: ClipLike | None = None,
        rates: ArrayLike | None = None,
        norm: float = 2.0,
        backward: bool = False,
        derivatives: bool = False,
        weighted: bool = False,
        ranks: int = 1,
        global_statistics: bool = False,
    ) -> None:
        with COMPILING:  # so that the process is not forked meanwhile
            self.network = network
            self.batch_size: int = checked("batch_size", batch_size, int, 1)
            self.dtype, self.device = network.dtype, network.device
            self.clip, self.norm = clip, self._norm(clip, norm)
            self.loss: Any = None
            self.optimizer: Any = None
            self.labels, self.rates, self.weighted = False, np.zeros(1), checked("weighted", weighted, bool)
            if loss is not None:
                self._learns(losses.create(loss), optimizers.create(optimizer), labels, rates)
            self.backward = backward or loss is not None
            loss_name = "" if self.loss is None else losses.name_of(type(self.loss))
            wanted = derivatives and self.device == "cpu"
            super().__init__(
                Task(
                    network.graph, self.batch_size, self.device, self.dtype.name, self.backward, self.loss, loss_name,
                    self.optimizer, self.labels, self.weighted, clip, self.norm, self.largest_norm, ranks=ranks,
                    global_statistics=global_statistics,
                ),
                more="derivatives" if wanted else "",  # their states have more memory
            )  # fmt: skip
            if self.device == "cuda":
                for binding in self.plan.bindings.values():
                    cuda_form(binding)  # refuses a kernel without one
            self.derivatives = Derivatives(self.task, self.layout) if wanted else None
            need(sum(self.memory().values()), f"batch_size: the arrays for batches of {self.batch_size}")
            self.state = self.new_state(share=True)
            self._device_functions: dict[str, DeviceFunction] = {}
            self.last_pass: weakref.ref | None = None  # the arena of the forward pass that is in the memory of a GPU

    def __reduce__(self) -> tuple[Any, ...]:
        """Describe a copy, for pickle and `copy`: the network, the options, and the numbers of the state."""
        self.download()
        learns = self.loss is not None
        labels, rates = (self.labels, self.rates) if learns else (None, None)
        backward, derivatives = self.backward and not learns, self.derivatives is not None
        options = self.loss, self.optimizer, self.batch_size, labels, self.clip, rates, self.norm, backward, derivatives
        numbers = {name: getattr(self.state, name) for name in ("moments", "counters", "log")}
        return type(self), (self.network, *options, self.weighted), numbers

    def __setstate__(self, numbers: dict[str, Any]) -> None:
        for name, values in numbers.items():
            getattr(self.state, name)[...] = values

    def _learns(self, loss, optimizer, labels, rates):
        loss.validate_shape(self.network.output_shape)
        can = loss.forward_labels is not None
        self.labels = can if labels is None else labels
        loss_name = losses.name_of(type(loss))
        if self.labels and not can:
            raise ShapeError(f"{loss_name}: takes targets of the output's shape, not whole-number labels")
        if not self.network.theta.size:
            raise ShapeError("the network has no parameters, so there is nothing to train")
        self.network.graph.warn_of_batches(self.batch_size, f"a training batch of {self.batch_size}")
        check_training(loss_name, loss, optimizer)
        check_rounded(loss_name, loss, self.dtype)
        check_rounded("optimizer", optimizer, self.dtype)
        optimizer.check_dtype(self.dtype)
        self.loss, self.optimizer = loss, optimizer
        self.rates = self._rates(optimizer.lr if rates is None else rates)

    def _norm(self, clip, norm):
        """Return the p of the logged norms: that of the clipping, if there is one."""
        if clip is not None:
            if not isinstance(clip, ClipLike):
                raise SpecError(f"clip: expected a Clip, as nnjit.training.clip.create makes it, got {shown(clip)}")
            check_rounded("clip", clip, self.dtype)
            norm = clip.p
        norm = checked("norm", norm, float)
        check_p(norm, "norm")
        if HIGHEST < norm < np.inf:
            raise SpecError(f"norm: p must be at most {HIGHEST}, or inf, got {norm:g}: {WHY}")
        return norm if norm == np.inf else as_dtype("norm", norm, self.dtype)

    def _rates(self, rates):
        """Return the learning rates of all steps as an array."""
        try:
            found = np.empty(0) if is_masked(rates) else np.atleast_1d(np.asarray(rates))
            fits = found.ndim == 1 and found.size and found.dtype.kind in "iuf" and (found >= 0).all()
            if fits and (found <= np.finfo(self.dtype).max).all():
                return found.astype(np.float64)
        except ValueError:  # rows of different lengths
            pass
        raise SpecError(f"rates: expected a learning rate from 0 on for every step that {self.dtype} can hold, got "
                        f"{shown(rates)}")  # fmt: skip

    @property
    def largest_norm(self) -> float:
        """The largest norm of the gradient with which a step is taken; above it, as for NaN, the stop flag is set.

        Squares of the gradient in moments must not overflow; clipping comes before them.
        """
        if self.optimizer is None:
            return 0.0
        largest = np.finfo(np.float64).max
        squared = np.sqrt(np.finfo(self.dtype).max)
        if self.optimizer.squares and (self.clip is None or self.clip.max > squared):
            largest = squared ** min(self.norm, 1.0)  # for p < 1 the norm is the sum of the powers itself
        return float(largest)

    @property
    def layer_names(self) -> list[str]:
        """Names of the layers that have parameters, in depth order: the columns of the logged norms."""
        return [name for name, _, _ in self.plan.log.segments]

    def new_state(self, share: bool = False) -> State:
        """Return a new state, for another thread: a copy of theta and the buffers, moments at zero."""
        net = self.network
        sizes = self._sizes()
        new = {name: aligned(size, dtype) for name, (size, dtype) in sizes.items()}
        new["rates"] = self.rates
        new["counters"][SEED] = net.seed
        new["counters"][HEAD : HEAD + self.batch_size] = np.arange(self.batch_size)
        if share:
            new |= {"theta": net.theta, "gradient": net.gradient, "buffers": net.flat_buffers}
        else:
            new["theta"][:], new["buffers"][:] = net.theta, net.flat_buffers
        return State(**new, layout=self.layout + WHOLE)

    def states(self, count: int, theta: Literal["shared", "own"] = "shared", gradient: bool = False) -> States:
        """Return light states, without log and moments, as one value for parallel loops: ``states[k]`` is a state.

        They serve `predict`, `jvp` and `jacobian`, and with a gradient `vjp` and `clear`.

        Parameters
        ----------
        count : int
        theta : "shared" or "own"
            Whether all have the network's theta and buffers, or each a copy, row k of ``states.theta``.
        gradient : bool
            Whether each has a gradient.
        """
        count = checked("count", count, int, 1)
        if theta not in ("shared", "own"):
            raise SpecError(f'theta: expected "shared" or "own", got {shown(theta)}')
        net, left_out = self.network, ("log", "moments", *(() if gradient else ("gradient",)))
        shared, arrays = {"rates": self.rates}, {}
        if theta == "shared":
            shared |= {"theta": net.theta, "buffers": net.flat_buffers}
        for name, (size, dtype) in self._sizes().items():
            size = 0 if name in left_out else size
            arrays[name] = (shared[name] if name in shared else rows(count, size, dtype)), size
        if theta == "own":
            for name, own in (("theta", net.theta), ("buffers", net.flat_buffers)):
                arrays[name][0][:, : own.size] = own
        counters = arrays["counters"][0]
        counters[:, SEED], counters[:, HEAD : HEAD + self.batch_size] = net.seed, np.arange(self.batch_size)
        return States(count, self.layout + (LEARNS if gradient else LIGHT), arrays)

    def _sizes(self):
        """Map each array of a state to its number of elements and dtype."""
        sizes = {**self.sizes, "rates": self.rates.size}
        if self.derivatives is not None:
            sizes |= {name: max(sizes[name], size) for name, size in self.derivatives.sizes.items()}
        whole = {"rates": np.float64, "log": np.float64, "counters": np.int64}
        return {name: (sizes[name], np.dtype(whole.get(name, self.dtype))) for name in State._fields[:-1]}

    def memory(self) -> dict[str, int]:
        """Return the bytes of every array of a state, by name."""
        return {name: size * np.dtype(dtype).itemsize for name, (size, dtype) in self._sizes().items()}

    # -- its functions -----------------------------------------------------------------------------------------------

    def interpret(self) -> "Program":
        """Make `run` now."""
        _ = self.run
        return self

    def compile(self) -> "Program":
        """Compile the text, or load it from disk; `predict`, `step` and `epoch` are finished at their first use."""
        _ = self.functions
        return self

    @once
    def predict(self) -> Callable[..., Any]:
        """``predict(state, x, y)`` writes y = F(x)."""
        return self.functions["predict"]

    @once
    def step(self) -> Callable[..., float]:
        """``step(state, x, target)`` updates theta by one batch and returns its mean loss."""
        return self._trains("step")

    @once
    def epoch(self) -> Callable[..., float]:
        """``epoch(state, x, targets, order)`` takes a step on every batch of `order` and returns the mean loss."""
        return self._trains("epoch")

    @once
    def shard_gradient(self) -> Callable[..., None]:
        """``shard_gradient(state, x, targets, order, first, N0, N1, N, section)``: that of samples N0 to N1 of N."""
        return self._trains("shard_gradient")

    @once
    def shard_update(self) -> Callable[..., float]:
        """``shard_update(state, N)`` updates theta by the sum of the shards' gradients; returns the mean loss."""
        return self._trains("shard_update")

    @once
    def gradient(self) -> Callable[..., float]:
        """``gradient(state, x, target)`` returns the mean loss as `step` sees it; state.gradient is its gradient."""
        return self._derivative("gradient")

    @once
    def update(self) -> Callable[..., float]:
        """``update(state, scale)`` applies the update rule to scale * state.gradient, clears it, returns its norm."""
        return self._derivative("gradient", "update")

    @once
    def vjp(self) -> Callable[..., Any]:
        """``vjp(state, x, dy, y, dx)``: y = F(x), dx = (dF/dx)^T dy, state.gradient += (dF/dtheta)^T dy."""
        return self._derivative("vjp")

    @once
    def clear(self) -> Callable[..., None]:
        """``clear(state)`` sets state.gradient to 0."""
        return self._derivative("vjp", "clear")

    @once
    def jvp(self) -> Callable[..., Any]:
        """``jvp(state, x, dx, y, dy)``: y = F(x), dy = (dF/dx) dx."""
        return self._derivative("jvp")

    @once
    def jacobian(self) -> Callable[..., Any]:
        """``jacobian(state, x, y, J)``: y = F(x), J (N, outputs, inputs), both counted in C order."""
        return self._derivative("jacobian")

    def c_function(self, name: str) -> CFunction:
        """Return a function for callers in C: its `address`, `ctypes` function and `declaration`.

        Parameters
        ----------
        name : "predict", "vjp", "jvp", "gradient", "step", "update" or "clear"
        """
        if name not in NAMES:
            raise SpecError(f"c_function: expected one of {', '.join(NAMES)}, got {shown(name)}")
        function: Any = getattr(self, name)
        if self.device == "cuda":
            raise AttributeError(f"c_function: {name} is there on the CPU only")
        return function.in_c(function)

    def c_state(self, state: State | None = None) -> CState:
        """Return a state for callers in C, by default this program's; keep it as long as they use its address."""
        return CState(self.state if state is None else state)

    def device_function(self, name: Literal["predict", "vjp"]) -> "DeviceFunction":
        """Return a function for your own CUDA kernels: one sample in one thread, for tiny networks.

        ``predict(theta, x, y)`` computes y = F(x); ``vjp(theta, x, dy, y, dx, dtheta)`` also dx = (dF/dx)^T dy, and
        adds (dF/dtheta)^T dy to dtheta. Arrays have one axis. If the network has batch normalisation,
        both take its running statistics, ``net.flat_buffers``, after theta. Both compute as in prediction.

        Parameters
        ----------
        name : "predict" or "vjp"

        Raises
        ------
        SpecError : a layer has no form for one thread, or an activation has more than 64 numbers.
        """
        from . import device_function as made  # few programs need its text

        if name not in made.NAMES:
            raise SpecError(f"device_function: expected one of {', '.join(made.NAMES)}, got {shown(name)}")
        if name not in self._device_functions:
            self._device_functions[name] = made.DeviceFunction(self.network.graph, self.dtype, name)
        return self._device_functions[name]

    def _derivative(self, kind, name=None):
        if self.derivatives is None:
            where = "only on the CPU" if self.device == "cuda" else "in a program that net.compile() makes"
            raise AttributeError(f"{name or kind}: there are derivatives {where}")
        if kind == "gradient" and self.loss is None:
            raise AttributeError(f"{name or kind}: this program has no loss and no optimizer")
        return self.derivatives.code(kind).functions[name or kind]

    def _trains(self, name):
        if name not in self.functions:
            raise AttributeError(f"{name}: this program has no loss and no optimizer, so it can only predict")
        return self.functions[name]

    def on_device(self) -> AbstractContextManager[Any]:
        """Keep the learned arrays on the GPU within this context, where calls do not copy them; `download` does."""
        return self.run.on_device(self.state) if self.device == "cuda" else nullcontext()

    def download(self) -> None:
        """Bring theta, gradient, moments and buffers of the state up to date; on the CPU they always are."""
        if self.device == "cuda":
            self.run.download(self.state)
