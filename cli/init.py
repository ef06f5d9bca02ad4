"""`nnjit init config` and `nnjit init layer NAME`: template files."""

from pathlib import Path

import click

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "affine.py"  # the layer to start from


@click.group("init")
def init():
    """Write template files; existing files are never overwritten."""


@init.command("config")
@click.argument("path", default="nnjit.toml", metavar="[PATH]")
def config(path):
    """Write the default config of `nnjit run` with comments to nnjit.toml or PATH (- is standard output)."""
    text = config_text()
    if path == "-":
        click.echo(text, nl=False)
        return
    _write({Path(path): text})
    click.echo(f"{path}: train it with nnjit run {path}")


@init.command("layer")
@click.argument("name")
@click.option(
    "--output", type=click.Path(path_type=Path), default=".", metavar="DIR", help="Directory. Default: the current one."
)
def layer(name, output):
    """Write a template for a new layer, NAME.py, and a test that passes unchanged."""
    from ..errors import DuplicateName
    from ..registry import layers

    layers.register(name)  # refuses an invalid name; without a class it registers nothing
    if name in layers.names():
        raise DuplicateName(f"there is a layer {name!r} already; choose another name")
    words = {"affine": name, "Affine": "".join(word.title() for word in name.split("_")) or "Mine"}
    files = {output / f"{name}.py": EXAMPLE.read_text(encoding="utf-8"), output / f"test_{name}.py": TEST}
    _write({path: _filled(text, words) for path, text in files.items()})
    for path, what in zip(files, (f"nnjit check {name} --plugin", "pytest"), strict=True):
        click.echo(f"{path}: try {what} {path}")


def config_text():
    """Return the default config as TOML, with a comment that describes each option."""
    from ..storage import toml
    from ..training.config import Config

    defaults = Config()
    lines = ["# A run of nnjit. An option that is left out has the value shown here."]
    for section in Config.model_fields:
        lines += ["", f"[{section}]"]
        values = getattr(defaults, section)
        if section == "data":
            lines += [
                "# digits, ten_points, or a spec: idx(path='DIR'), npz(path='FILE'), csv(path='FILE', label='COLUMN'),",
                "# images(path='DIR'); or a table: dataset = \"csv\", path = ..., label = ...",
                f"name = {toml.value(values['name'])}",
            ]
            continue
        for key, field in type(values).model_fields.items():
            value = getattr(values, key)
            lines += [f"# {key}: {field.description}" + ("; not set" if value is None else "")]
            lines += [] if value is None else [f"{key} = {toml.value(value)}"]
    return "\n".join(lines) + "\n"


def _write(files):
    """Write texts to new files: all of them, or none if one cannot be written."""
    from ..errors import UsageError

    for path in files:
        if path.exists():
            raise UsageError(f"{path} exists already; remove it or choose another name")
    written = []
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except OSError:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def _filled(text, words):
    for word, by in words.items():
        text = text.replace(word, by)
    return text


TEST = '''"""The layer `affine`: its formula, and its certificate."""

from pathlib import Path

import numpy as np
from nnjit import registry
from nnjit.check import certify

registry.load_plugin(Path(__file__).with_name("affine.py"))


def test_formula():
    net = registry.compose(["affine(start=2.0)"], input_shape=(3, 4, 5), dtype="float64")
    net.parameters["affine.1.offset"][...] = [1.0, 2.0, 3.0]
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    expected = 2.0 * x + np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    np.testing.assert_allclose(net.forward(x), expected, rtol=1e-12)


def test_certificate():
    report = certify(["affine"])
    assert not report.failed, report.table()
'''
