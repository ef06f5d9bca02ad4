"""nnjit in an unusual Python or environment: a sentence says what cannot work."""

import linecache
import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from command_line import SCRIPT, nnjit
from nnjit import registry
from nnjit.errors import NnjitError, SpecError

LAYER = """
import numpy as np
from nnjit import registry
from nnjit.layers import Layer, kernel
from numba import prange

@registry.register("{name}", force=True)
class Typed(Layer):
    @kernel
    def forward(x, y):
        for n in prange(x.shape[0]):
            for i in range(x.shape[1]):
                y[n, i] = 2.0 * x[n, i]

    @kernel
    def backward_input(dy, dx):
        for n in prange(dy.shape[0]):
            for i in range(dy.shape[1]):
                dx[n, i] = 2.0 * dy[n, i]
"""
USE = """
net = registry.compose(["{name}"], (3,))
print(net.predict(np.ones((2, 3))).tolist())
"""


def python(*arguments, stdin=None, **environment):
    """Run a Python process; return its standard output, its standard error and its exit status."""
    done = subprocess.run([sys.executable, *arguments], input=stdin, env=os.environ | environment, capture_output=True,
                          text=True)  # fmt: skip
    return done.stdout, done.stderr, done.returncode


def command(*arguments, **environment):
    """Run the command line in a process with these variables; it must fail with one sentence, which is returned."""
    done = subprocess.run([*SCRIPT, *map(str, arguments)], env=os.environ | environment, capture_output=True, text=True)
    said = done.stderr.splitlines()
    assert done.returncode == 1 and said[-1].startswith("nnjit: "), done.stderr
    assert [line for line in said[:-1] if not line.startswith("compiling")] == []
    return said[-1]


# -- a layer without a file --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["standard input", "-c", "exec"])
def test_a_layer_without_a_file(way):
    """Its source cannot be read, so no kernel can be made from it."""
    text = (LAYER + USE).format(name="typed")
    if way == "standard input":
        out, error, status = python("-", stdin=text)
    else:
        out, error, status = python("-c", text if way == "-c" else f"exec({text!r})")
    if status == 0:  # Python keeps the text of -c from version 3.13 on
        assert out.split("\n")[0] == str([[2.0] * 3] * 2)
    else:
        assert error.splitlines()[-1].startswith("nnjit.errors.SpecError: __main__.Typed.forward: its source cannot be")
        assert "put into a file" in error and "OSError" not in error


def test_a_formula_without_a_file():
    space = {"__name__": "nowhere"}
    exec("from nnjit.layers import Layer, elementwise\n@elementwise\ndef forward(x):\n    return x", space)
    with pytest.raises(SpecError, match=r"nowhere\.forward: its source cannot be read.*put into a file"):
        space["forward"](np.ones(3), np.ones(3))


def test_a_layer_in_a_notebook():
    """IPython gives a cell's text to linecache under its name, so it has a source."""
    name, text = "<ipython-input-1-abc>", LAYER.format(name="cell_for_test")
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    exec(compile(text, name, "exec"), {"__name__": "__main__"})
    net = registry.compose(["cell_for_test"], (3,))
    assert np.array_equal(net.predict(np.ones((2, 3))), np.full((2, 3), 2.0))
    registry.unregister("cell_for_test")


def test_a_file_that_was_changed_after_its_import(tmp_path):
    """The file's text now is not that of the class that Python has."""
    (tmp_path / "changed_for_test.py").write_text(LAYER.format(name="changed"))
    code = """
import pathlib, changed_for_test
file = pathlib.Path(changed_for_test.__file__)
file.write_text(file.read_text().replace("import numpy as np", "import numpy as np" + chr(10) * 3))
from nnjit import registry
registry.compose(["changed"], (3,)).forward([[1.0, 2.0, 3.0]])
"""
    _, error, status = python("-c", code, PYTHONPATH=str(tmp_path))
    assert status == 1 and "changed since it was imported; start Python again" in error.splitlines()[-1]


# -- Numba's environment -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("run", "--layers", "flatten dense(10)", "--output", "run"), ("check", "dense")])
def test_the_compiler_is_switched_off(here, arguments):
    assert "NUMBA_DISABLE_JIT is set" in command(*arguments, NUMBA_DISABLE_JIT="1")
    assert list(here.iterdir()) == []


