"""The config: checked as a whole, overridden from the command line, written and read back."""

import math
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnjit import data, registry
from nnjit.errors import NnjitError, SpecError, UsageError
from nnjit.launch.launch import build
from nnjit.storage import toml
from nnjit.training import config_file
from nnjit.training.config import Config, of_fit, resolve
from nnjit.training.settings import Settings

EXAMPLE = """
[model]
input_shape = [1, 8, 8]
layers = ["conv(filters=16, kernel_size=3, padding='same')", "relu", "maxpool(2)", "flatten", "dense(10)"]
[data]
name = "digits"            # or a spec
[training]
loss = "cross_entropy"
optimizer = "adam(lr=1e-3)"
epochs = 10
batch_size = 32            # 0: the whole set
"""


def mistakes(text, where=""):
    """Return the lines `path: fault` of a config's error."""
    with pytest.raises(SpecError) as caught:
        resolve(tomllib.loads(text), where)
    first, *rest = str(caught.value).split("\n  ")
    if not rest:
        return [first]
    assert first == f"{where or 'the config'} has {len(rest)} mistakes:"
    return rest


# -- what is accepted --------------------------------------------------------------------------------------------------


def test_the_example_of_the_documentation():
    found = resolve(tomllib.loads(EXAMPLE))
    config = found.config
    assert config.model.input_shape == [1, 8, 8]
    assert config.model.layers[0] == "conv(filters=16, kernel_size=3, padding='same')"
    assert (config.training.epochs, config.training.batch_size) == (10, 32)
    net = build(found, data.load("digits"))
    assert net.output_shape == (10,) and net.dtype == "float32"


def test_nothing_is_the_default_run():
    found = resolve({})
    assert found.config.data == {"name": "digits"} and found.config.training.loss == "cross_entropy"
    assert build(found, data.load("digits")).output_shape == (10,)


def test_every_form_of_a_spec_resolves_to_the_same_text():
    forms = ['"dense(7, False)"', '["dense", {units = 7, bias = false}]', '{layer = "dense", units = 7, bias = false}']
    for form in forms:
        table = tomllib.loads(f"[model]\nlayers = ['flatten', {form}]")
        assert resolve(table).config.model.layers == ["flatten", "dense(units=7, bias=False)"]
    assert (
        resolve({"model": {"layers": "flatten dense(7, False)"}}).config.model.layers[1] == "dense(units=7, bias=False)"
    )


@pytest.mark.parametrize(
    "section",
    [
        "name = \"csv(path='a', label=1)\"",
        'dataset = "csv"\npath = "a"\nlabel = 1',
        'name = "csv"\npath = "a"\nlabel = 1',
    ],
)
def test_data_as_spec_and_as_table(section):
    assert resolve(tomllib.loads(f"[data]\n{section}")).config.data == {"name": "csv(path='a', label=1)"}


def test_resolving_what_was_written_changes_nothing():
    once = resolve(
        {"training": {"clip": "norm(2, p=inf)", "norm": math.inf, "schedule": "cosine(0.1)"}, "run": {"threads": 1}}
    ).config
    assert resolve(tomllib.loads(once.text())).config == once
    assert once.training.clip == "norm(max=2.0, p=inf)"


def test_settings_are_those_of_training():
    found = resolve({"training": {"metrics": ["l2"], "seed": 5, "clip": "norm(1)"}}).settings
    assert isinstance(found, Settings)
    specs = [*(metric.spec() for metric in found.metrics), found.clip.spec()]
    assert (specs, found.seed, found.epochs) == (["l2", "norm(max=1.0, p=2.0)"], 5, 10)


def test_what_a_config_describes_is_made_once():
    found = resolve({"model": {"input_shape": [1, 8, 8]}})
    net = build(found, data.load("digits"))
    assert net.graph is found.graph and all(made is layer for made, layer in zip(net.layers, found.layers, strict=True))
    again = Settings(found.settings.loss, found.settings.optimizer, found.settings.schedule)
    assert again.loss is found.settings.loss and again.optimizer is found.settings.optimizer
    assert again.schedule is found.settings.schedule


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_unknown_option_of_a_layer():
    layers = '["relu", "flatten", {layer = "conv", filter = 8, kernel_size = 3}]'
    assert mistakes(f"[model]\nlayers = {layers}") == ["model.layers[2].filter: unknown option; did you mean filters?"]


