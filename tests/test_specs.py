"""Specs are read as data, options are validated by type, and a written spec reads back as the same spec."""

import ast
import copy
import math
import pickle
import textwrap
from dataclasses import field
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nnjit.errors import SpecError
from nnjit.registry import Catalogue, Options, Spec, load_plugin, parse, split

things = Catalogue("thing", "test.things")


@things.register("sample")
class Sample(Options):
    """One option of every type."""

    count: int
    rate: float = 1
    flag: bool = True
    word: str = "a"
    pair: tuple = (1, 2)
    sizes: int | tuple[int, ...] = 3
    steps: list[int] = field(default_factory=list)
    padding: str | int | tuple = "valid"
    border: Literal["zeros", "edge", "reflect"] = "zeros"
    limit: float | None = None
    table: dict = field(default_factory=dict)
    anything: Any = None

    shared: ClassVar[int] = 7
    kernel = print  # no annotation: no option

    def validate(self):
        if self.count < 0:
            raise SpecError("sample: count: expected a number that is not negative")


@things.register("extended")
class Extended(Sample):
    extra: int = 5


def sentence(error):
    """Return the error's text, which must be one line."""
    text = str(error.value)
    assert text and "\n" not in text
    return text


# Reading


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("relu", Spec("relu")),
        (" relu () ", Spec("relu")),
        ("conv(8, 3, padding='same')", Spec("conv", (8, 3), {"padding": "same"})),
        ('csv(path="a b.csv", label=-1)', Spec("csv", (), {"path": "a b.csv", "label": -1})),
        ("adam(lr=1e-3, decay=+.5)", Spec("adam", (), {"lr": 0.001, "decay": 0.5})),
        ("norm(max=1.0, p=inf)", Spec("norm", (), {"max": 1.0, "p": math.inf})),
        (
            "a(-inf, True, None, (1, (2, 3)), [4], {'k': 5})",
            Spec("a", (-math.inf, True, None, (1, (2, 3)), [4], {"k": 5})),
        ),
        ("a(\n  1,\n)", Spec("a", (1,))),
        (("dense", {"units": 10}), Spec("dense", (), {"units": 10})),
        (["dense", {"units": 10}], Spec("dense", (), {"units": 10})),
        ({"layer": "conv", "filters": 8}, Spec("conv", (), {"filters": 8})),
        ({"name": "conv", "filters": 8}, Spec("conv", (), {"filters": 8})),
        ({"layer": "input", "name": "x"}, Spec("input", (), {"name": "x"})),
    ],
)
def test_forms(text, expected):
    assert repr(parse(text)) == repr(expected)


def test_the_key_of_a_table_is_the_word_of_the_kind():
    table = {"dataset": "csv", "path": "x"}
    assert parse(table, "dataset") == Spec("csv", (), {"path": "x"})
    assert table == {"dataset": "csv", "path": "x"}  # the user's dict does not change
    with pytest.raises(SpecError, match="does not say which layer"):
        parse(table, "layer")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("conv(padding=same)", "text needs quotes, padding='same'"),
        ("residual(relu())", "a spec inside a spec needs quotes"),
        ("a(__import__('os').getcwd())", "expected a number, text"),
        ("a(x.y)", "expected a number, text"),
        ("a(1 + 1)", "expected a number, text"),
        ("a(2j)", "expected a number, text"),
        ("a(-True)", "expected a number, text"),
        ("a(f'{1}')", "expected a number, text"),
        ("a(b'x')", "expected a number, text"),
        ("a(*[1])", "expected a number, text"),
        ("a({1, 2})", "expected a number, text"),
        ("a({[1]: 2})", "cannot be the key"),
        ("a(**{'b': 1})", "write option=value"),
        ("a(x=1, x=2)", "x is given twice"),
        ("nn.conv(3)", "expected a name"),
        ("conv(3)(4)", "expected a name"),
        ("3", "expected a name"),
        ("lambda: 3", "expected a name"),
        ("conv 8", "at character 6"),
        ("", "does not read as name"),
        ("conv(8", "character 5 that is never closed"),
        ("conv(8]", "']' at character 7 instead of ')'"),
        ("conv 8)", "character 7 that was never opened"),
        ("csv('x)", "quote at character 5"),
        ("(" * 5000, "more than 20 brackets"),
        ("a(" + "-" * 9000 + "1)", "does not read"),
        ("a(" + "9" * 5000 + ")", "too many digits"),
        ("a(0x" + "f" * 5000 + ")", "20000 bits is too large"),
        ("a" * 10_001, "at most 10000"),
        ("a('\0')", "null"),
        ("\udc80", "does not read"),
        (3, "got 3 (int)"),
        (None, "got None"),
        (Sample, "give an instance, Sample(...)"),
        (["relu", "relu"], "expected a pair"),
        (("dense", {"units": 1}, 3), "expected a pair"),
        (("dense(3)", {"bias": True}), "a bare name"),
        ((3, {}), "a bare name"),
        (("dense", {1: 2}), "an option's name is text"),
    ],
)
def test_unreadable(text, part):
    with pytest.raises(SpecError) as error:
        parse(text)
    assert part in sentence(error)
    assert len(sentence(error)) < 400  # for every input


