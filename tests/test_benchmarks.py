"""The logic of benchmarks/: checks of results, ratios, turns, and the report."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent / "benchmarks"
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason="an installation without the checkout's benchmarks")
sys.path.insert(0, str(ROOT))

if ROOT.is_dir():
    import child as child_module
    import compare
    import held
    import measure
    import memory
    import narrow
    import report
    import sweep
    import works
    from child import Child, Failed
    from work import Work


class Clock:
    """A side that answers with given times and records the order of the requests."""

    def __init__(self, name, times, asked, busy=0.0):
        self.name, self.times, self.asked, self.used = name, list(times), asked, busy
        self.total = 0.0

    def ask(self, what, warm):
        self.asked.append(self)
        return {"seconds": self.times.pop(0)}

    def busy(self):
        self.total += self.used
        return self.total


def test_pairs_take_turns_and_keep_their_sides():
    """Both sides may have the same name, as nnjit with one thread against nnjit with two."""
    asked = []
    first, second = Clock("nnjit", [1.0, 2.0, 4.0], asked), Clock("nnjit", [3.0, 2.0, 2.0], asked)
    times, disturbed = measure.pairs(first, second, 3, pause=0)
    assert times == [(1.0, 3.0), (2.0, 2.0), (4.0, 2.0)] and disturbed["idle"] == 0
    assert asked == [first, second, second, first, first, second]


def test_the_ratio_is_the_median_over_pairs():
    """The ratio of medians would be 2 here."""
    found = measure.ratios([(1.0, 3.0), (2.0, 2.0), (4.0, 2.0)])
    assert found == {"median": 1.0, "low": 0.75, "high": 2.0}
    assert measure.summary([1.0, 2.0, 4.0]) == {"median": 2.0, "low": 1.5, "high": 3.0}


def test_an_idle_side_that_works_is_seen():
    asked = []
    _, disturbed = measure.pairs(Clock("a", [1.0], asked), Clock("b", [1.0], asked, busy=9.0), 1, pause=0)
    assert disturbed["idle"] > 1


def test_others_on_the_machine_are_seen(monkeypatch):
    """Busy seconds of the machine that neither side used."""
    monkeypatch.setattr(measure, "busy", iter([100.0, 1e6]).__next__)
    _, disturbed = measure.pairs(Clock("a", [1.0], []), Clock("b", [1.0], []), 1, pause=0)
    assert disturbed["others"] > 100
    found = row(1.0, {"torch": 2.0})
    assert "disturbed" not in report.line(found)
    found["peers"]["torch"]["others"] = 0.4
    assert "other processes used 40 % of the CPU" in report.line(found)
    assert "other processes used 40 % of the CPU" in report.markdown([found], MACHINE)


EXPECTED = {"y": np.array([[1.0, -2.0], [0.5, 4.0]]), "gradient:x": np.array([0.1, 0.2])}


def changed(name, factor):
    return EXPECTED | {name: EXPECTED[name] * factor}


@pytest.mark.parametrize(
    "got, sentence",
    [
        (changed("y", 1.001), "y differs from the reference"),
        (changed("gradient:x", -1), "gradient:x differs"),
        (changed("y", np.nan), "y differs"),
        (EXPECTED | {"y": np.ones(3)}, "y has 3 numbers, not 4"),
        ({"y": EXPECTED["y"]}, "gradient:x is missing"),
    ],
)
def test_a_wrong_result_is_refused(got, sentence):
    with pytest.raises(measure.Wrong, match=sentence):
        measure.compare(got, EXPECTED, {})


def test_a_right_result_is_measured():
    assert measure.compare(EXPECTED, EXPECTED, {}) == 0
    assert measure.compare(changed("y", 1 + 1e-5), EXPECTED, {}) == pytest.approx(1e-5, rel=1e-3)


def test_changes_may_differ_by_the_rounding_of_parameters_and_no_more():
    initial, change = {"W": np.full(100, 1.0)}, {"change:W": np.full(100, 1e-4)}
    measure.compare({"change:W": np.full(100, 1e-4 + 1e-7)}, change, initial)
    with pytest.raises(measure.Wrong):
        measure.compare({"change:W": np.full(100, 1.02e-4)}, change, initial)
    measure.compare({"change:W": np.full(100, 1.01e-4)}, change, initial, "adam(lr=0.001)")


def test_each_side_gives_its_own():
    expected = EXPECTED | {"own:change:W": np.ones(2), "peer:gradient:y": np.ones(2)}
    measure.compare(EXPECTED | {"own:change:W": np.ones(2)}, expected, {"W": np.ones(2)}, own=True)
    measure.compare(EXPECTED | {"peer:gradient:y": np.ones(2)}, expected, {})
    with pytest.raises(measure.Wrong, match="own:change:W is missing"):
        measure.compare(EXPECTED, expected, {}, own=True)
    with pytest.raises(measure.Wrong, match="peer:gradient:y is missing"):
        measure.compare(EXPECTED, expected, {})


# -- processes --------------------------------------------------------------------------------------------------------

# A smaller network would be compiled into one function (program/schedule.py), which takes longer.
SMALL = {"layers": ("dense(30)", "relu", "dense(3)"), "shape": (20,), "batch": 8}


def bench(tmp_path, work, *peers):
    """One row, with one short pair of turns."""
    table = compare.Bench(peers, 1, tmp_path)
    try:
        return table.row(work)
    finally:
        table.close()


@pytest.fixture
def brief(monkeypatch):
    monkeypatch.setattr(compare, "TURN", 1e-4)
    monkeypatch.setattr(measure, "PAUSE", 0)


PLANTED = '''
"""A peer that predicts by NumPy, and wrongly if its name says so."""
import numpy as np
from peers.unit import Unit

def version():
    return "1"

def prepare(work, rows, arrays):
    return {"": Predict(arrays, OFF), **({"slow, right": Predict(arrays, 0.0)} if OFF else {})}

class Predict(Unit):
    def __init__(self, arrays, off):
        self.arrays, self.off = arrays, off

    def check(self):
        return {"y": self.run()}

    def run(self):
        a, p = self.arrays["x"], self.arrays
        for name in ("dense.1", "dense.3"):
            a = (a if name == "dense.1" else np.maximum(a, 0)) @ p[f"initial:{name}.W"].T + p[f"initial:{name}.b"]
        return a + self.off
'''


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Add peers "right" and "wrong" to the children's path."""
    folder = tmp_path / "planted" / "peers"
    folder.mkdir(parents=True)
    for name, off in (("right", 0.0), ("wrong", 0.01)):
        (folder / f"{name}_peer.py").write_text(PLANTED.replace("OFF", str(off)))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder.parent), os.environ.get("PYTHONPATH")])))