def test_every_mistake_in_one_go():
    text = """
    epochs = 3
    [model]
    layers = ["flatten", "dense(unit=10)", {layer = "residual", layers = ["rleu", "dense(3, bias=2)"]},
              "dropout(rate=2)"]
    inputs = 3
    input_shape = [1, "a"]
    [traning]
    [training]
    batch_size = -1
    seed = true
    loss = "huber(dleta=1)"
    optimizer = "adam(lr='fast', beta1=[1])"
    clip = "norm(max=0)"
    metrics = ["acuracy"]
    [data]
    dataset = "csv"
    path = 3
    lable = "y"
    [run]
    device = "cpuu"
    threads = 0
    """
    found = {line.partition(": ")[0]: line.partition(": ")[2] for line in mistakes(text, "a.toml")}
    assert found["epochs"] == "unknown section; epochs belongs in [training]"
    assert found["traning"] == "unknown section; did you mean training?"
    assert found["model.layers[1].unit"].startswith("unknown option; did you mean units")
    assert found["model.layers[2].layers[0]"].startswith('no layer is called "rleu"; did you mean relu')
    assert found["model.layers[2].layers[1].bias"] == "expected True or False, got 2 (int)"
    assert found["model.layers[3]"].startswith("dropout: rate must be")
    assert found["model.inputs"] == "unknown option; did you mean input_shape?"
    assert "such as [1, 28, 28]" in found["model.input_shape"]
    assert found["training.batch_size"] == "expected a whole number from 1 on, or 0 for the whole set, got -1 (int)"
    assert found["training.seed"].endswith("got True (bool)")
    assert found["training.loss.dleta"] == "unknown option; did you mean delta?"
    assert found["training.optimizer.lr"] == 'expected a number, got "fast" (str)'
    assert found["training.optimizer.beta1"] == "expected a number, got [1] (list)"
    assert found["training.clip"].startswith("clip: max must be")
    assert found["training.metrics[0]"].startswith('no metric is called "acuracy"; did you mean accuracy')
    assert found["data.path"] == "expected text, got 3 (int)"
    assert found["data.lable"] == "unknown option; did you mean label?"
    assert found["run.device"].startswith("expected cpu")
    assert found["run.threads"] == "expected a whole number from 1 on, got 0 (int)"
    assert len(found) == 19


@pytest.mark.parametrize(
    "run, expected",
    [
        ('precision = "tf23"', 'expected float32, tf32 or bf16, got "tf23" (str); did you mean tf32?'),
        ("precision = 32", 'expected "float32", "tf32" or "bf16", got 32 (int)'),
        ('precision = "tf32"', "tf32 needs the tensor cores of device cuda, got device cpu; choose cuda, or float32"),
        (
            'precision = "bf16"\ndevice = "cuda"\n[model]\ndtype = "float64"',
            "bf16 rounds float32 numbers, got dtype float64; choose dtype float32, or precision float32",
        ),
    ],
)
def test_a_precision_that_cannot_be(run, expected):
    (found,) = mistakes(f"[run]\n{run}")
    assert found.startswith(f"run.precision: {expected}")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("model = 5", "model: expected a section [model], got 5 (int)"),
        ("data = 'digits'", 'data: expected a section [data], got "digits" (str)'),
        ("[data]", "data: dataset: the table {} (dict) does not say which dataset"),
        ("[model]\nlayers = []", "model.layers: expected a list of layers, got [] (list)"),
        ("[model]\nlayers = 'dense(3'", 'model.layers: "dense(3" opens a bracket at character 6 that is never closed'),
        ("[model]\ndtype = 'float16'", 'model.dtype: expected "float32" or "float64", got "float16" (str)'),
        ("[model]\ninput_shape = []", "model.input_shape: expected the sizes of a sample"),
        ("[model]\ninput_shape = [0]", "model.input_shape: expected the sizes of a sample"),
        ("[model]\nlayers = ['relu', 'dense(3)']\ninput_shape = [1, 8, 8]", "model.layers[1]: dense.2: dense: "),
        ("[model]\nlayers = ['dense(3, init=\"hi\")']\ninput_shape = [8]", "model.layers[0]: dense.1.W: no init"),
        ("[model]\nlayers = ['dense(1)']\ninput_shape = [8]", "training.loss: cross_entropy: expected an output"),
        ("[training]\nepochs = 1.5", "training.epochs: expected a whole number from 1 on, got 1.5 (float)"),
        ("[training]\nnorm = 0", "training.norm: expected the p of the logged gradient norms"),
        ("[training]\nbananas = 1", "training.bananas: unknown option; [training] takes loss, optimizer"),
        ('[training]\n"a b" = 1', 'training."a b": unknown option'),
        ("bananas = 1", "bananas: unknown section; the sections are model, data, training, run"),
        ("[training]\nloss = 3", "training.loss: loss: expected text, a pair, a table or an instance, got 3 (int)"),
        ("[run]\nplugins = 'a.py'", "run.plugins: expected a list of files or modules with layers of"),
    ],
)  # fmt: skip
def test_one_mistake(text, expected):
    (line,) = mistakes(text)
    assert line.startswith(expected)
    assert mistakes(text, "b.toml") == [f"b.toml: {line}"]


