"""One row of the report: results are checked, then both sides are timed in pairs of turns."""

import os
import time

import numpy as np
from nnjit.bench.machine import busy

TURN = 0.08  # seconds of a turn
WARM = 0.01  # seconds of untimed calls before a turn, which wake the threads
# Seconds between turns, in which the other side's threads fall asleep: those of ONNX Runtime spin for 30 ms.
PAUSE = 0.1
TOLERANCE = {"y": 1e-4, "loss": 1e-4, "change": 1e-3, "gradient": 1e-3}  # error relative to the 2-norm
PEER = 2  # factor of the tolerance for peers: PyTorch's gradient of 3 x 3 taps was off by 1.6e-3 on a CPU with AVX2
ROUNDING = 2.0**-23  # relative rounding error of a stored float32 parameter, of which a change is a small part
# Tolerance of a change by Adam: its first step is nearly sign(g), which differs if g is as small as its rounding error.
ADAM = 4e-2


class Wrong(Exception):
    """A result differs from the reference's."""


def compare(got, expected, initial, optimizer="", own=False):
    """Return the largest relative difference of a checked run from the reference kernels; raise Wrong if too large.

    Parameters
    ----------
    got, expected : mappings of name -> array
        ``y``, ``loss``, ``change:<parameter>`` (after one step), ``gradient:<array>``; with the prefix ``own:`` for
        nnjit only, with ``peer:`` for peers only.
    initial : mapping of parameter -> array
    own : bool
        True if `got` is nnjit's.
    """
    worst = 0.0
    for name, want in expected.items():
        if name.startswith("peer:" if own else "own:"):
            continue
        if name not in got:
            raise Wrong(f"{name} is missing")
        kind, _, parameter = name.removeprefix("own:").removeprefix("peer:").partition(":")
        have = np.asarray(got[name], float).reshape(np.shape(want)) if np.size(got[name]) == np.size(want) else None
        if have is None:
            raise Wrong(f"{name} has {np.size(got[name])} numbers, not {np.size(want)}")
        size = np.linalg.norm(want)
        allowed = (ADAM if kind == "change" and optimizer.startswith("adam") else TOLERANCE[kind]) * size
        if not own:
            allowed *= PEER
        if kind == "change":
            allowed += ROUNDING * np.linalg.norm(initial[parameter])
        off = np.linalg.norm(have - want)
        if not off <= allowed:
            raise Wrong(f"{name} differs from the reference by {off:.1e}; {allowed:.0e} is allowed for {size:.1e}")
        worst = max(worst, off / size if size else 0.0)
    return worst


def pairs(first, second, count, warm=WARM, pause=PAUSE):
    """Time one unit on both sides in turns, and the load of the machine meanwhile.

    Returns
    -------
    times : list of (first's, second's)
    disturbed : dict
        ``idle``: the largest share of a processor that the waiting side used during a turn; ``others``: the share of
        all processors that other processes used. None if the system does not report it.
    """
    sides, times, idle = (first, second), [], 0.0
    used, machine, start = _used(sides), busy(), time.perf_counter()
    for k in range(count):
        turn = [0.0, 0.0]
        for side in (0, 1) if k % 2 == 0 else (1, 0):  # who goes first changes
            other = sides[1 - side]
            time.sleep(pause)
            before, began = other.busy(), time.perf_counter()
            turn[side] = sides[side].ask("turn", warm=warm)["seconds"]
            if before is not None:
                idle = max(idle, (other.busy() - before) / (time.perf_counter() - began))
        times.append(tuple(turn))
    others = None
    if machine is not None and used is not None:
        foreign = busy() - machine - (_used(sides) - used)
        others = max(0.0, foreign / (time.perf_counter() - start) / os.cpu_count())
    return times, {"idle": idle, "others": others}


def _used(sides):
    """Seconds of processor time that both sides and this process have used."""
    found = [side.busy() for side in sides]
    return None if None in found else sum(found) + time.process_time()


def summary(times):
    """Return median and quartiles."""
    low, middle, high = np.percentile(times, (25, 50, 75))
    return {"median": float(middle), "low": float(low), "high": float(high)}


def ratios(times):
    """Median and quartiles of second / first over the pairs: above 1 the first is faster."""
    return summary([second / first for first, second in times])