def test_a_peer_that_is_wrong_has_no_time(tmp_path, planted, brief):
    """One wrong variant is enough to refuse a peer, and the other peers keep their cells."""
    work = works.Work("planted", "test", "predict", **SMALL, peers=("wrong", "right", "nobody"), against=("right",))
    row = bench(tmp_path, work, "wrong", "right", "nobody")
    wrong, right, nobody = (row["peers"][name] for name in work.peers)
    assert wrong.keys() == {"error"} and "y differs from the reference" in wrong["error"]
    assert right["time"]["median"] > 0 and right["ratio"]["median"] > 0 and right["difference"] < 1e-5
    assert nobody == {"error": "not available: No module named 'peers.nobody_peer'"}
    assert row["nnjit"]["time"]["median"] > 0 and row["flops"] == 8 * 2 * (20 * 30 + 30 * 3)
    assert report.against(row) == "right" and "wrong: y differs" in report.line(row)


def test_nnjit_that_is_wrong_makes_the_row_an_error(tmp_path, brief, monkeypatch):
    wrong = lambda *given, **more: (_ for _ in ()).throw(measure.Wrong("y differs"))  # noqa: E731
    monkeypatch.setattr(compare, "compare", wrong)
    row = bench(tmp_path, works.Work("planted", "test", "predict", **SMALL))
    assert row["error"] == "nnjit: y differs" and "peers" in row and "nnjit" not in row
    assert report.reached(row) is None and "ERROR" in report.markdown([row], MACHINE)