def test_what_does_not_fit_the_data():
    digits = data.load("digits")
    found = resolve({"model": {"input_shape": [64], "layers": ["flatten", "dense(3)"]}})
    with pytest.raises(SpecError, match=r"^c.toml: model.input_shape: .* have shape \[1, 8, 8\]"):
        build(found, digits, "c.toml")
    with pytest.raises(SpecError, match=r"^model.layers\[0\]: dense.1: "):
        build(resolve({"model": {"layers": ["dense(10)"]}}), digits)


@pytest.mark.parametrize("layer", ["dense(2000000000) dense(2000000000)", "dense(2000000000, bias=False)"])
def test_a_network_beyond_memory_is_refused_before_it_is_made(layer):
    found = resolve({"model": {"layers": f"flatten dense(1) {layer}"}, "training": {"batch_size": 0}})
    with pytest.raises(
        SpecError, match=r"^model.layers: \d+ parameters and a batch of 1437 samples take \S+ GB, and this"
    ):
        build(found, data.load("digits"))


# -- files and overrides -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"[model\n", "line 1"),
        (b"[model]\nlayers = [1\n[data]\n", "line 3"),
        (b"a = 1\na = 2\nb = 3\n", "line 2"),
        (b"a = 1\nb = '\xff'", "is not valid UTF-8 (line 2)"),
        (b"a = " + b"[" * 100_000, "cannot be read as TOML"),  # as deep as Python allows
        (b"a = " + b"9" * 10_000, "cannot be read as TOML"),
    ],
)
def test_a_file_that_is_not_toml(tmp_path, content, expected):
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        config_file.read(path)
    assert expected in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    (tmp_path / "digits.toml").touch()
    with pytest.raises(UsageError, match=r"did you mean digits\.toml"):
        config_file.read(tmp_path / "digit.toml")
    with pytest.raises(UsageError, match="is no config"):
        config_file.read(tmp_path)


@pytest.mark.parametrize(
    "assignment, path, expected",
    [
        ("training.epochs=5", ("training", "epochs"), 5),
        ("training.epochs = 5", ("training", "epochs"), 5),
        ("training.loss=huber(delta=0.5)", ("training", "loss"), "huber(delta=0.5)"),
        ('training.loss="mse"', ("training", "loss"), "mse"),
        ("training.norm=inf", ("training", "norm"), math.inf),
        ("training.metrics=['l1', 'l2']", ("training", "metrics"), ["l1", "l2"]),
        ("model.layers[1]=tanh", ("model", "layers", 1), "tanh"),
        ("model.input_shape=[1, 8, 8]", ("model", "input_shape"), [1, 8, 8]),
        ("data.name=ten_points", ("data", "name"), "ten_points"),
        ("training.loss=1\nepochs=2", ("training", "loss"), "1\nepochs=2"),
    ],
)  # fmt: skip
def test_overrides(assignment, path, expected):
    table = {}
    config_file.override(table, assignment)
    for key in path:
        table = table[key]
    assert table == expected and type(table) is type(expected)


def test_an_override_keeps_the_rest():
    table = {"model": {"layers": ["relu", "flatten"]}, "training": {"epochs": 3}}
    config_file.override(table, "model.layers[0]=tanh")
    config_file.override(table, "training.seed=4")
    assert table == {"model": {"layers": ["tanh", "flatten"]}, "training": {"epochs": 3, "seed": 4}}
    default = {}
    config_file.override(default, "model.layers[1]=tanh")
    assert default["model"]["layers"][0] == Config().model.layers[0]
    assert Config().model.layers[1] == "relu"  # the default value itself does not change


