"""Compiled code on disk: its place, when it may be used again, and faults of the disk or of a file."""

import errno
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from nnjit.kernels.compiler import cache, directory
from nnjit.kernels.compiler import machine_code as compiler
from nnjit.kernels.compiler.kernel import Kernel, type_of
from nnjit.program import assemble
from nnjit.registry import compose
from numba import types
from numba.core.caching import IndexDataCacheFile

KERNEL = """
import math
import numpy as np
from numba import njit, prange
from nnjit.kernels.compiler.kernel import kernel

{constant}
TABLE = np.array([1.0, 2.0])

@njit
def helper(v):
    return {helper}

@kernel
def double(x, y):
    for i in prange(x.size):
        y[i] = helper(x[i]) * FACTOR {extra}
"""


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """Make an empty cache directory, with no warning given yet."""
    monkeypatch.setenv("NNJIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(directory, "_warned", False)
    return tmp_path / "cache"


@pytest.fixture
def module(tmp_path):
    """Write a new module with the kernel `double` and the given text."""

    def make(constant="FACTOR = 2.0", helper="v", extra="", text=KERNEL):
        file = tmp_path / f"mine_{len(list(tmp_path.glob('mine_*')))}.py"
        file.write_text(text.format(constant=constant, helper=helper, extra=extra))
        spec = importlib.util.spec_from_file_location("mine", file)
        made = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
        return made

    return make


def doubled(kernel):
    """Run the kernel, from disk if it is there; return y and the warnings."""
    y = np.zeros(3)
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        kernel._made.clear()
        kernel(np.array([1.0, 2.0, 3.0]), y)
    return y.tolist(), [str(w.message) for w in given]


def stored(folder, suffix):
    return sorted((folder / "compiled").glob(f"*{suffix}"))


def test_a_home_in_the_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NNJIT_CACHE_DIR", "~/nnjit")
    assert directory.directory() == tmp_path / "nnjit"


@pytest.mark.skipif(os.name == "nt", reason="no passwd there")
@pytest.mark.parametrize("chosen", [None, "~/nnjit", "~nobody_is_called_so/nnjit"])
def test_without_a_home(monkeypatch, module, chosen):
    """Without HOME and an entry for the user compiled code lies in a temporary directory, with one warning."""
    import pwd

    def nobody(user):
        raise KeyError(user)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "XDG_CACHE_HOME", "NNJIT_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    if chosen:
        monkeypatch.setenv("NNJIT_CACHE_DIR", chosen)
    monkeypatch.setattr(directory, "_warned", False)
    directory._temporary.cache_clear()
    y, given = doubled(module().double)
    folder = directory.directory()
    try:
        assert y == [2.0, 4.0, 6.0] and len(given) == 1 and str(folder) in given[0] and "no home directory" in given[0]
        assert stored(folder, ".nbc") and folder.stat().st_mode & 0o777 == 0o700
        directory._remove(folder, os.getpid() + 1)
        assert folder.exists(), "a fork leaves it alone"
    finally:
        directory._remove(folder, os.getpid())
        directory._temporary.cache_clear()
    assert not folder.exists()


def test_directory_is_honoured(fresh, module):
    kernel = module().double
    assert directory.directory() == fresh and not fresh.exists()
    assert doubled(kernel) == ([2.0, 4.0, 6.0], [])
    (file,) = stored(fresh, ".nbc")
    before = file.stat().st_mtime_ns
    assert doubled(kernel) == ([2.0, 4.0, 6.0], [])
    assert stored(fresh, ".nbc") == [file] and file.stat().st_mtime_ns == before, "compiled again"
    assert directory.clear() > 0 and not stored(fresh, ".nbc")


def test_without_the_variable_the_users_own_cache(monkeypatch):
    from platformdirs import user_cache_path

    monkeypatch.delenv("NNJIT_CACHE_DIR")
    assert directory.directory() == user_cache_path("nnjit", appauthor=False)


def damage(file, how):
    data = bytearray(file.read_bytes())
    if how == "truncated":
        data = data[: len(data) // 2]
    elif how == "empty":
        data = b""
    else:  # one bit, in the machine code
        data[len(data) // 2] ^= 4
    file.write_bytes(data)


@pytest.mark.parametrize(
    "suffix, how", [(".nbc", "truncated"), (".nbc", "a bit"), (".nbc", "empty"), (".nbi", "truncated")]
)
def test_a_damaged_file_is_compiled_again_with_one_warning(fresh, module, suffix, how):
    kernel = module().double
    doubled(kernel)
    (file,) = stored(fresh, suffix)
    damage(file, how)
    y, given = doubled(kernel)
    assert y == [2.0, 4.0, 6.0]
    assert len(given) == 1 and "compiling again" in given[0] and str(fresh) in given[0]
    assert doubled(kernel) == ([2.0, 4.0, 6.0], []), "the damage stayed"


def test_a_full_disk_means_compiling_in_memory_with_one_warning(fresh, module, monkeypatch):
    def full(self, *arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, "save", full)
    given = []
    for factor in (2.0, 3.0):
        y, warned = doubled(module(constant=f"FACTOR = {factor}").double)
        assert y == [factor, 2 * factor, 3 * factor]
        given += warned
    assert len(given) == 1 and "compiling in memory" in given[0]


def test_a_directory_that_cannot_be_made(fresh, module):
    fresh.write_text("a file where the directory should be")
    y, given = doubled(module().double)
    assert y == [2.0, 4.0, 6.0] and len(given) == 1 and str(fresh) in given[0]


@pytest.mark.skipif(os.name == "nt" or getattr(os, "geteuid", lambda: 0)() == 0, reason="rights do not bind here")
def test_a_read_only_directory(fresh, module):
    (fresh / "compiled").mkdir(parents=True)
    assert directory.writable()
    (fresh / "compiled").chmod(0o500)
    assert not directory.writable()
    assert doubled(module().double) == ([2.0, 4.0, 6.0], []) and not stored(fresh, "*")


def test_a_read_only_file_system(fresh, module, monkeypatch, two_processors):
    """Code that is there is loaded, other code is compiled in memory; no warning, and no helper process."""
    from nnjit.kernels.compiler import prepare
    from nnjit.kernels.cpu.conv_packing import pack_taps
    from nnjit.kernels.cpu.matrix import product
    from nnjit.kernels.cpu.padding import pad_and_dilate

    one, two = module().double, module(constant="FACTOR = 3.0").double
    doubled(one)

    def refuse(self, *arguments):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(IndexDataCacheFile, "save", refuse)
    monkeypatch.setattr(directory, "writable", lambda: False)
    monkeypatch.setattr(subprocess, "Popen", None)
    compiled = cache.compiled
    assert doubled(one) == ([2.0, 4.0, 6.0], []) and cache.compiled == compiled
    assert doubled(two) == ([3.0, 6.0, 9.0], []) and cache.compiled == compiled + 1
    items = [prepare.Item(word.py_func, None, ()) for word in (product, pad_and_dilate, pack_taps)]
    with prepare.helped(prepare.Work(items, np.float64)):
        pass


CHANGES = {
    "a constant": {"constant": "FACTOR = 3.0"},
    "the type of a constant": {"constant": "FACTOR = np.float32(2.0)"},
    "a helper": {"helper": "v + 1"},
    "the source": {"extra": "+ 1"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_decides_the_code_is_in_the_key(module, change):
    one, same, other = (module(**options).double for options in ({}, {}, CHANGES[change]))
    assert one.source.key() == same.source.key() != other.source.key()
    assert one.python(np.float64).__name__ == same.python(np.float64).__name__ != other.python(np.float64).__name__
    assert one.python(np.float32).__name__ != one.python(np.float64).__name__


@pytest.mark.parametrize("small, large", [("np.float32(2.5)", "np.float32(3.5)"), ("np.arange(3.0)", "np.arange(4.0)")])
def test_constants_of_numpy_are_in_the_key(module, small, large):
    keys = {module(constant=f"FACTOR = {value}").double.source.key() for value in (small, large, small)}
    assert len(keys) == 2


KINDS = {  # what a kernel's text may refer to; each holds the number {value}, which the kernel's text does not
    "an enum": ("class Mode(enum.IntEnum):\n    LOW = VALUE", "Mode.LOW"),
    "a member of an enum": ("class Mode(enum.IntEnum):\n    LOW = VALUE\nLOW = Mode.LOW", "LOW"),
    "a named tuple": ("class Pair(typing.NamedTuple):\n    a: float\n    b: int\nPAIR = Pair(1.0, VALUE)", "PAIR.b"),
    "a default of a named tuple": ("class Pair(typing.NamedTuple):\n    b: int = VALUE", "Pair().b"),
    "a dataclass": ("@dataclasses.dataclass\nclass Pair:\n    b: int\nPAIR = Pair(VALUE)", "PAIR.b"),
    "a default of a dataclass": ("@dataclasses.dataclass\nclass Pair:\n    b: int = VALUE", "Pair.b"),
    "a class": ("class Held:\n    b = VALUE", "Held.b"),
    "a base of a class": ("class Base:\n    b = VALUE\nclass Held(Base):\n    pass", "Held.b"),
    "a method": ("def get(n=VALUE):\n    return n\nclass Held:\n    get = staticmethod(get)", "Held.get()"),
    "a dictionary": ("TABLE = {'b': {'c': VALUE}}", "TABLE['b']['c']"),
    "a list": ("TABLE = [VALUE]", "TABLE[0]"),
    "a set": ("TABLE = {'word', VALUE}", "len(TABLE)"),
    "a tuple": ("TABLE = ((VALUE,),)", "TABLE[0][0]"),
    "a tuple with an enum": ("class Mode(enum.IntEnum):\n    LOW = VALUE\nTABLE = (Mode.LOW,)", "TABLE[0]"),
    "a range": ("TABLE = range(VALUE)", "TABLE.stop"),
    "bytes": ("TABLE = bytes([VALUE])", "TABLE[0]"),
    "an array of records": ("TABLE = np.array([(VALUE,)], [('b', int)])", "TABLE[0].b"),
    "None": ("TABLE = None if VALUE == 1 else 2", "TABLE"),
    "a default": ("@njit\ndef helper(n=VALUE):\n    return n", "helper()"),
    "an option of the compiler": ("@njit(fastmath=VALUE == 1)\ndef helper():\n    return 1", "helper()"),
    "a closure": ("def make(n):\n    return njit(lambda: n)\nhelper = make(VALUE)", "helper()"),
    "a partial": ("helper = functools.partial(max, VALUE)", "helper(0)"),
    "a helper without text": ("exec(f'def helper():\\n    return {VALUE}')", "helper()"),
    "an attribute of a module": ("held = types.ModuleType('held')\nheld.b = VALUE", "held.b"),
    "what a module's function reaches": ("held = types.ModuleType('held')\nexec('def f(): return b', vars(held))\n"
                                         "held.b = VALUE", "held.f()"),
    "an element type": ("kind = np.dtype(f'f{4 * VALUE}')", "np.zeros(1, kind)[0]"),
}  # fmt: skip
USES = """
import dataclasses, enum, functools, types, typing
import numpy as np
from numba import njit, prange
from nnjit.kernels.compiler.kernel import kernel

VALUE = {constant}
{helper}

@kernel
def double(x, y):
    for i in prange(x.size):
        y[i] = x[i] * {extra}
"""


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_a_text_refers_to_is_in_the_key(module, kind):
    held, used = KINDS[kind]
    keys = [module(value, held, used, USES).double.source.key() for value in (1, 2, 1)]
    assert keys[0] == keys[2] != keys[1]
    assert cache.UNCACHED not in keys[0]


def test_keys_are_the_same_in_every_process(tmp_path):
    """The key does not depend on the order of Python's sets, and all of nnjit's kernels are cached."""
    code = """
import importlib, pkgutil
from nnjit.kernels import cpu
from nnjit.kernels.compiler import cache
from nnjit.kernels.compiler.kernel import Kernel
modules = [importlib.import_module(f"nnjit.kernels.cpu.{each.name}") for each in pkgutil.iter_modules(cpu.__path__)]
modules += [cls for cls in vars(importlib.import_module("nnjit.layers.activations")).values() if isinstance(cls, type)]
keys = [kernel.source.key() for module in modules for kernel in vars(module).values() if isinstance(kernel, Kernel)]
assert len(keys) > 50 and not any(cache.UNCACHED in key for key in keys)
print(keys)
"""
    found = {
        subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True,
                       text=True, check=True).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1


def test_files_that_emit_code_are_in_the_key(tmp_path):
    """Whatever of kernels/cpu runs while a function is compiled is in the function's key."""
    code = """
import sys
from nnjit.kernels.compiler import reached
from nnjit.kernels.cpu import matrix_transposed, winograd_rule
import numpy as np
ran = set()
def note(frame, event, _):
    if event == "call":
        ran.add(frame.f_globals.get("__name__", ""))
for word, file in (winograd_rule.sums, "tile_arithmetic"), (matrix_transposed.add_dot_products, "tile_sums"):
    ran.clear()
    sys.setprofile(note)
    word.py_func.register(np.float32)
    sys.setprofile(None)
    seen = set()
    list(reached.texts(word.py_func, seen))
    others = {name for name in ran if name.startswith("nnjit.kernels.cpu.")} - {word.py_func.__module__}
    assert "nnjit.kernels.cpu." + file in others, others
    assert others <= {getattr(each, "__name__", "") for each in seen}, others
"""
    run = subprocess.run([sys.executable, "-c", code], env=os.environ | {"NNJIT_CACHE_DIR": str(tmp_path)},
                         capture_output=True, text=True)  # fmt: skip
    assert run.returncode == 0, run.stderr


def test_what_no_text_stands_for_is_not_cached(fresh, module):
    """A kernel that refers to an object of any other kind is compiled again in every process."""
    made = module(1, "class Held:\n    pass\nclass Table:\n    held = Held()", "(2 if Table else 1)", USES).double
    assert cache.UNCACHED in made.source.key() and made.source.key() == made.source.key()
    address = "import ctypes, math\nroot = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(math.sqrt)"
    kernel = module(1, address, "root(4.0)", USES).double
    assert doubled(kernel) == ([2.0, 4.0, 6.0], [])
    assert not list(fresh.rglob("*.nb?"))


def test_two_versions_of_a_file_in_two_processes(tmp_path):
    """With one cache and a changed enum, named tuple, default or module, each process computes with its own numbers."""
    (tmp_path / "settings_of_test_cache.py").write_text("import os\nFACTOR = float(os.environ['FACTOR'])\n")
    text = """
import enum, os, typing
import numpy as np
from numba import njit, prange
from nnjit.kernels.compiler.kernel import kernel
import settings_of_test_cache as settings
class Mode(enum.IntEnum):
    LOW = {value}
class Pair(typing.NamedTuple):
    a: float
    b: float
PAIR = Pair(1.0, {value}.0)
@njit
def helper(v, factor={value}):
    return v * factor
@kernel
def scaled(x, y):
    for i in prange(x.size):
        y[i] = Mode.LOW * 1000 + PAIR.b * 100 + helper(x[i]) * 10 + settings.FACTOR
x = np.ones(1)
scaled(x, x)
print(int(x[0]))
"""
    environment = os.environ | {"NNJIT_CACHE_DIR": str(tmp_path / "cache")}
    for value, factor, expected in ((1, 1, 1111), (2, 1, 2221), (2, 2, 2222)):
        (tmp_path / "mine.py").write_text(text.format(value=value))
        command, environment["FACTOR"] = [sys.executable, str(tmp_path / "mine.py")], str(factor)
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.stdout.strip() == str(expected), done.stderr


def test_a_changed_helper_is_compiled(fresh, module):
    assert doubled(module().double)[0] == [2.0, 4.0, 6.0]
    assert doubled(module(helper="v + 1").double)[0] == [4.0, 6.0, 8.0]
    assert doubled(module(constant="FACTOR = 10").double)[0] == [10.0, 20.0, 30.0]
    assert len(stored(fresh, ".nbc")) == 3


def test_options_of_compilation_are_in_the_key(fresh, module):
    """An option changes the name under which code is kept; the module's name does not."""
    from numba import types

    names, loaded = set(), []
    for options in ({}, {"error_model": "python"}, {"fastmath": {"contract", "nsz"}}, {}):
        function = module().double.python(np.float64)
        array = types.Array(types.float64, 1, "C")
        signature = (array, array, types.intp, types.intp)
        made = compiler.compiled(function, signature, no_cfunc_wrapper=True, **options)
        names.add(made.py_func.__name__)
        loaded.append(bool(made.stats.cache_hits))
    assert len(names) == 3 and loaded == [False, False, False, True]


def test_the_compiler_itself_is_in_the_key(monkeypatch):
    before = cache.digest("text")
    assert before == cache.digest("text") != cache.digest("other text")
    monkeypatch.setattr(cache, "_machinery", lambda: "another way of making code")
    assert cache.digest("text") != before


LAYER = """
from numba import prange
from nnjit.layers import Layer, kernel
from nnjit.registry import register

{constant}

@register("times_for_test_cache", force=True)
class Times(Layer):
    @kernel
    def forward(x, y):
        for i in prange(x.shape[0]):
            y[i, 0] = FACTOR * x[i, 0]

    @kernel
    def backward_input(dy, dx):
        for i in prange(dy.shape[0]):
            dx[i, 0] = FACTOR * dy[i, 0]
"""


@pytest.mark.parametrize("inline", [True, False])
def test_a_program_is_kept_under_the_hash_of_its_kernels(module, monkeypatch, inline):
    """The text of a program does not change with a kernel's source, so the key must; for one key it is made once."""
    keys, kept = [], {}

    class Seen:
        def __init__(self, program, space, state, key):
            keys.append(key)

        def build(self):
            return {}

        def load(self):
            assert self

    monkeypatch.setattr(assemble, "Functions", Seen)
    monkeypatch.setattr(assemble, "_assembled", kept)
    monkeypatch.setattr("nnjit.program.schedule.INLINE", 10**9 if inline else 0)
    texts = set()
    for constant in ("FACTOR = 2.0", "FACTOR = 3.0", "FACTOR = 2.0"):
        module(constant=constant, text=LAYER)
        net = compose(["times_for_test_cache", "dense(1, init='constant(1)')"], (1,), dtype="float64")
        texts.add(net.compile("quadratic", "sgd(0.1)", batch_size=2).source)
    assert len(texts) == 1 and len(set(keys)) == 2 and keys == list(kept)


def test_kernels_that_are_inlined_are_on_disk_too(fresh):
    """Another small network links their LLVM code, and is as right as one that compiled it."""
    from nnjit.kernels.compiler import kernel

    def predicted(units):
        kernel._inlined.__wrapped__.cache_clear()  # as in another process
        net, x = compose(f"dense({units}) tanh", (3,), dtype="float64", seed=1), np.arange(6.0).reshape(2, 3)
        program = net.compile(None, batch_size=2)
        W, b = net.parameters.values()
        assert program.plan.shares.inline
        np.testing.assert_allclose(program.predict(program.state, x), np.tanh(x @ W.T + b), rtol=1e-12)
        return {file: file.stat().st_mtime_ns for file in stored(fresh, ".nbc") if file.name.startswith("part_")}

    first = predicted(4)
    assert len(first) >= 4 and predicted(5) == first, "compiled again"


def test_processes_that_start_at_once(tmp_path):
    """Two processes with an empty cache and the same kernels both succeed, with the same bits."""
    code = (
        "import warnings; warnings.simplefilter('error')\n"
        "import numpy as np\n"
        "from nnjit.kernels.cpu import residual, softmax\n"
        "x = np.linspace(-1, 1, 8); y, z = np.empty(8), np.empty((2, 4, 1))\n"
        "residual.add(x, x, y); softmax.forward(y.reshape(2, 4, 1), z)\n"
        "assert np.allclose(z.sum(axis=1), 1); print(z.tobytes().hex())"
    )
    environment = {**os.environ, "NNJIT_CACHE_DIR": str(tmp_path)}
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    ended = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0] * 2, [error.decode()[-500:] for _, error in ended]
    assert len({out for out, _ in ended}) == 1
    assert not list(Path(tmp_path, "compiled").glob("*.tmp.*")) and len(stored(tmp_path, ".nbc")) == 2


def items_of(words):
    from nnjit.kernels.compiler.prepare import Item
    from nnjit.kernels.compiler.source import Source

    return [Item(word.py_func, None, tuple(Source(word.py_func).linked())) for word in words]


def test_a_second_process_compiles_from_the_other_end(fresh, monkeypatch, two_processors):
    """The helper finds the functions by name and leaves their code in the cache, the last one first."""
    from nnjit.kernels.compiler import prepare
    from nnjit.kernels.cpu.conv_packing import pack_taps
    from nnjit.kernels.cpu.matrix import pack_a, packed_product, product
    from nnjit.kernels.cpu.padding import pad_and_dilate

    work = prepare.Work(items_of((pack_a, pad_and_dilate, pack_taps, packed_product, product)), np.float64)
    before = cache.compiled
    with prepare.helped(work):
        deadline = time.monotonic() + 60
        while work.left and time.monotonic() < deadline:
            time.sleep(0.05)
        assert work.take() is None
        work.wait()
    assert cache.compiled == before
    assert {file.name[: file.name.index("_", 8)] for file in fresh.rglob("*.nbc")} >= {
        "matrix_product",
        "matrix_packed",
    }
    assert len(stored(fresh, ".nbc")) == 5, "each once, although product calls packed_product, which calls pack_a"
    monkeypatch.setattr(subprocess, "Popen", None)
    with prepare.helped(prepare.Work(work.left + items_of((pack_a, product)), np.float64)):
        pass  # two functions are not worth a process


def test_work_is_taken_once_and_in_order():
    """The process waits for the helper only if nothing else is left."""
    from nnjit.kernels.compiler.prepare import Item, Work

    class Named(Item):
        def name(self, real):
            return None if self.function == "mine" else self.function

    a, b, c, mine = (
        Named(*each) for each in (("a", None, ()), ("b", None, "a"), ("c", None, "b"), ("mine", None, "b"))
    )
    work = Work([a, b, c, mine], np.float32)
    assert work.give() == (c, "c") and work.give() == (b, "b"), "from the end, but what it knows by name"
    assert work.take() == a and work.left == [mine]
    waiting = threading.Thread(target=lambda: taken.append(work.take()), daemon=True)
    taken = []
    waiting.start()
    work.returned(c)
    waiting.join(0.2)
    assert not taken, "it needs b"
    work.returned(b)
    waiting.join(10)
    assert taken == [mine] and work.take() is None and work.give() is None
    work.wait()


def test_a_helper_that_dies_leaves_its_work(fresh, monkeypatch, two_processors):
    from nnjit.kernels.compiler import prepare, second
    from nnjit.kernels.cpu.conv_packing import pack_taps
    from nnjit.kernels.cpu.matrix import pack_a
    from nnjit.kernels.cpu.padding import pad_and_dilate

    monkeypatch.setattr(second, "MODULE", "nnjit.no_such_module")
    work = prepare.Work(items_of((pack_a, pad_and_dilate, pack_taps)), np.float64)
    with prepare.helped(work):
        time.sleep(0.5)
        count = len(list(iter(work.take, None)))
        work.wait()
    assert count == 3


def test_a_second_process_finds_what_a_kernel_was_compiled_for(fresh):
    """Arguments of every kind have a letter; the helper's code in the cache is the code this process would make."""
    from nnjit.kernels.compiler import prepare
    from nnjit.kernels.cpu import dropout

    real, whole = (types.Array(kind, 1, "C") for kind in (types.float64, types.int64))
    kinds = [real, whole, types.UniTuple(types.intp, 3), types.boolean, types.intp, types.float64]
    assert [prepare._kind(prepare._letter(kind), np.float64) for kind in kinds] == kinds
    x = np.ones(6)
    signature = tuple(map(type_of, (x, x, 0.5, True, 1, 0, 3)))
    name = prepare._called(dropout.forward, signature, np.float64)
    assert prepare._called(dropout.forward, signature, np.float32) is None, "it has no letter for the other floats"
    command = [sys.executable, "-m", "nnjit.kernels.compiler.prepare"]
    environment = os.environ | {"NNJIT_CACHE_DIR": str(fresh)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as helper:  # it ends when its input ends
        assert helper.stdout.readline() == "\n"
        helper.stdin.write(f"float64:{name}\n")
        helper.stdin.flush()
        assert helper.stdout.readline() == "\n"
    made = {file.name for file in fresh.rglob("*dropout_forward*.nb?")}
    assert made
    Kernel(dropout.forward.function, dropout.forward.form).compile(signature, np.float64)
    assert {file.name for file in fresh.rglob("*dropout_forward*.nb?")} == made


def test_a_command_starts_the_second_process_early(fresh, monkeypatch, two_processors):
    """It does so only for an empty cache; the work goes to this process, which ends if there is none."""
    from nnjit.kernels.compiler import prepare, second
    from nnjit.kernels.cpu.conv_packing import pack_taps
    from nnjit.kernels.cpu.matrix import pack_a
    from nnjit.kernels.cpu.padding import pad_and_dilate

    with second.early(wanted=False):
        assert not second._early
    with second.early():
        (unused,) = second._early
        assert unused.poll() is None
    assert unused.poll() is not None and not second._early
    with pytest.raises(ZeroDivisionError), second.early():
        (process,) = second._early
        with prepare.helped(prepare.Work(items_of((pack_a, pad_and_dilate, pack_taps)), np.float64)):
            assert process.poll() is None and not second._early
        assert process.poll() is not None
        _ = 1 / 0
    with second.early(), prepare.helped(prepare.Work([], np.float64)):
        assert not second._early
    monkeypatch.setattr(subprocess, "Popen", None)
    (fresh / "compiled").mkdir(parents=True, exist_ok=True)
    (fresh / "compiled" / "one.nbi").touch()
    with second.early():
        assert not second._early, "there is code, perhaps all that is needed"


@pytest.mark.skipif(os.name == "nt", reason="no such signals there")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_second_process_ends_with_the_first(tmp_path, number):
    """If the first process is killed in the middle of its work, it leaves no helper behind."""
    code = """
import os, subprocess, time
import numpy as np
from nnjit.kernels.compiler import prepare, second
from nnjit.kernels.cpu.conv_packing import pack_taps
from nnjit.kernels.cpu.matrix import product
from nnjit.kernels.cpu.padding import pad_and_dilate
started = subprocess.Popen
def spy(command, **options):
    process = started(command, **options)
    print(process.pid, flush=True)
    return process
second.subprocess.Popen, os.cpu_count = spy, lambda: 2
items = [prepare.Item(word.py_func, None, ()) for word in (product, pad_and_dilate, pack_taps)]
with prepare.helped(prepare.Work(items, np.float64)):
    time.sleep(60)
"""
    environment = os.environ | {"NNJIT_CACHE_DIR": str(tmp_path)}
    first = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    helper = int(first.stdout.readline())
    assert alive(helper)
    first.send_signal(number)
    first.communicate()
    deadline = time.monotonic() + 60
    while alive(helper) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(helper)


def alive(process):
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat")  # a finished process whose parent did not wait is a zombie
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_formulas_keep_the_compiler_that_marks_their_loops():
    from nnjit.kernels.compiler.loops import LoopCompiler
    from nnjit.kernels.compiler.part import ShortCompiler
    from nnjit.kernels.cpu import dropout
    from nnjit.layers.activations import Tanh

    x = np.ones(4)
    _, formula = Tanh.forward.compile((type_of(x), type_of(x)), np.float64)
    assert formula._compiler.pipeline_class is LoopCompiler
    signature = tuple(map(type_of, (x, x, 0.5, True, 1, 0, 3)))
    _, loop = dropout.forward.compile(signature, np.float64)
    assert loop._compiler.pipeline_class is ShortCompiler