ALPHABET = "()[]{}'\",=.-+*0159einfxa_ \\\n#:jJ"


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(st.text(max_size=40), st.text(ALPHABET, max_size=60), st.text(ALPHABET, max_size=60).map("a({})".format))
)
@example("a('\\udc80')")
@example("a(1if 2else 3)")
def test_any_text_is_a_spec_or_one_sentence(text):
    try:
        spec = parse(text)
    except SpecError as error:
        assert "\n" not in str(error)
        str(error).encode()  # printable everywhere
        return
    assert repr(parse(str(spec))) == repr(spec)


whole = st.integers(-(2**63), 2**63)
numbers = st.one_of(whole, st.floats(allow_nan=False))
plain = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=8))
values = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=3) | whole, inner, max_size=2),
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(values.filter(lambda value: "inf" not in repr(value)))
def test_values_are_those_of_python_literals(value):
    assert repr(parse(f"a(v={value!r})").kwargs["v"]) == repr(ast.literal_eval(repr(value)))


# Splitting


def test_split():
    line = "conv(8, 3, padding='a b, (c') relu,maxpool( (2, 2) )\n flatten dense(10)"
    assert split(line) == ["conv(8, 3, padding='a b, (c')", "relu", "maxpool( (2, 2) )", "flatten", "dense(10)"]
    assert split("  ,  ") == []
    assert len(split(" ".join(["conv(8, 3)"] * 2000))) == 2000


@pytest.mark.parametrize("text", ["conv(8 relu", "conv(8)) relu", "conv (8)", "a 'b", "a(]", "[relu]", "x" * 200_000])
def test_split_of_what_does_not_match(text):
    with pytest.raises(SpecError) as error:
        split(text)
    assert sentence(error)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.builds(lambda value: str(Spec("a", (value,))), values), min_size=1, max_size=4),
    st.sampled_from([" ", ",", " ,\n "]),
)
def test_split_finds_what_was_joined(specs, separator):
    assert split(separator.join(specs)) == specs


# Options


def test_options_in_order_by_position_and_by_name():
    sample = Sample(4, 2, word="b")
    assert list(sample.options()) == list(Sample.__annotations__)[:-1]  # without the ClassVar
    assert (sample.count, sample.rate, sample.word, sample.flag) == (4, 2.0, "b", True)
    assert Extended(1, extra=6).options() == {**Sample(1).options(), "extra": 6}
    assert sample != Sample(4, 2, word="b")  # identity: an instance may be a key
    assert sample.kernel is print and Sample.shared == 7


def test_values_are_normalised():
    sample = Sample(
        np.int64(3), np.float32(0.5), np.bool_(False), np.str_("w"), [1, [2, 3]], [np.int32(4), 5], (6,), limit=2
    )
    expected = (3, 0.5, False, "w", (1, (2, 3)), (4, 5), [6], 2.0)
    found = (sample.count, sample.rate, sample.flag, sample.word, sample.pair, sample.sizes, sample.steps, sample.limit)
    assert repr(found) == repr(expected)  # the types are Python's
    assert Sample(1).rate == 1.0 and isinstance(Sample(1).rate, float)  # defaults too
    assert Sample(1).steps is not Sample(1).steps
    assert Sample(1, limit=math.inf).limit == math.inf


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"count": "eight"}, 'sample: count: expected a whole number, got "eight" (str)'),
        ({"count": True}, "expected a whole number, got True (bool)"),
        ({"count": 3.0}, "expected a whole number, got 3.0 (float)"),
        ({"count": 10**5000}, "expected a whole number, got a whole number of 16610 bits"),
        ({"rate": "1"}, "expected a number"),
        ({"rate": False}, "expected a number"),
        ({"rate": math.nan}, "expected a number, got nan (float)"),
        ({"rate": 10**400}, "expected a number, got a whole number of 1329 bits"),
        ({"flag": 1}, "expected True or False, got 1 (int)"),
        ({"word": 3}, "expected text"),
        ({"pair": 3}, "expected a tuple"),
        ({"sizes": "3"}, "expected a whole number or a tuple of whole numbers"),
        ({"sizes": (1, 2.5)}, "expected a whole number or a tuple of whole numbers, got (1, 2.5) (tuple)"),
        ({"steps": [1, "b"]}, "expected a list of whole numbers"),
        ({"padding": 2.5}, "expected text, a whole number or a tuple"),
        ({"border": "zeroes"}, "expected 'zeros', 'edge' or 'reflect', got \"zeroes\" (str); did you mean zeros?"),
        ({"limit": "x"}, "expected a number or None"),
        ({"table": []}, "expected a table"),
        ({"count": -1}, "not negative"),
        ({"cuont": 2}, 'unknown option "cuont"; did you mean count?'),
        ({"kernel": 2}, "unknown option"),
        ({"shared": 2}, "unknown option"),
        ({"self": 2}, "unknown option"),
    ],
)
def test_wrong_options(options, part):
    with pytest.raises(SpecError) as error:
        things.create(("sample", {"count": 1, **options}))
    assert part in sentence(error)
    assert sentence(error).startswith("sample: ")