def test_a_row_of_training_and_one_of_a_layer(tmp_path, brief):
    """Checked results of nnjit agree with the reference, and reset restores the initial state."""
    row = bench(tmp_path, works.Work("step", "test", "train", **SMALL, optimizer="adam", batches=3, peers=()))
    assert "error" not in row and row["nnjit"]["units"] == 3 and row["flops"] == 8 * 2 * (3 * 690 - 600)
    layer = SMALL | {"layers": ("dense(30)", "dense(3)")}
    row = bench(tmp_path, works.Work("dW", "test", "layer", **layer, loss="quadratic", optimizer="sgd(lr=1.0)",
                                     direction="backward to weight", peers=()))  # fmt: skip
    assert "error" not in row and row["flops"] == 8 * 2 * 90 and row["nnjit"]["difference"] < 1e-4


TINY = {"layers": ("dense(3)", "tanh", "dense(4)", "sigmoid", "dense(2)", "relu"), "shape": (2,), "batch": 1}
compiler = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler")


@compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_c_predicts_as_the_reference(tmp_path, brief, dtype):
    """Both sides feed each result back, and agree with the reference over several samples."""
    found = bench(tmp_path, Work("loop", "test", "feedback", **TINY, dtype=dtype, peers=("c",), against=("c",)), "c")
    assert "error" not in found and found["peers"]["c"]["units"] == found["nnjit"]["units"] == 10_000
    assert found["peers"]["c"]["difference"] < (1e-5 if dtype == "float32" else 1e-9) and report.against(found) == "c"


@compiler
def test_c_trains_as_the_reference(tmp_path, brief):
    common = {"loss": "quadratic", "optimizer": "sgd(lr=0.05)", "peers": ("c",), "batches": 30}
    found = bench(tmp_path, Work("step", "test", "train", **TINY, **common), "c")
    assert found["peers"]["c"]["difference"] < 1e-4 and found["peers"]["c"]["units"] == 30
    one = TINY | {"layers": ("dense(2)",)}
    found = bench(tmp_path, Work("step", "test", "train", **one, **common | {"optimizer": "adam"}), "c")
    assert found["peers"]["c"] == {
        "error": "not available: trains by plain gradient descent on the quadratic loss only"
    }


def test_c_is_absent_without_a_compiler(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Failed, match=r"not available: no C compiler \(cc, gcc or clang\)"):
        Child("c")


@pytest.mark.parametrize("peer", ["torch", "jax"])
@pytest.mark.parametrize("batch", [8, 20])
def test_peers_train_on_the_mean_squared_error(tmp_path, brief, peer, batch):
    """With a batch of all samples each step takes the same ones."""
    pytest.importorskip(peer)
    network = {"layers": ("dense(30)", "tanh", "dense(3)"), "shape": (20,), "batch": batch, "samples": 20}
    work = Work("mse", "test", "train", **network, loss="mse", optimizer="adam(lr=0.01)", batches=3, peers=(peer,),
                times=100)  # fmt: skip
    found = bench(tmp_path, work, peer)
    assert "error" not in found["peers"][peer] and found["peers"][peer]["units"] == found["nnjit"]["units"] == 3
    assert found["flops"] == 100 * batch * 2 * (3 * 690 - 600)


def test_images_take_the_place_of_random_numbers(tmp_path):
    images = np.arange(6 * 28 * 28, dtype=np.uint8).reshape(6, 28, 28)
    labels = np.array([3, 1, 4, 1, 5, 9], np.uint8)
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        (tmp_path / f"train-{name}-ubyte").write_bytes(header + array.tobytes())
    (work,) = (work for work in works.WORKS if work.name.startswith("LeNet-5"))
    small = work.plain() | {"batch": 4, "samples": 4, "layers": ("flatten", "dense(10)")}
    child = Child("reference")
    try:
        child.ask("make", work=small, path=str(tmp_path / "data.npz"), images=str(tmp_path))
    finally:
        child.close()
    with np.load(tmp_path / "data.npz") as data:
        places = [int(np.argmax([np.allclose(x, image / 255) for image in images])) for x in data["x"][:, 0]]
        assert len(set(places)) == 4 and (data["target"] == labels[places]).all()
        assert data["order"].tolist() == 5 * [0, 1, 2, 3]


def test_a_child_that_dies_is_told():
    child = Child("reference")
    child.process.kill()
    with pytest.raises(Failed, match="reference: the process ended with status"):
        child.ask("hello")
    child.close()


