"""Time of `nnjit run` from the start of its process to the first step of training, and to its end.

    python benchmarks/cold.py [--rounds 3] [--functions] [CONFIG.toml]

Three caches in turn: an empty one, one that a run has filled, the copy of one that `nnjit compile` has filled, whose
files cannot be written. Each row has the minima of the rounds: seconds to the first step (its line in the log), seconds
to the end of one epoch with pictures, processor seconds of all processes, and the functions that were compiled.
--functions lists the processor seconds of each function, compiled in one process.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUN = "from nnjit.cli.main import main; main()"
# Numba tells of each compilation; those of helpers within count for the function that calls them first.
LISTED = """
import os, time
from numba.core import event
from nnjit.cli.main import nnjit
from nnjit.kernels.compiler.cache import DiskCache
os.cpu_count = lambda: 1
found, open_ = [], []
class Listener(event.Listener):
    def on_start(self, e):
        open_.append([time.process_time(), 0.0])
    def on_end(self, e):
        began, within = open_.pop()
        took, dispatcher = time.process_time() - began, e.data["dispatcher"]
        own = isinstance(dispatcher._cache, DiskCache)
        if open_:
            open_[-1][1] += took if own else within
        if own:
            found.append((took - within, dispatcher.py_func.__name__))
event.register("numba:compile", Listener())
try:
    nnjit.main(__import__("sys").argv[1:])
except SystemExit:
    pass
print(f"\\n{len(found)} functions, {sum(seconds for seconds, _ in found):.1f} s")
for seconds, name in sorted(found, reverse=True):
    print(f"{seconds:7.3f} {name}")
"""


def environment(cache):
    """Return the environment of a run: modules are compiled once, as in an installed package."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"NNJIT_CACHE_DIR": str(cache), "MPLBACKEND": "Agg"}


def functions(cache):
    return {file.name: file.stat().st_mtime_ns for file in cache.rglob("*.nbc")}


def measured(config, cache, folder):
    """Run one epoch; return the seconds to the first step and to the end, processor seconds and functions compiled."""
    there = functions(cache)
    command = [sys.executable, "-c", RUN, "run", *config, "--epochs", "1", "--output", str(folder / "run")]
    log, first, before = folder / "run" / "log.jsonl", None, os.times()
    begin = time.perf_counter()
    with open(folder / "said", "w+", encoding="utf-8") as said:
        process = subprocess.Popen(command, env=environment(cache), stdout=said, stderr=said)
        while process.poll() is None:
            if first is None and log.exists() and b"\n" in log.read_bytes():
                first = time.perf_counter() - begin
            time.sleep(0.003)
        end = time.perf_counter() - begin
        if process.returncode:
            said.seek(0)
            sys.exit(f"nnjit run ended with status {process.returncode}: {said.read()[-300:].strip()}")
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return first if first is not None else end, end, spent, len(functions(cache).items() - there.items())


def image(config, folder):
    """Fill a cache by `nnjit compile`; return a copy whose files and folders cannot be written."""
    built, copy = folder / "built", folder / "image"
    command = [sys.executable, "-c", RUN, "compile", *config]
    subprocess.run(command, env=environment(built), check=True, capture_output=True)
    shutil.copytree(built, copy)
    for path in (*copy.rglob("*"), copy):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return copy


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="*", help="a config, and options of `nnjit run` behind --")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--functions", action="store_true", help="list the functions and their seconds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        if options.functions:
            command = [sys.executable, "-c", LISTED, "compile", *options.config]
            return subprocess.run(command, env=environment(place / "cache"), check=True)
        copy = image(options.config, place)
        measured(options.config, copy, made(place / "first"))  # modules become bytecode
        rows = {"empty": [], "filled": [], "image, read-only": []}
        for k in range(options.rounds):
            cache = place / f"cache_{k}"
            rows["empty"].append(measured(options.config, cache, made(place / f"empty_{k}")))
            rows["filled"].append(measured(options.config, cache, made(place / f"filled_{k}")))
            rows["image, read-only"].append(measured(options.config, copy, made(place / f"image_{k}")))
        print("| cache | first step, s | end, s | processor, s | functions compiled |\n| --- | --- | --- | --- | --- |")
        for name, found in rows.items():
            first, end, spent, count = map(min, zip(*found, strict=True))
            print(f"| {name} | {first:.2f} | {end:.2f} | {spent:.1f} | {count} |")
        print(f"\nload of the machine {os.getloadavg()[0]:.1f}")
        for path in (*copy.rglob("*"), copy):
            path.chmod(0o755)


def made(folder):
    folder.mkdir()
    return folder


if __name__ == "__main__":
    main()
