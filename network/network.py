"""The network F(x): its layers, the flat vector theta of all parameters, training and prediction."""

import copy
import os
import signal
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numba.core.errors import TypingError
from numba.extending import typeof_impl
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..data.schema import Schema
from ..data.split import MASKED, Split, is_masked
from ..errors import ConcurrencyError, DeviceError, ShapeError, SpecError, UsageError
from ..kernels.compiler.lock import COMPILING
from ..layers.base import Layer
from ..program.duties import check_rounded
from ..program.function import Function
from ..program.graph import Graph
from ..program.memory import aligned, need
from ..program.precision import DEVICES, DTYPES, unfit
from ..program.program import Program
from ..program.state import MAX_SEED
from ..registry import initializers, losses
from ..registry import layers as catalogue
from ..registry.annotations import checked
from ..registry.options import SpecLike
from ..registry.specs import shown
from ..storage.checkpoint import save
from ..training.history import History
from ..training.losses import Loss
from ..training.measure import evaluate_split
from ..training.progress import reporter
from ..training.run_and_draw import run_and_draw
from ..training.settings import Settings
from ..training.trainer import Trainer
from .arenas import Arenas
from .library import export
from .summary import summary

MANY = 1_000_000  # outputs from which on `predict` checks that they fit into memory; for fewer it would cost time
VIEWS = {"parameters": "theta", "gradients": "gradient", "buffers": "flat_buffers"}  # name -> vector of the views
FIXED = ("layers", "input_shape", "output_shape", "dtype", "device", "precision", "graph")  # by the composition
# Attributes that run the network in this process; a copy makes new ones.
LOCKS = ("_learning", "_statistics", "_copying", "_on_device")
PRIVATE = ("_programs", "_arenas", "_own", "_trainer", *LOCKS)


class Views(Mapping[str, NDArray[Any]]):
    """Ordered names of arrays that are views into one flat vector; ``views[name][...] = ...`` writes through."""

    def __init__(self, flat: NDArray[Any], places: Mapping[str, tuple[int, tuple[int, ...]]]) -> None:
        self._flat, self._places = flat, places

    def __getitem__(self, name: str) -> NDArray[Any]:
        offset, shape = self._places[name]
        return self._flat[offset : offset + prod(shape)].reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name}: {shape}" for name, (_, shape) in self._places.items()) + "}"