@pytest.mark.parametrize(
    "assignment, expected",
    [
        ("epochs", "expected section.key=value"),
        ("=5", "expected section.key=value"),
        ("a..b=5", "expected section.key=value"),
        ("[0]=5", "expected section.key=value"),
        ("model.layers[-1]=relu", "expected section.key=value"),
        ("model.layers[99]=relu", "model.layers has 8 items, counted from 0"),
        ("model.layers[0].filters=3", "model.layers[0] is not a table but"),
        ("training.epochs[0]=3", "training.epochs is not a list but 10"),
    ],
)
def test_overrides_that_lead_nowhere(assignment, expected):
    with pytest.raises(UsageError) as caught:
        config_file.override({}, assignment)
    assert expected in str(caught.value)


def test_plugins_of_a_run_directory_are_not_imported_unasked(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text("raise SystemError('imported')")
    table = {"run": {"plugins": [str(plugin)]}}
    with pytest.raises(UsageError, match=f"--plugin {plugin}"):
        config_file.need_plugins(table, (), "config.toml")
    with pytest.raises(UsageError, match="imported"):
        config_file.need_plugins(table, (str(plugin),), "config.toml")


# -- writing -----------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.one_of(TEXT, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=12,
)


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_toml_is_read_back_equal(table):
    assert _typed(tomllib.loads(toml.write(table))) == _typed(table)


def _typed(value):
    """Compare with types, since 1 == 1.0 == True."""
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    return [_typed(item) for item in value] if isinstance(value, list) else (type(value), str(value))


def test_toml_of_what_it_cannot_say():
    assert math.isnan(tomllib.loads(toml.write({"a": math.nan}))["a"])
    assert toml.write({"a": None, "b": {"c": None}}) == "\n[b]\n"
    for value in (object(), "\ud800", [1, {"a": {1, 2}}]):
        with pytest.raises(SpecError):
            toml.write({"a": value})


LAYERS = ["relu", "elu(0.5)", "dropout(0.25)", "flatten", "dense(3)", "layernorm(epsilon=1e-3)", "residual(['tanh'])"]


@settings(max_examples=30)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "model": st.fixed_dictionaries({"layers": st.lists(st.sampled_from(LAYERS), min_size=1)}),
            "data": st.sampled_from(
                [{"name": "ten_points"}, {"dataset": "npz", "path": "a b'\"\\.npz", "validation": 0.5}]
            ),
            "training": st.fixed_dictionaries(
                {},
                optional={
                    "loss": st.sampled_from(["mse", "lp(0.5)", "huber"]),
                    "optimizer": st.sampled_from(["sgd(1, 0.9, True)", "adamw"]),
                    "schedule": st.sampled_from(["warmup(2, then='cosine')", "step(3)"]),
                    "clip": st.sampled_from(["norm", "norm(0.1, 1)"]),
                    "seed": st.integers(0, 2**31 - 1),
                    "norm": st.floats(1e-3, math.inf),
                },
            ),
            "run": st.fixed_dictionaries({"threads": st.integers(1, 99)}),
        },
    )
)
def test_a_resolved_config_resolves_to_itself(table):
    config = resolve(table).config
    assert resolve(tomllib.loads(config.text())).config == config


def test_the_config_of_fit_asks_for_data():
    net = registry.compose("flatten dense(2)", input_shape=(1, 4))
    text = of_fit(
        net, Settings(loss=registry.losses.create("huber(2)"), optimizer=("sgd", {"lr": 0.5}), metrics=("l2",))
    )
    table = tomllib.loads(text)
    assert table["training"]["loss"] == "huber(delta=2.0)" and table["training"]["optimizer"] == "sgd(lr=0.5)"
    assert table["model"] == {
        "layers": ["flatten", "dense(units=2)"],
        "input_shape": [1, 4],
        "dtype": "float32",
        "scale": "off",
    }
    with pytest.raises(NnjitError, match=r"^data: "):
        resolve(table)
    assert resolve(table | {"data": {"name": "digits"}}).config.training.metrics == ["l2"]