def test_a_child_that_never_answers_is_ended(monkeypatch):
    monkeypatch.setattr(child_module, "LIMIT", 0.2)
    child = Child.__new__(Child)
    child.name = "sleeper"
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    child.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with pytest.raises(Failed, match=r"sleeper: the process ended with status -\d+ after 0.2 s without an answer"):
        child.ask("turn")
    child.close()


# -- the table --------------------------------------------------------------------------------------------------------


def test_works():
    names = [f"{w.group}: {w.name}" for w in works.WORKS]
    assert len(set(names)) == len(names)
    for work in works.WORKS:
        assert {*work.against, *(peer for peer, *_ in work.also)} <= set(work.peers), work.name
        assert not work.published or work.source, work.name
        assert {peer.partition("@")[0] for peer in work.peers} <= {*works.PEERS, "nnjit"}, work.name
        assert json.loads(json.dumps(work.plain()))["name"] == work.name


def test_every_network_of_the_works_can_be_composed():
    from nnjit import registry
    from nnjit.program.graph import Graph

    for work in works.WORKS:
        if work.layers:
            layers = [registry.create(spec) for spec in work.layers]
            assert Graph(layers, work.shape).output.shape, work.name


def test_narrow_networks_fit_their_batches():
    """Every batch is a part of the samples, and JAX trains in one scan."""
    for work in narrow.works(works.LENET):
        assert work.kind != "train" or (work.batch <= work.samples == 10_000 and "jax" in work.peers), work.name


def test_figures_may_differ_without_avx512():
    work = Work("w", "g", "train", (), (), 1, least=0.8, narrower=1.5)
    assert work.on("A, 2 cores, AVX-512").least == 0.8 and work.on("A, 2 cores, AVX2").least == 1.5
    assert works.WORKS[0].on("A, 2 cores, AVX2") is works.WORKS[0]


def test_chosen():
    assert works.chosen([]) == list(works.WORKS)
    assert {w.name for w in works.chosen(["vgg, batch 64, *adam"])} == {"VGG, batch 64, Adam"}
    assert works.chosen(["no such row"]) == []


# -- the report -------------------------------------------------------------------------------------------------------

MACHINE = {
    "date": "2026-01-02", "processor": "A processor, 2 cores", "system": "Linux", "python": "3.12", "pairs": 3,
    "versions": {"nnjit": "1"},
    "ceilings": {"peak": {"one": 1e11, "all": 2e11}, "bandwidth": {"one": 1e10, "all": 2e10}},
}  # fmt: skip


def row(least, ratios, seconds=1e-3, **more):
    work = works.Work("a | b", "some group", "train", (), (), 1, peers=tuple(ratios), against=("torch", "jax"),
                      least=least, **more)  # fmt: skip
    spread = lambda value: {"median": value, "low": 0.9 * value, "high": 1.1 * value}  # noqa: E731
    peers = {name: {"time": spread(seconds * value), "ratio": spread(value)} for name, value in ratios.items()}
    return {"work": work.plain(), "peers": peers, "nnjit": {"time": spread(seconds)}, "flops": 5e7, "bytes": 0}


def test_the_strongest_of_the_asked_peers_counts():
    found = row(1.5, {"torch": 2.0, "jax": 1.4, "sklearn": 0.3})
    assert report.against(found) == "jax" and report.ratio(found) == 1.4 and report.reached(found) is False
    assert report.reached(row(1.5, {"torch": 1.5})) is True
    assert report.reached(row(None, {"torch": 1.5})) is report.reached(row(1.5, {"sklearn": 3.0})) is None
    found["peers"]["jax"] = {"error": "not available: jax"}
    assert report.against(found) == "torch"


def test_a_peer_may_have_its_own_figure():
    """Both figures count; the strongest of `against` and the other peer each against its own."""
    for jax, verdict in ((1.4, True), (1.2, False)):
        found = row(1.5, {"torch": 2.0, "jax": jax}, also=(("jax", 1.3, 1.6),))
        found["work"]["against"] = ("torch",)
        assert report.figures(found) == [("torch", 2.0, 1.5, None), ("jax", jax, 1.3, 1.6)]
        assert report.reached(found) is verdict
    assert "| 1.5, 1.3 (jax) | 1.6 (jax) | no |" in report.markdown([found], MACHINE)
    del found["peers"]["jax"]["ratio"]
    assert report.reached(found) is True, "a peer that is missing decides nothing"