class Network:
    """A list of layers applied one after the other.

    Parameters
    ----------
    layers : list of Layer
    input_shape : tuple of int
        Without the batch: ``(C, *spatial)`` or ``(features,)``.
    dtype : "float32" or "float64"
    device : "cpu" or "cuda"
    seed : int
        The seed of the initial parameters, 0 to 2**31 - 1.
    precision : "float32", "tf32" or "bf16"
        The precision of products in dense and convolutional layers. With the last two a GPU's tensor cores multiply
        numbers rounded to 10 or 7 bits of mantissa: the relative error of a product is at most 1 / 1024 or 1 / 128.
        Sums and all other numbers are in float32.
    graph : Graph or None
        The graph of these layers and this shape, if it exists already.

    Attributes
    ----------
    theta, gradient : ndarray (S,)
        All parameters and all their gradients, in the order of `parameters`.
    flat_buffers : ndarray
        All buffers, such as running statistics, in the order of `buffers`.
    parameters, gradients, buffers : mapping
        Views by name, such as ``"conv.1.W"``.
    trained_on : Schema or None
        Names and ranges of the data of `fit`, or of the loaded run; `predict` and `evaluate` follow it.

    Notes
    -----
    ``net.theta = values`` writes into the vector, like ``net.theta[:] = values``; so do `gradient` and `flat_buffers`.

    `predict`, `evaluate` and `forward` may be called from several threads at once. A `backward` belongs to the last
    `forward` of the same thread. There is one gradient, so `backward` or `fit` in two threads at once is refused. A
    copy (``copy.deepcopy``, pickle) is independent, with a copy of theta.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        input_shape: int | Sequence[int],
        dtype: DTypeLike = "float32",
        device: str = "cpu",
        seed: int = 0,
        precision: str = "float32",
        graph: Graph | None = None,
    ) -> None:
        dtype = getattr(dtype, "__name__", None) or str(dtype)
        if dtype not in DTYPES:
            raise SpecError(f"dtype: expected float32 or float64, got {dtype}")
        if device not in DEVICES:
            raise DeviceError(f"device: expected one of {', '.join(DEVICES)}, got {device!r}")
        if wrong := unfit(precision, device, dtype):
            raise SpecError(f"precision: {wrong}")
        if device == "cuda":
            from ..kernels.gpu.driver import require  # numba.cuda is imported by those who use it

            require(precision)
        self.seed: int = checked("seed", seed, int, 0, MAX_SEED)
        self.input_shape = _shape(input_shape)
        self.layers = list(layers)
        self.dtype, self.device, self.precision = np.dtype(dtype), device, precision
        self.graph = Graph(self.layers, self.input_shape) if graph is None else graph
        for node in self.graph.nodes:
            check_rounded(node.name, node.layer, self.dtype)
        numbers = 2 * self.graph.size + self.graph.buffer_size
        if self.graph.size:
            most = max(self.graph.nodes, key=lambda node: sum(p.size for _, p in node.parameters.values())).name
            what = f"layers: {self.graph.size} parameters, most of them in {most}, and their gradients"
            need(numbers * self.dtype.itemsize, what)
        self.output_shape: tuple[int, ...] = self.graph.output.shape
        self.trained_on: Schema | None
        self._allocate()
        self.initialize(self.seed)

    def _allocate(self) -> None:
        """Make the vectors, their views, and the attributes that run the network in this process."""
        self._outputs = prod(self.output_shape)
        self.theta: NDArray[Any] = aligned(self.graph.size, self.dtype)
        self.gradient: NDArray[Any] = aligned(self.graph.size, self.dtype)
        self.flat_buffers: NDArray[Any] = aligned(self.graph.buffer_size, self.dtype)
        self.parameters = Views(self.theta, self._places("parameters"))
        self.gradients = Views(self.gradient, self._places("parameters"))
        self.buffers = Views(self.flat_buffers, self._places("buffers"))
        self._programs: dict[tuple[bool, int], Program] = {}
        self._arenas, self._own = Arenas(), threading.local()
        self._renew()
        _networks.add(self)

    def _renew(self) -> None:
        """Make new locks: after a fork, a thread that no longer exists may hold the old ones."""
        self._trainer: int | None = None  # the thread in `fit`
        self._learning = threading.RLock()  # guards the gradient
        self._statistics = threading.Lock()  # guards the buffers during a training pass
        self._copying = threading.Lock()  # guards the buffers during a copy
        self._on_device: AbstractContextManager[Any] = threading.RLock() if self.device == "cuda" else nullcontext()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in (*VIEWS, *PRIVATE, "graph")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vectors = {name: state[name] for name in VIEWS.values()}
        self.__dict__.update({name: value for name, value in state.items() if name not in vectors})
        self.graph = Graph(self.layers, self.input_shape)
        self._allocate()
        for name, values in vectors.items():
            setattr(self, name, values)

    def __setattr__(self, name: str, value: Any) -> None:
        made = name in self.__dict__
        if made and name in VIEWS.values():
            self._write(name, value)
        elif made and name in VIEWS:
            raise UsageError(f"{name} are views into {VIEWS[name]}; write into one: net.{name}[name][...] = values")
        elif made and name in FIXED:
            raise UsageError(f"{name} of a network is fixed; compose another network")
        else:
            super().__setattr__(name, value)

    def _write(self, name, values):
        """Copy numbers into one of the vectors, which programs and views share."""
        vector = getattr(self, name)
        if values is vector:  # net.theta += step
            return
        expected = f"{name}: expected {vector.size} numbers that {self.dtype} holds"
        try:
            if is_masked(values):
                raise ValueError("some are masked")
            values = np.asarray(values)
            fits = np.can_cast(values.dtype, self.dtype, "same_kind") and values.dtype.kind in "fiu"
        except ValueError as error:
            raise ShapeError(f"{expected}: {error}") from None
        if not fits:
            raise ShapeError(f"{expected}, got {values.dtype}")
        if values.shape != vector.shape:
            raise ShapeError(f"{expected}, shape {vector.shape}, got shape {values.shape}")
        with np.errstate(over="ignore"):
            new = values.astype(self.dtype)
        if np.any(np.isinf(new) & np.isfinite(values)):
            raise ShapeError(f"{expected}, got {values[np.isinf(new) & np.isfinite(values)][0]}")
        vector[:] = new

    def __repr__(self) -> str:
        return f"Network({[layer.spec() for layer in self.layers]}, input_shape={self.input_shape})"

    def _places(self, what: str) -> dict[str, tuple[int, tuple[int, ...]]]:
        places: dict[str, tuple[int, tuple[int, ...]]] = {}
        for node in self.graph.nodes:
            for key, (offset, parameter) in getattr(node, what).items():
                if parameter.size:
                    places[f"{node.name}.{key}"] = (offset, parameter.shape)
        return places

    def initialize(self, seed: int) -> None:
        """Draw all parameters again and reset the buffers; the network is then one that was not trained.

        If a layer has no initializer, the next activation determines it: He before ReLU and similar ones, LeCun before
        SELU, Glorot otherwise. SpecError names a parameter with initial values that its dtype cannot hold.
        """
        seed = checked("seed", seed, int, 0, MAX_SEED)
        self.trained_on = None
        for index, node in enumerate(self.graph.nodes):
            rng = np.random.Generator(np.random.Philox(key=[seed, index]))
            consumer = self.graph.consumer(node)
            suits = (consumer and consumer.initializer) or "glorot"
            for flat, arrays in ((self.theta, node.parameters), (self.flat_buffers, node.buffers)):
                for key, (offset, parameter) in arrays.items():
                    drawn = _draw(f"{node.name}.{key}", parameter, rng, suits, self.dtype)
                    flat[offset : offset + parameter.size] = drawn

    # -- running -----------------------------------------------------------------------------------------------------

    def forward(self, x: ArrayLike, training: bool = False) -> NDArray[Any]:
        """Return F(x), and keep the pass for `backward`.

        Parameters
        ----------
        x : array (N, *input_shape)
        training : bool
            Whether dropout and augmentation act and batch normalization uses the batch.

        Returns
        -------
        y : ndarray (N, *output_shape)
        """
        x = self._batch(x, self.input_shape, "x")
        program, own = self._program(False, len(x)), self._own
        former, own.last = getattr(own, "last", None), None
        arena = former[0] if former else None
        if arena is None or arena.program is not program:
            if arena is not None:
                self._arenas.give(arena)
            arena = self._arenas.take(program)
        state = arena.state
        program.input.of(state, 0, len(x))[...] = x
        with self._buffers_of(arena, training), self._on_device:
            program.run.forward(state, len(x), self.seed, training)
            program.last_pass = weakref.ref(arena)  # whose activations are in the memory of a GPU
        own.last = arena, len(x), training
        return program.output.of(state, 0, len(x)).copy()

    def backward(self, dy: ArrayLike) -> NDArray[Any]:
        """Return dC/dx for dC/dy of this thread's last `forward`; fill `gradient` (sums over the batch, without 1/N).

        Parameters
        ----------
        dy : array (N, *output_shape)

        Returns
        -------
        dx : ndarray (N, *input_shape)

        Raises
        ------
        ShapeError : dy does not fit, or this thread has called no `forward`.
        ConcurrencyError : another thread is in `backward` or `fit` of this network.
        """
        if getattr(self._own, "last", None) is None:
            raise ShapeError("backward: call forward first, in the same thread; it keeps what backward needs")
        arena, count, training = self._own.last
        program, state = arena.program, arena.state
        dy = self._batch(dy, self.output_shape, "dy", count)
        with self._alone("backward"), self._on_device:
            if self.device == "cuda" and program.last_pass is not None and program.last_pass() is not arena:
                raise ConcurrencyError(
                    "backward: another thread has called forward since, and a GPU keeps the last pass only; take "
                    "turns, or give each thread a copy.deepcopy of the network"
                )
            program.output_gradient.of(state, 0, count)[...] = dy
            program.run.backward(state, count, self.seed, training)
        return program.input_gradient.of(state, 0, count).copy()

    def predict(self, x: ArrayLike, batch_size: int = 64) -> NDArray[Any]:
        """Return F(x) for any number of samples, by the compiled program.

        A trained network takes x in the units of training, unchanged. DataError if the numbers do not fit, such as
        pixels divided by 255 for a network that was trained on raw pixels.
        """
        if self.trained_on is not None:
            x = self.trained_on.checked_array(x, self.dtype)
        return self._apply(x, batch_size)

    def _apply(self, x: ArrayLike, batch_size: int = 64) -> NDArray[Any]:
        """Return F(x) of samples that were checked."""
        if type(batch_size) is not int or batch_size < 1:
            batch_size = checked("batch_size", batch_size, int, 1)
        x = self._batch(x, self.input_shape, "x")
        if len(x) * self._outputs > MANY:
            need(len(x) * self._outputs * self.dtype.itemsize, f"x: the outputs of {len(x)} samples")
        y = np.empty((len(x), *self.output_shape), self.dtype)
        if not len(x):
            return y
        program = self._program(True, batch_size)
        arena = self._arenas.take(program)
        if self.flat_buffers.size:
            with self._copying:
                arena.state.buffers[:] = self.flat_buffers
        # The arrays fit, so the compiled code is called as it is.
        function = program.predict
        run = function.run if isinstance(function, Function) else partial(self._in_turn, function)
        if program.batch_size == batch_size or len(x) <= batch_size:
            run(arena.state, x, y)
        else:  # the program would divide the samples into batches of its own size
            for first in range(0, len(x), batch_size):
                run(arena.state, x[first : first + batch_size], y[first : first + batch_size])
        self._arenas.give(arena)  # after an exception it is dropped
        return y

    @contextmanager
    def _buffers_of(self, arena, training):
        """Copy the network's buffers into an arena, and after a training pass back.

        Training passes of several threads take turns, or one would overwrite the statistics of the other.
        """
        mine, whole = arena.state.buffers, self.flat_buffers
        with self._statistics if training and whole.size else nullcontext():
            if training and whole.size and self._trainer not in (None, threading.get_ident()):
                raise ConcurrencyError(
                    "forward: another thread trains this network, and with training=True both would write the running "
                    "statistics; wait, or use a copy.deepcopy of the network"
                )
            with self._copying:
                mine[:] = whole
            yield
            if training:
                with self._copying:
                    whole[:] = mine

    def _in_turn(self, function, *arguments):
        """Call a function while no other thread uses the GPU for this network."""
        with self._on_device:
            function(*arguments)

    @contextmanager
    def _alone(self, what):
        """Refuse a second thread that would write the gradient."""
        if not self._learning.acquire(blocking=False):
            raise ConcurrencyError(
                f"{what}: another thread trains this network or is in its backward, and there is one gradient; "
                "take turns, or give each thread a copy.deepcopy of the network"
            )
        try:
            yield
        finally:
            self._learning.release()

    def copy(self) -> "Network":
        """Return an independent network with copies of theta and the buffers."""
        return copy.deepcopy(self)

    def export(self, path: str | os.PathLike[str], cpu: str = "portable", plugins: Sequence[str] = ()) -> Path:
        """Write weights and code as a library or object file that needs no Python, and a header beside it.

        Parameters
        ----------
        path : path
            Ends with .so (which needs a C compiler) or .o; its name begins those of the C functions.
        cpu : str
            "portable" (any processor of this architecture), "native", or on x86-64 a level, "x86-64-v2" to "x86-64-v4".
        plugins : names of files or modules
            Those that register layers of this network.

        Returns
        -------
        Path

        Raises
        ------
        UsageError
            A path or processor that cannot be.
        NnjitError
            The code cannot be compiled or linked.
        """
        return export(self, path, cpu, plugins)

    def compile(
        self,
        loss: SpecLike | None = Settings.loss,
        optimizer: SpecLike | None = Settings.optimizer,
        batch_size: int = Settings.batch_size,
        labels: bool | None = None,
        clip: Any = None,
        rates: ArrayLike | None = None,
        norm: float = Settings.norm,
        weighted: bool = False,
    ) -> Program:
        """Return the training program of this network, compiled; see `Program` for the parameters.

        Its `state` shares theta, gradient and buffers with the network. The program is the whole network: where the
        last layer is unstandardize, the loss of `step` is that of F(x) in units, unlike that of `fit`.
        """
        return Program(
            self, loss, optimizer, batch_size, labels, clip, rates, norm, derivatives=True, weighted=weighted
        ).compile()

    def _program(self, predict: bool, count: int) -> Program:
        """Return the compiled prediction program, or interpreted forward and backward, for at least `count` samples."""
        found = self._programs.get((predict, count))
        if found is not None and type(count) is int:  # True equals 1
            return found
        size = capacity(count)
        if size is None:
            size = checked("batch_size", count, int, 1)  # refuses it
        with COMPILING:
            if (predict, size) not in self._programs:
                program = Program(self, batch_size=size, backward=not predict)
                self._programs[predict, size] = program.compile() if predict else program.interpret()
                del program.state  # each call has an arena
            return self._programs[predict, size]

    def _batch(self, array: Any, shape: tuple[int, ...], name: str, count: int | None = None) -> NDArray[Any]:
        try:
            if type(array) is np.ndarray and array.dtype == self.dtype:
                array = np.ascontiguousarray(array)
            elif is_masked(array):
                raise ValueError(f"some are masked; {MASKED}")
            else:
                with np.errstate(over="raise"):
                    array = np.ascontiguousarray(array, dtype=self.dtype)
            if array.shape[1:] == shape and array.size and (count is None or count == len(array)):
                return array
            wrong = f"expected shape {{}}, got {array.shape}"
        except FloatingPointError:
            raise ShapeError(f"{name}: holds numbers that are too large for {self.dtype}") from None
        except (TypeError, ValueError) as error:
            wrong = f"expected an array of numbers {{}}: {error}"
        raise ShapeError(f"{name}: " + wrong.replace("{}", f"({count or 'N'}, {', '.join(map(str, shape))})"))

    # -- training ----------------------------------------------------------------------------------------------------

    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike,
        loss: SpecLike = Settings.loss,
        optimizer: SpecLike = Settings.optimizer,
        schedule: SpecLike = Settings.schedule,
        clip: SpecLike | None = Settings.clip,
        epochs: int = Settings.epochs,
        batch_size: int = Settings.batch_size,
        validation: tuple[ArrayLike, ...] | None = None,
        seed: int = Settings.seed,
        norm: float = Settings.norm,
        metrics: str | Iterable[SpecLike] = Settings.metrics,
        output: str | os.PathLike[str] | None = None,
        patience: int | None = Settings.patience,
        min_delta: float = Settings.min_delta,
        callbacks: Iterable[Any] = (),
        progress: bool = False,
        weights: ArrayLike | None = None,
        class_weights: Any = Settings.class_weights,
    ) -> History:
        """Train on arrays.

        Parameters
        ----------
        x : array (N, *input_shape)
        y : array
            Class numbers (N,), or values of the output's shape (N, *output_shape). For one output, of shape (1,),
            floats (N,) are values too.
        loss, optimizer, schedule, clip : specs
        epochs, batch_size : int
            batch_size 0: the whole set, the lecture's gradient descent.
        validation : (x, y), (x, y, weights) or None
        seed : int
            The seed of the order of samples, of dropout and of augmentation.
        norm : float
            The p of the logged gradient norms.
        metrics : specs, such as ["f1", "top_k(k=3)"]
            Measured besides those that are measured always: accuracy of classes, accuracy and F1 of several labels a
            sample, rmse and r2 of values. On the training data they are measured on at most 1000 samples, spread evenly
            over it. If that made more than 20,000 samples in all epochs, and more than a fiftieth of the samples of all
            steps, or there are more than 50 epochs, they are measured in every k-th epoch and the last.
        output : path or None
            A run directory to create, with log, checkpoints and pictures; None writes no files.
        patience : int or None
            Early stopping: end after this number of epochs, from 1 on, without an improvement of the validation loss
            (the training loss if there is no validation data). The network then has the parameters of the epoch with
            the lowest loss, also after the last of `epochs`, but not after a signal or an error. None: train all
            epochs and keep the last parameters.
        min_delta : float
            An improvement is a loss that is lower by more than this than at the last improvement; from 0 on.
        callbacks : iterable
            Functions of an epoch's record, or objects with any of the methods begin(trainer), progress(epoch, done,
            steps, loss), epoch(record) and end(history). A function, or the method `epoch`, that returns True ends the
            training after that epoch. See the notes.
        progress : bool
            Show progress like `nnjit run`: a line that changes on a terminal, else a line for each epoch.
        weights : array (N,) or None
            Factors of the losses of the samples, from 0 on. They are divided by their mean over the training samples,
            so only their ratios count. loss and val_loss of the history have them; metrics and `evaluate` do not.
        class_weights : "balanced", dict or sequence, or None
            Factors of the losses by class, such as {0: 1, 1: 5} or [1, 5], 1 for classes that are left out; also times
            `weights`. "balanced": N / (C n) for a class with n of the N training samples, C classes in all.

        Returns
        -------
        History

        Raises
        ------
        ShapeError, SpecError, DivergenceError, RunExists
        ConcurrencyError
            Another `fit` or another thread's `backward` of this network is running. `predict` in another thread is
            not refused: it may read some parameters before an update and some after it.
        KeyboardInterrupt
            After Ctrl-C.

        Notes
        -----
        Layers that are fitted to training data (standardize, minmax without a range, unstandardize) are fitted to x
        and y before the first step, never to `validation`, unless the network was trained before; `initialize` undoes
        both. If the last layer is unstandardize, loss and val_loss of the history are those before it, on targets with
        mean 0 and deviation 1; metrics are in units.

        SIGINT (Ctrl-C), SIGTERM and SIGHUP end the training after the current step: the checkpoint and the pictures
        are written if there is an `output`, and then the former handler gets the signal. So Ctrl-C raises
        KeyboardInterrupt, and SIGTERM and SIGHUP end the process unless the caller has a handler; if that handler
        returns, so does `fit`, and `History.interrupted` is the signal's number. A second signal goes to the former
        handler at once. An ignored signal stays ignored. Python allows handlers in the main thread only: in another
        thread signals do not end `fit`.

        A record is that of the log: a table with "epoch", "loss", "val_loss", the metrics and more. Callbacks are
        called in order, after the log has the record and the checkpoint is made; all of them are called before the
        training ends. They may call `predict`, `evaluate` and `save` of the network, which has the parameters of that
        epoch. An error in a callback ends the training, after the checkpoints are written, and is raised. Callbacks of
        epochs slow down the training of small networks: epochs then run one by one, with the same results.

        Examples
        --------
        Stop as soon as the validation loss is below 0.1::

            def good_enough(record):
                return record["val_loss"] < 0.1

            history = net.fit(x, y, validation=(x_val, y_val), epochs=500, callbacks=[good_enough])
            print(history)
        """
        settings = Settings(
            loss, optimizer, schedule, clip, epochs, batch_size, seed, norm, metrics, patience=patience,
            min_delta=min_delta, class_weights=class_weights,
        )  # fmt: skip
        if not (validation is None or (isinstance(validation, (tuple, list)) and len(validation) in (2, 3))):
            raise SpecError(f"validation: expected (x, y) or (x, y, weights), got {shown(validation)}")
        held = None
        if validation is not None:
            x_held, y_held, *more = validation
            held = self._split(x_held, y_held, settings.loss, "validation", *more)
        lines = reporter() if checked("progress", progress, bool) else nullcontext()
        with self._alone("fit"):
            if self._trainer is not None:
                raise ConcurrencyError("fit: called while a fit of the same network runs; wait until that one ends")
            with self._statistics:  # wait for a training pass of another thread
                self._trainer = threading.get_ident()
            try:
                with lines as line:
                    split = self._split(x, y, settings.loss, weights=weights)
                    trainer = Trainer(self, split, held, settings, line, callbacks=callbacks)
                    trainer.compile()
                    if output is None:
                        history = trainer.run()
                    else:
                        with COMPILING:  # so that a process is not forked in the midst of an import
                            from ..training.config import of_fit  # pydantic takes a tenth of a second
                        history = run_and_draw(trainer, trainer.record(output, of_fit(self, settings)))
            finally:
                self._trainer = None
        if history.interrupted is not None:
            signal.raise_signal(history.interrupted)
        return history

    def evaluate(
        self,
        x: ArrayLike,
        y: ArrayLike,
        loss: SpecLike | None = None,
        metrics: str | Iterable[SpecLike] | None = None,
    ) -> dict[str, Any]:
        """Return mean loss (with a `loss` spec) and metrics on arrays.

        Parameters
        ----------
        x : array (N, *input_shape)
        y : array
            Class numbers (N,), or values of the output's shape (N, *output_shape). For one output, of shape (1,),
            floats (N,) are values too.
        loss : spec or None
        metrics : specs, such as ["f1", "top_k(k=3)"], or None
            None: accuracy of classes, accuracy and F1 of several labels a sample, rmse and r2 of values. Without a loss
            y has classes if it holds class numbers or one-hot rows.

        Returns
        -------
        dict : "loss" and the spec of each metric -> float
            A metric without average is a dict, class -> float. A metric that is not defined is NaN. "loss" compares y
            with F(x), in units. If the last layer is unstandardize, "scaled_loss" is the loss that training reports:
            before that layer, on targets with mean 0 and deviation 1.

        Raises
        ------
        ShapeError
        SpecError
            There is nothing to measure.
        """
        made = None if loss is None else losses.create(loss)
        return evaluate_split(self, self._split(x, y, made), made, metrics)

    def _split(
        self, x: ArrayLike, y: ArrayLike, loss: Loss | None, name: str = "x, y", weights: ArrayLike | None = None
    ) -> Split:
        """Return arrays as a Split; floats (N,) are the values of one output, (N, 1)."""
        if is_masked(y):
            return Split(x, y, name=name)  # refuses it
        y, outputs = np.asarray(y), self.output_shape
        if y.ndim == 1 and y.dtype.kind == "f" and y.size:
            if outputs != (1,):
                classes = "class numbers, y.astype(int), or " if np.array_equal(y, np.floor(y)) else ""
                raise ShapeError(
                    f"{name}: y is one float a sample, the values of one output, but the network has outputs of shape "
                    f"{outputs}: give {classes}values of shape (N, {', '.join(map(str, outputs))})"
                )
            y = y[:, None]
        takes_values = loss is not None and loss.forward_labels is None and not loss.classification
        if y.ndim == 1 and y.dtype.kind in "iu" and outputs == (1,) and takes_values:
            raise ShapeError(
                f"{name}: y is one whole number a sample, which means its class, but {losses.name_of(type(loss))} "
                "takes values: give y.astype(float)"
            )
        return Split(x, y, name=name, weights=weights)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters, buffers and the description of the network to a safetensors file."""
        save(self, Path(path))

    # -- description -------------------------------------------------------------------------------------------------

    def description(self) -> dict[str, Any]:
        """Return the arguments of `compose` that make this network again, and the names of its layers."""
        return {
            "layers": [layer.spec() for layer in self.layers],
            "input_shape": list(self.input_shape),
            "dtype": self.dtype.name,
            "seed": self.seed,
            "names": sorted({catalogue.name_of(type(node.layer)) for node in self.graph.nodes}),
        }

    def summary(self) -> str:
        """Return a table: layer, output shape, parameters, multiplications, receptive field, share of non-zeros."""
        return summary(self)


