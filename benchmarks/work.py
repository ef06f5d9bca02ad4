"""The form of a work, which is one row of the report."""

from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True)
class Work:
    """One row.

    Attributes
    ----------
    name, group : str
        Name of the row, and the part of the table to which it belongs.
    kind : str
        "train": steps of training; "predict": from Python; "predict in njit": from a user's jitted loop; "feedback":
        the same, where each sample's first number comes from the result before, as in a simulation; "layer": one
        direction of the last layer; "loss": the loss; both as the training program runs them; "startup", "memory": see
        startup.py, memory.py.
    layers, shape, batch : the network, its input without the batch, samples of a step
    loss, optimizer : specs
    batches : int
        Steps of one call of nnjit's compiled epoch, and batches in the data.
    samples : int or None
        Samples in the data of a training, which the steps take in turn; None means as many as the steps take, and ten
        for steps of one sample.
    times : float
        Steps, or other units, that the row's time is for.
    direction : str
        For a layer "forward", "backward to input", "backward to weight", or "backward" for both of these; for start-up
        and memory the measured quantity.
    peers : names of modules of peers/
    against : the peers that the following figures compare; the fastest counts
    least, aim : float or None
        Least and aimed ratio of the peer's time (or memory) to nnjit's; with `seconds`, and for start-up, the most
        seconds of nnjit.
    also : tuple of (peer, least, aim)
        Figures against further peers, each by itself.
    narrower : float or None
        The figure `least` on a machine without AVX-512, if it is another there.
    seconds : bool
        The figures are seconds of nnjit.
    published : tuple of (library and machine, seconds, cores)
        What others published for the row's work.
    source : str
        Where they did.
    bound : "compute" or "memory"
        Peak of the machine with which the rate is compared.
    threads : int or None
        Threads of nnjit and of the peers; None means all. A peer "torch@1" has its own number.
    """

    name: str
    group: str
    kind: str
    layers: tuple
    shape: tuple
    batch: int
    loss: str = "cross_entropy"
    optimizer: str = "sgd(lr=0.01)"
    dtype: str = "float32"
    batches: int = 20
    samples: int | None = None
    times: float = 1
    direction: str = ""
    peers: tuple = ("torch",)
    against: tuple = ("torch",)
    least: float | None = None
    aim: float | None = None
    also: tuple = ()
    narrower: float | None = None
    seconds: bool = False
    published: tuple = ()
    source: str = ""
    bound: str = "compute"
    threads: int | None = None

    def plain(self):
        """Return the work as a dict that JSON can hold, for the processes."""
        return asdict(self)

    def on(self, processor):
        """Return the work with the figures for a processor, as `nnjit.bench.machine.processor` describes it."""
        return self if self.narrower is None or "AVX-512" in processor else replace(self, least=self.narrower)
