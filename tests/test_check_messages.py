"""Messages of `nnjit check` on faults in a plug-in: the author's line, the remedy, the shapes of what is bound."""

from pathlib import Path

import pytest
from nnjit import registry
from nnjit.check import certify

FILE = Path(__file__).with_name("planted_faults.py")

# Layer -> column, words of the sentence: what is wrong, the remedy, what is bound.
FAULTS = {
    "unpacks": ("shapes", ["output_shape fails on (3,)", "not enough values", "raise ShapeError for what it does not"]),
    "refuses": ("shapes", ["expected (channels, length), got (3,)", "give its check_cases shapes that it takes"]),
    "centres": ("threads", ["sample 0 of y", "couples_batch = True", "x (5, 3), y (5, 3)"]),
    "small_scratch": ("shapes", ["scratch 'kept' of shape (3,)", "write ('N', 3) in scratch()"]),
    "tight_scratch": ("shapes", ["beyond an array", "give kept the sizes that it needs", "y (1, 3), kept (1, 2)"]),
    "formula_parameter": ("shapes", ["forward is a formula", "gain is an array (3,)", "write it as a @kernel"]),
    "forgotten_kernel": ("shapes", ["forward is a plain function", "write @kernel above it"]),
    "makes_array": ("reference", ["np.zeros makes an array", "scratch()", "x (1, 3), y (1, 3)"]),
    "misspelt": ("shapes", ["takes 'wieghts'", "did you mean weights"]),
    "leaves_out": ("writes", ["leaves y[0, 2] unwritten", "set all of it", "x (1, 3), y (1, 3)"]),
    "races": ("races", ["iterations 0 and 1", "both write dgain[0]", "loop with prange over the index", "dgain (3,)"]),
    "wrong_gradient": ("gradient", ["wrong_gradient.1.gain: dC/dgain[1] is", "backward gives", "largest error",
                                    "all 2 times", "dgain (3,)"]),
    "doubles": ("float32", ["computes in float64", "write float(n)", "x (1, 3), y (1, 3)"]),
    "mish": ("extremes", ["] is nan for x = 100, where ", "max(x, 0) + log1p(exp(-abs(x)))"]),
    "no_loop": ("reference", ["must hold exactly one top-level 'for ... in prange(n)'", "write the outer", "x (3,)"]),
    "undefined": ("shapes", ["name 'factor' is not defined", "take it as an argument", "x (3,)"]),
    "untypable": ("reference", ["does not compile", "Numba refuses", "x (3,)"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    module = registry.load_plugin(FILE)
    names = [name for name in FAULTS if registry.get(name).__module__ == module.__name__]
    assert names == list(FAULTS)
    yield {row.name: row for row in certify(names).rows}
    for name in names:
        registry.unregister(name)


def fault_lines(name):
    """Return the numbers of the lines of a layer that are marked as its fault."""
    lines = FILE.read_text().splitlines()
    first = lines.index(f'@register("{name}")')
    end = next((i for i in range(first + 1, len(lines)) if lines[i].startswith("@register")), len(lines))
    return [i + 1 for i in range(first, end) if "# fault" in lines[i]]


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named_with_its_line_and_remedy(rows, name):
    column, words = FAULTS[name]
    text = rows[name].failures[column][0]
    for word in words:
        assert word in text
    (line,) = fault_lines(name)
    assert f"planted_faults.py, line {line}, " in text
    for message in (each for texts in rows[name].failures.values() for each in texts):
        assert "\n" not in message and "Traceback" not in message and "site-packages" not in message


def test_a_right_layer_beside_them_has_no_failure(rows):
    """Only the columns that a fault concerns fail: these two have no other."""
    assert set(rows["mish"].failures) == {"extremes"} and set(rows["doubles"].failures) == {"float32"}
