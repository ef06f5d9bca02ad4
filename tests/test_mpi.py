"""`mpiexec -n 4 nnjit run`: the curve of one process, one sentence for what cannot be, and an end of all ranks."""

import json
import signal
import time

import mpi_runner
import numpy as np
import pytest
from command_line import nnjit, records

needs_mpi = pytest.mark.skipif(mpi_runner.launcher() is None, reason="needs mpiexec and mpi4py")

# A narrow network whose batch has seven blocks of samples, with a mask that is keyed by the places of a batch.
NARROW = '''
[data]
name = "digits"
[model]
layers = ["flatten", "dense(32)", "relu", "dropout(0.2)", "dense(10)"]
[training]
epochs = 3
batch_size = 400
'''
# Convolutions, whose gradients are summed in another order; all that is decided by numbers of the whole batch.
WIDE = '''
[data]
name = "digits"
[training]
epochs = 6
batch_size = 99
optimizer = "adamw(lr=3e-3, weight_decay=0.1)"
schedule = "cosine"
clip = "norm(1.0)"
patience = 1
min_delta = 0.3
metrics = ["accuracy", "f1"]
'''
DIFFERS = ("seconds",)


def log(path):
    """Return the records of a run without times."""
    return [{name: value for name, value in record.items() if name not in DIFFERS} for record in records(path)]


def numbers(value):
    """Yield all numbers of records, with the names on the way."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from ((f"{name}.{path}", number) for path, number in numbers(part))
    elif isinstance(value, list):
        for part in value:
            yield from numbers(part)
    elif isinstance(value, int | float):
        yield "", float(value)


@pytest.fixture
def config(here):
    def write(text):
        (here / "config.toml").write_text(text)
        return here / "config.toml"

    return write


@needs_mpi
@pytest.mark.parametrize("ranks", [3, 4])
def test_shares_of_whole_blocks_have_the_bits_of_one_process(here, config, ranks):
    given = config(NARROW)  # 1437 samples: the last batch has 237
    nnjit("run", given, "--output", "one")
    status, out, err = mpi_runner.run(ranks, "run", given, "--output", "many", cwd=here)
    assert (status, err) == (0, "")
    assert f"{ranks} processes divide each batch of 400 samples" in out and "the bits" in out
    assert log(here / "many") == log(here / "one")
    assert out.count("epoch 3/3") == 1  # rank 0 alone prints


@needs_mpi
@pytest.mark.parametrize("ranks", [2, 4])
def test_other_shares_have_the_curve_of_one_process_up_to_rounding(here, config, ranks):
    given = config(WIDE)
    nnjit("run", given, "--output", "one")
    status, out, err = mpi_runner.run(ranks, "run", given, "--output", "many", cwd=here)
    assert (status, err) == (0, "") and "rounding" in out
    one, many = log(here / "one"), log(here / "many")
    assert len(one) == len(many) and one[-1]["stopped"] == many[-1]["stopped"]  # patience ended both
    for (name, a), (same, b) in zip(numbers(one), numbers(many), strict=True):
        assert name == same
        assert a == pytest.approx(b, rel=2e-3, abs=2e-3), name