def test_seconds_and_what_others_published(tmp_path):
    published = {"published": (("Others, a machine", 41e-6, 18),), "source": "a paper"}
    for seconds, verdict in ((8e-4, True), (9e-4, False)):
        found = row(8e-4, {"torch": 9.0}, seconds, **published) | {"cores": 2}
        found["work"]["seconds"] = True
        assert report.reached(found) is verdict and report.figures(found) == [("torch", 9.0, None, None)]
    text = report.markdown([found], MACHINE)
    assert "| 800 us |" in text and "Published by a paper." in text
    assert "- nnjit, this machine: 900 us, 2 cores, **1.80 ms**" in text
    assert "- Others, a machine: 41.0 us, 18 cores, **738 us**" in text
    report.chart([found], tmp_path / "results.png")


def test_start_up_is_asked_in_seconds():
    for seconds, verdict in ((3.0, True), (3.1, False)):
        found = row(3.0, {"torch": 0.1}, seconds)
        found["work"]["kind"] = "startup"
        assert report.reached(found) is verdict


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak of resident memory")
def test_the_memory_of_a_state_is_what_the_program_states():
    work = {"layers": ["dense(10)"], "shape": [2], "batch": 2, "loss": "cross_entropy", "optimizer": "sgd(lr=0.1)"}
    found = memory.train("nnjit", work)
    assert found["promised"] == found["allocated"] > 0 and found["growth"] >= 0


def test_shares_are_of_the_ceiling_for_as_many_threads():
    assert report.ceiling(row(1, {}), MACHINE) == "50.0 GFLOP/s, 25 %"
    assert report.ceiling(row(1, {}, threads=1), MACHINE) == "50.0 GFLOP/s, 50 %"
    assert report.ceiling(row(1, {}) | {"flops": 0, "bytes": 1e7}, MACHINE) == "10.0 GB/s, 50 %"


def test_times():
    found = [report.time(seconds) for seconds in (1.5, 0.0123, 9.999e-4, 5e-8)]
    assert found == ["1.50 s", "12.3 ms", "1.00 ms", "50.0 ns"]


def test_files(tmp_path):
    rows = [row(1.5, {"torch": 2.0}), row(1.5, {"torch": 1.2}), row(None, {}) | {"error": "nnjit: broken | bar"}]
    report.write(tmp_path, rows, MACHINE)
    report.chart(rows, tmp_path / "results.png")
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == json.loads(json.dumps(rows))
    text = (tmp_path / "results.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1, "cells do not fit the head"
    assert [line.split("|")[-2].strip() for line in lines[2:]] == ["yes", "no", ""]
    assert "A processor, 2 cores" in text and "2026-01-02" in text and "ERROR" in text
    assert (tmp_path / "results.png").stat().st_size > 1000


def test_the_command_names_what_it_knows():
    run = lambda *given: subprocess.run(  # noqa: E731
        [sys.executable, str(ROOT / "compare.py"), *given], capture_output=True, text=True
    )
    listed = run("--list", "--only", "ten points")
    assert listed.returncode == 0 and listed.stdout.splitlines() == [
        "training step: ten points, float32", "training step: ten points, float64",
    ]  # fmt: skip
    none = run("--only", "no such row")
    assert none.returncode == 1 and "no row matches no such row" in none.stderr


def test_a_machine_is_held_to_narrower_vectors(tmp_path, monkeypatch):
    """nnjit's tiles and code follow, every peer has its switch, others are left out, and the report says so."""
    show = "from nnjit.bench.machine import processor as p; from nnjit.kernels.cpu import tile; print(tile.BYTES, p())"
    environment = {**os.environ, **held.environment("avx2")}
    ran = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, env=environment, check=True)
    assert int(ran.stdout.split()[0]) <= 32 and "AVX-512" not in ran.stdout
    assert "+avx512f" not in environment["NUMBA_CPU_FEATURES"]
    for name, value in held.environment("avx2").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(compare.Bench, "run", lambda bench, chosen: found.append((bench.peers, bench.machine())))
    found = []
    compare.main(["--cpu", "avx2", "--output", str(tmp_path)])
    ((peers, machine),) = found
    assert set(works.PEERS) - set(peers) == {"onnx"}
    assert "all held to AVX2" in report.markdown([row(1, {})], MACHINE | {"held": machine["held"]})