def test_number_of_options():
    with pytest.raises(SpecError, match=r"sample: count missing; the form is sample\(count, rate=1, flag=True"):
        Sample()
    with pytest.raises(SpecError, match="count is given twice, by position and by name"):
        Sample(1, count=2)
    with pytest.raises(SpecError, match=r"got 3 values; the form is one\(size=1\)"):

        @things.register("one")
        class One(Options):
            size: int = 1

        One(1, 2, 3)


def test_what_nests_without_end_is_one_sentence():
    endless = []
    endless.append(endless)
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for value in (endless, deep):
        with pytest.raises(SpecError) as error:
            Sample(1, pair=value)
        assert "pair" in sentence(error)


def test_a_class_that_cannot_have_such_options():
    with pytest.raises(SpecError, match="'spec', a method of its base"):
        type("Bad", (Options,), {"__annotations__": {"spec": int}})
    with pytest.raises(SpecError, match="follows one that has a default"):
        type("Bad", (Options,), {"__annotations__": {"a": int, "b": int}, "a": 1})


def test_a_value_error_of_validate_is_one_sentence_with_the_name():
    @things.register("picky")
    class Picky(Options):
        size: int = 1

        def validate(self):
            if self.size > 1:
                raise ValueError("too big")

    with pytest.raises(SpecError, match=r"^picky: too big$"):
        Picky(2)


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
def test_annotations_as_text(tmp_path, future):
    name = f"annotated{len(future)}"
    (tmp_path / f"{name}.py").write_text(
        future
        + textwrap.dedent(f"""
        from typing import ClassVar, Literal as L, Optional
        from nnjit.registry import Options
        class {name.title()}(Options):
            size: int | tuple[int, ...]
            mode: L["a", "b"] = "a"
            rate: Optional[float] = None
            note: ClassVar[str] = "none"
        """)
    )
    cls = getattr(load_plugin(tmp_path / f"{name}.py"), name.title())
    assert cls([1, 2], rate=1).options() == {"size": (1, 2), "mode": "a", "rate": 1.0}
    with pytest.raises(SpecError, match="size: expected a whole number or a tuple of whole numbers"):
        cls("x")
    with pytest.raises(SpecError, match="expected 'a' or 'b'"):
        cls(1, "c")


# Writing


def test_spec_leaves_out_defaults():
    assert Sample(3).spec() == repr(Sample(3)) == "sample(count=3)"
    assert Sample(3, 1.0, True, padding="same").spec() == "sample(count=3, padding='same')"
    assert Sample(3, rate=math.inf, anything=(1,)).spec() == "sample(count=3, rate=inf, anything=(1,))"
    assert Sample(3, anything=True).spec() != Sample(3, anything=1).spec()
    assert type("Bare", (Options,), {})().spec() == "Bare"


def test_an_instance_inside_is_written_as_its_spec():
    outer = Sample(1, anything=[Sample(2, word="it's"), "relu"])
    again = things.create(outer.spec())
    assert [things.create(again.anything[0]).spec(), again.anything[1]] == ['sample(count=2, word="it\'s")', "relu"]


def test_what_a_spec_cannot_say():
    with pytest.raises(SpecError) as error:
        Sample(1, anything=np.zeros(3)).spec()
    assert "sample: anything: array([0., 0., 0.]) (ndarray) cannot be written" in sentence(error)
    assert "Sample object" in repr(Sample(1, anything=np.zeros(3)))


samples = st.builds(
    Sample,
    count=st.integers(0, 2**63),
    rate=st.floats(allow_nan=False),
    flag=st.booleans(),
    word=st.text(),
    pair=st.lists(plain, max_size=3),
    sizes=whole | st.lists(whole, max_size=3),
    steps=st.lists(whole, max_size=3),
    padding=st.text() | whole | st.lists(st.tuples(whole, whole), max_size=2),
    border=st.sampled_from(["zeros", "edge", "reflect"]),
    limit=st.none() | st.floats(allow_nan=False),
    table=st.dictionaries(st.text(max_size=3), plain, max_size=2),
    anything=values,
)


@settings(max_examples=150, deadline=None)
@given(samples)
def test_a_spec_makes_an_equal_instance(sample):
    again = things.create(sample.spec())
    assert repr(again.options()) == repr(sample.options())  # repr distinguishes 1 from True and from 1.0
    assert again.spec() == sample.spec()
    table = things.create({"thing": "sample", **sample.options()})
    assert table.spec() == sample.spec()


@given(samples)
def test_pickle_and_copies_keep_specs_and_options(sample):
    for each in (copy.copy(sample), copy.deepcopy(sample), pickle.loads(pickle.dumps(sample))):
        assert type(each) is type(sample) and repr(each.options()) == repr(sample.options())
    assert str(pickle.loads(pickle.dumps(parse(sample.spec())))) == sample.spec()