_networks: weakref.WeakSet[Network] = weakref.WeakSet()


def _after_fork() -> None:
    for network in list(_networks):
        network._renew()


@typeof_impl.register(Network)
@typeof_impl.register(Program)
def _typeof(given, context):
    raise TypingError(
        f"jitted code takes no {type(given).__name__}: pass what it calls as arguments, such as program.predict and"
        " program.state of program = net.compile()"
    )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def capacity(count: Any) -> int | None:
    """Return the batch size of the program for `count` samples, 2^k or 3 * 2^k, so that there are few programs.

    None if `count` is not a positive whole number.
    """
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
        return None
    power = 1 << (int(count) - 1).bit_length()
    return power if 4 * count > 3 * power or power < 4 else 3 * power // 4


def _shape(shape: Any) -> tuple[int, ...]:
    sizes = shape.tolist() if isinstance(shape, np.ndarray) else shape
    sizes = sizes if isinstance(sizes, (list, tuple)) else (sizes,)
    try:
        sizes = tuple(checked("input_shape", n, int, 1) for n in sizes)
    except SpecError:
        sizes = ()
    if not sizes:
        raise ShapeError(f"input_shape: expected positive whole sizes such as (1, 28, 28) or (64,), got {shown(shape)}")
    return sizes


def _draw(name, parameter, rng, suits, dtype):
    start = suits if parameter.start is None else parameter.start
    with np.errstate(over="ignore"):
        if isinstance(start, float):
            drawn = np.full(parameter.size, start, dtype)
        else:
            made = initializers.create(start)
            check_rounded(f"{name}: {initializers.name_of(type(made))}", made, dtype)
            drawn = made.draw(rng, parameter.shape, parameter.fan_in, parameter.fan_out, dtype)
            drawn = np.asarray(drawn, dtype).ravel()
    if drawn.size != parameter.size or not np.isfinite(drawn).all():
        wrong = f"{drawn.size} numbers" if drawn.size != parameter.size else f"{drawn[~np.isfinite(drawn)][0]}"
        raise SpecError(f"{name}: expected {parameter.size} finite numbers of {dtype} to start from, got {wrong}")
    return drawn
