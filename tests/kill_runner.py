"""Trainings in processes that kill themselves, for test_kill.

Reads jobs from standard input, one line of JSON each, runs each in a forked child and answers with its exit status
(-9: killed). Forking saves the imports and the loading of compiled code, a second or two a job.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path

import nnjit.data
import nnjit.program.assemble  # noqa: F401
from nnjit.launch import launch
from nnjit.storage import checkpoint, run_directory
from nnjit.training import checkpoints, trainer
from nnjit.training.progress import Lines

# This config has all that a checkpoint must restore: moments, running means, dropout masks, a rate for every step.
CONFIG = {
    "model": {"layers": ["flatten", "dense(8)", "batchnorm", "relu", "dropout(0.2)", "dense(10)"]},
    "data": {"name": "digits"},
    "training": {"epochs": 5, "batch_size": 128, "optimizer": "adam(lr=1e-2)", "schedule": "cosine", "seed": 3},
}


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


class Watched:
    """The module `os` for nnjit's modules: it counts writes, fsyncs and renames from 0, and kills at one of them."""

    def __init__(self, moment, trace):
        self.moment, self.trace, self.count = moment or (None, None), trace, 0

    def __getattr__(self, name):
        return getattr(os, name)

    def _event(self, name, act, half=None):
        now = self.moment[1] if self.count == self.moment[0] else None
        self.count += 1
        if now == "before":
            kill()
        if now == "half":
            half()
            kill()
        act()
        if self.trace:
            with open(self.trace, "a") as file:
                file.write(name + "\n")
        if now == "after":
            kill()

    def fdopen(self, handle, mode):
        return WatchedFile(os.fdopen(handle, mode), self)

    def fsync(self, handle):
        self._event("fsync", lambda: os.fsync(handle))

    def replace(self, source, target):
        self._event(f"replace {Path(target).name}", lambda: os.replace(source, target))

    def rename(self, source, target):
        self._event("rename", lambda: os.rename(source, target))


class WatchedFile:
    """A file that writes at once, so that a kill after `write` leaves all of it."""

    def __init__(self, file, watched):
        self.file, self.watched = file, watched

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, data):
        def put(part):
            self.file.write(part)
            self.file.flush()

        self.watched._event("write", lambda: put(data), lambda: put(data[: len(data) // 2]))


class Killer(Lines):
    """Reporter that kills after a number of steps."""

    def __init__(self, step):
        self.step = step

    def progress(self, epoch, done, steps, loss):
        if (epoch - 1) * steps + done == self.step:
            kill()


def slowly(epoch):
    """Begin every epoch with a call of one step."""

    def begin(self):
        self._pace = 1
        epoch(self)

    return begin


def run(path, resume=False, step=None, moment=None, trace=None, keep=0):
    """Start or resume a run; kill it after `step`, or at `moment`: (number of an event, before/half/after).

    With `keep` = 0 seconds there is a checkpoint after each call of the compiled epoch: after the first step of an
    epoch and at its end, or with `step` after each step.
    """
    # Pictures take longer than all the rest.
    launch.run_and_draw = lambda trainer, directory, pictures: trainer.run(directory)
    launch.new_reporter = lambda: Killer(step)
    checkpoints.KEEP = keep
    trainer.PAUSE = 1e9 if step is None else 0  # calls of 1 and 11 steps, or of one, each followed by the reporter
    if keep == 0:
        trainer.Trainer._epoch = slowly(trainer.Trainer._epoch)
    checkpoint.os = run_directory.os = Watched(moment, trace)
    if resume:
        launch.resume(path)
    else:
        launch.start(CONFIG, path)


def compile():
    launch.prepare(launch.read_config(CONFIG))[0].compile()


def in_child(function, **arguments):
    """Call a function in a forked child; return the child's exit status."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        os.dup2(2, 1)  # standard output is for the answers
        function(**arguments)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    in_child(compile)  # starts threads, after which the process cannot fork
    compile()  # from disk; later children find it in memory
    for line in sys.stdin:
        print(in_child(run, **json.loads(line)), flush=True)