@compiler
def test_c_is_held_by_its_flags(tmp_path, brief, monkeypatch):
    monkeypatch.setenv("CFLAGS", "-no-such-flag")
    found = bench(tmp_path, Work("loop", "test", "feedback", **TINY, peers=("c",), against=("c",)), "c")
    assert "the compiler refused" in found["peers"]["c"]["error"] and "no-such-flag" in found["peers"]["c"]["error"]


# -- the sweep --------------------------------------------------------------------------------------------------------


def test_sizes_are_powers_of_two_and_one_more():
    assert sweep.sizes(16) == [1, 2, 3, 4, 5, 8, 9, 16]
    assert sweep.sizes(17)[-2:] == [16, 17]
    assert len(sweep.sizes(256)) * len(sweep.sizes(16_384)) == 16 * 28


def grid(time):
    return {(width, batch): float(time(width, batch)) for width in (4, 8, 9, 16) for batch in (1, 2)}


def test_smooth_times_have_neither_cliffs_nor_falls():
    times = grid(lambda width, batch: width * batch)
    assert sweep.cliffs(times, [4, 8, 9, 16], [1, 2]) == sweep.falls(times, [4, 8, 9, 16], [1, 2]) == []


def test_a_step_beside_a_power_of_two_is_a_cliff():
    """17 of 9 and 16: the plain mean hides it, the power law through the neighbours does not."""
    times = grid(lambda width, batch: width * (1.7 if width > 8 else 1))
    (axis, cell, mean, law), *others = sweep.cliffs(times, [4, 8, 9, 16], [1, 2])
    assert (axis, cell) == (0, (9, 1)) and mean == pytest.approx(15.3 / (8 * 27.2) ** 0.5) and law > 1.5 > mean
    assert [found[:2] for found in others] == [(0, (9, 2))]


def test_time_that_falls_with_size_is_listed():
    times = grid(lambda width, batch: 5 if (width, batch) == (8, 2) else width)
    assert (0, (8, 2), (4, 2), 1.25) not in sweep.falls(times, [4, 8, 9, 16], [1, 2])
    assert sweep.falls(times, [4, 8, 9, 16], [1, 2]) == [(1, (8, 2), (8, 1), 0.625)]
    del times[8, 1]
    assert sweep.falls(times, [4, 8, 9, 16], [1, 2]) == [], "a cell without a neighbour is not judged"


def test_cells_beyond_the_budget_are_named(tmp_path, monkeypatch):
    """The first cells are measured; failures are named."""
    clock = iter([0.0, 1.0, 2.0, 3.0, 99.0])
    monkeypatch.setattr(sweep, "Child", lambda name: Clock(name, [], []))
    monkeypatch.setattr(Clock, "close", lambda self: None, raising=False)
    monkeypatch.setattr(sweep.time, "monotonic", lambda: next(clock))
    found = sweep.Sweep([1, 2, 3], [1, 2], 1, 10)

    def cell(width, batch, child, reference):
        if (width, batch) == (1, 2):
            found.failed[width, batch] = "y differs"
        else:
            found.times[width, batch] = 1e-6

    found.cell = cell
    found.run(0)
    assert found.skipped == [(2, 2), (3, 1), (3, 2)] and set(found.times) == {(1, 1), (2, 1)}
    sweep.write(found, tmp_path, "a machine")
    text = (tmp_path / "sweep.md").read_text()
    assert "3 of 6 cells were not measured, since the budget of 10 s was spent: from width 2, batch 2 on" in text
    assert "width 1, batch 2 failed: y differs" in text and "| 1 | 1.00 us |  |" in text
    assert len(json.loads((tmp_path / "sweep.json").read_text())["cells"]) == 2
    assert (tmp_path / "sweep.png").stat().st_size > 1000


def test_a_cell_is_checked_and_timed():
    found = sweep.Sweep([3], [2], 1, 0)
    found.run(1)
    assert not found.failed and 0 < found.times[3, 2] < 1
