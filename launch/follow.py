"""The work of the ranks that follow rank 0: a training without files, output and decisions."""

import tomllib

import numpy as np

from ..errors import NnjitError
from ..network.network import Network
from ..program.program import Program
from ..training import config_file, shared_arrays
from ..training.config import resolve
from ..training.fitting import units_of
from ..training.ranks import Ranks
from ..training.shard import Shard, compile_steps
from ..training.signals import Listening
from .launch import use_threads


def follow(ranks: Ranks) -> int:
    """Do what rank 0 says until it ends; return the exit status, which is its own."""
    word, *details = ranks.hear()
    if word == "end":
        return details[0]
    try:
        shard = _ready(ranks, *details)
    except Exception as error:  # rank 0 says it
        known = isinstance(error, (NnjitError, OSError, MemoryError))
        ranks.answer(str(error) if known else f"{type(error).__name__}: {error}")
        return ranks.hear()[1]
    ranks.answer()
    try:
        return _train(ranks, shard)
    except BaseException as error:
        ranks.abort(error)
        raise


def _ready(ranks, packed, forms):
    """Return this rank's share of the training that rank 0 describes, compiled."""
    job = shared_arrays.receive(ranks, packed, forms)
    table = tomllib.loads(job.config)
    config_file.load_plugins(table)
    resolved = resolve(table, "")
    model, settings = resolved.config.model, resolved.settings
    use_threads(resolved.config.run.threads or ranks.threads)
    network = Network(resolved.layers, tuple(model.input_shape or ()), model.dtype, "cpu", settings.seed)
    units = units_of(network, settings.loss)
    body = network if units is None else units.body
    program = Program(
        body, settings.loss, settings.optimizer, job.batch_size, labels=job.labels, clip=settings.clip,
        rates=job.rates, norm=settings.norm, weighted=job.weights is not None, ranks=ranks.size,
        global_statistics=resolved.config.run.global_statistics,
    )  # fmt: skip
    compile_steps(program)
    return Shard(ranks, program, job)


def _train(ranks, shard):
    """Take the steps that rank 0 says; return the exit status."""
    orders, epoch, order = shard.job.orders(), 0, np.empty(0, np.intp)

    def listen(number):
        shard.signal = number  # rank 0 ends the run after this step

    with Listening(listen):
        while True:
            word, *details = ranks.hear()
            if word == "end":
                return details[0]
            if word == "steps":
                number, done, steps = details
                if number != epoch:
                    epoch, order = number, orders.one(number)
                shard.steps(order[done * shard.job.batch_size : (done + steps) * shard.job.batch_size])
            else:
                {"begin": shard.begin, "agree": shard.agree, "gather": shard.gather, "scatter": shard.scatter}[word]()