def test_what_compiles_nothing_works_without_the_compiler():
    for command in ("layers", "info"):
        done = subprocess.run([*SCRIPT, command], env=os.environ | {"NUMBA_DISABLE_JIT": "1"}, capture_output=True)
        assert done.returncode == 0 and done.stdout


def test_networks_with_the_compiler_switched_off():
    code = """
import numpy as np
from nnjit import registry
from nnjit.errors import NnjitError
for layers in ("dense(2)", "dense(2000)"):  # inlined, and not
    net = registry.compose(layers, (3,))
    for call in (net.forward, net.predict, lambda x: net.fit(x, np.zeros(2, int))):
        try:
            call(np.ones((2, 3)))
        except NnjitError as error:
            print(str(error).startswith("NUMBA_DISABLE_JIT is set"))
"""
    assert python("-c", code, NUMBA_DISABLE_JIT="1") == ("True\n" * 6, "", 0)


@pytest.mark.skipif(find_spec("scipy") is None, reason="there is no SciPy")
def test_scipy_is_imported_only_by_code_that_needs_it():
    """Numba's compiler imports scipy.linalg when it starts; in a process of nnjit it does when np.dot is compiled."""
    code = """
import sys
import numpy as np
from nnjit import registry
from numba import njit
net = registry.compose("dense(2)", (3,))
print(net.predict(np.ones((2, 3))).shape, "scipy.linalg" in sys.modules)
print(njit(lambda a: np.dot(a, a))(np.arange(3.0)), "scipy.linalg" in sys.modules)
"""
    assert python("-c", code) == ("(2, 2) False\n5.0 True\n", "", 0)


@pytest.mark.parametrize("layer", ["tbb", "nonsense"])
def test_a_threading_layer_that_is_not_there(here, layer):
    if layer == "tbb" and find_spec("tbb"):
        pytest.skip("tbb is here")
    sentence = command("run", "--layers", "flatten dense(10)", "--threads", "1", "--output", "run",
                       NUMBA_THREADING_LAYER=layer)  # fmt: skip
    assert f"NUMBA_THREADING_LAYER is '{layer}'" in sentence and "choose omp or workqueue" in sentence
    assert list(here.iterdir()) == []
    out, _, status = python("-c", "from nnjit.cli.main import main; main()", "info", NUMBA_THREADING_LAYER=layer)
    assert status == 0 and f"threads       none (NUMBA_THREADING_LAYER is '{layer}'" in out


# -- plug-ins that do not compile --------------------------------------------------------------------------------------

BROKEN = {
    "an unknown name": ("y[n, i] = nothing(x[n, i])", "NameError: name 'nothing' is not defined"),
    "a wrong type": ("y[n, i] = 'text'", "setitem"),
    "a wrong attribute": ("y[n, i] = x.wrong", "wrong"),
    "no loop": ("yield x", "prange"),
}


@pytest.fixture
def broken(here):
    def made(line):
        name = f"broken_for_test_{[line for line, _ in BROKEN.values()].index(line)}"
        text = LAYER.format(name=name).replace("y[n, i] = 2.0 * x[n, i]", line)
        if line == "yield x":
            text = text.replace("for n in prange(x.shape[0])", "for n in range(x.shape[0])").replace(
                line, "y[n, i] = 1"
            )
        (here / f"{name}.py").write_text(text)
        return name, here / f"{name}.py"

    return made


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("layers, data", [("flatten {} dense(10)", "digits"), ("{} dense(2)", "ten_points")])
def test_run_with_a_plugin_that_does_not_compile(broken, here, case, layers, data):
    """The sentence is that of `nnjit check`, and there is no run directory; in an inlined network too."""
    line, words = BROKEN[case]
    name, file = broken(line)
    arguments = ["--layers", layers.format(name), "--data", data, "--plugin", file, "--output", "run"]
    said = [line for line in nnjit("run", *arguments, status=1).splitlines() if not line.startswith("compiling")]
    assert len(said) == 1 and "Typed.forward does not compile: " in said[0] and words in said[0]
    assert not (here / "run").exists()
    with pytest.raises(NnjitError, match="does not compile"):
        registry.compose([name], (3,)).forward(np.ones((2, 3)))
