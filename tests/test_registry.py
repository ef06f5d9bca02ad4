"""Names and classes: duplicates, near misses, lazy entry points, plug-ins, one registry under both its names."""

import importlib
import importlib.util
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import nnjit
import pytest
from nnjit import registry
from nnjit.errors import DuplicateName, SpecError, UnknownName, UsageError
from nnjit.registry import Catalogue, Options, builtin, load_plugin, sources

ROOT = Path(nnjit.__file__).resolve().parent
CATALOGUES = {
    "layers": builtin.LAYERS,
    "losses": builtin.LOSSES,
    "optimizers": builtin.OPTIMIZERS,
    "schedules": builtin.SCHEDULES,
    "initializers": builtin.INITIALIZERS,
    "datasets": builtin.DATASETS,
    "metrics": builtin.METRICS,
}


def option_class(name, module=__name__, **attributes):
    """Make a class as a module would define it."""
    return type(name, (Options,), {"__module__": module, "__qualname__": name, **attributes})


@pytest.fixture
def things():
    return Catalogue("thing", "test.things")


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes a file under a folder of sys.path; its modules are forgotten afterwards."""
    before = dict(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        importlib.invalidate_caches()
        return path

    yield write
    for name in sys.modules.keys() - before:
        del sys.modules[name]
        sources.PLUGINS.pop(name, None)


def distribution(write, name, points):
    """Write metadata as an installer does."""
    folder = f"{name.replace('-', '_')}-1.0.dist-info"
    write(f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    write(f"{folder}/entry_points.txt", points)


def sentence(error):
    text = str(error.value)
    assert text and "\n" not in text
    return text


# Names


def test_register_returns_the_class_unchanged(things):
    cls = option_class("Foo")
    before = dict(vars(cls))
    assert things.register("foo", aliases=("bar",))(cls) is cls
    assert dict(vars(cls)) == before
    assert things.get("foo") is things.get("bar") is cls
    assert things.names() == ["bar", "foo"] and things.names("f*") == ["foo"] and things.names("F*") == []
    assert things.name_of(cls) == "foo"
    assert isinstance(things.create("bar"), cls) and repr(things.create("bar")) == "foo"


def test_an_unknown_name_says_what_there_is(things):
    for name in ("conv", "conv_transpose", "leaky_relu"):
        things.register(name)(option_class(name))
    with pytest.raises(UnknownName) as error:
        things.get("LeakyReLU")
    for fact in (
        'thing is called "LeakyReLU"',
        "did you mean leaky_relu?",
        "conv, conv_transpose, leaky_relu",
        "--plugin",
    ):
        assert fact in sentence(error)
    with pytest.raises(UnknownName, match="did you mean conv"):
        things.create("convv(3)")
    with pytest.raises(UnknownName, match=r"known.* none"):
        Catalogue("thing", "test.none").get("x\n\udc80")
    with pytest.raises(UnknownName, match="did you mean conv"):
        things.unregister("Conv")
    with pytest.raises(SpecError, match="got 3"):
        things.get(3)


def test_a_duplicate_names_both_modules(things):
    first, second = option_class("Foo", "one.module"), option_class("Foo", "another.module")
    things.register("foo")(first)
    with pytest.raises(DuplicateName) as error:
        things.register("new", aliases=("foo",))(second)
    assert "one.module:Foo" in sentence(error) and "another.module:Foo" in sentence(error)
    assert things.names() == ["foo"] and things.get("foo") is first  # nothing was registered, not even "new"
    things.register("foo", force=True)(second)
    assert things.get("foo") is second


def test_the_same_class_again_is_quiet(things):
    first, again = option_class("Foo"), option_class("Foo")
    things.register("foo")(first)
    things.register("foo")(again)  # a reload, a notebook cell run twice
    assert things.get("foo") is again
    assert things.name_of(first) == things.name_of(again) == "foo"  # instances of the old class live on


def test_the_same_file_under_two_module_names_is_the_same_class(things, write):
    path = write("twice_layers.py", "from nnjit.registry import Options\nclass Foo(Options): pass\n")
    one, other = importlib.import_module("twice_layers"), load_plugin(path)
    assert one.Foo is not other.Foo
    things.register("foo")(one.Foo)
    things.register("foo")(other.Foo)
    assert things.get("foo") is other.Foo


def test_unregister_takes_one_name(things):
    cls, other = option_class("Foo"), option_class("Other")
    things.register("foo", aliases=("bar",))(cls)
    things.unregister("foo")
    assert things.names() == ["bar"]
    with pytest.raises(UnknownName):
        things.get("foo")
    things.register("foo")(other)
    assert things.get("foo") is other and things.get("bar") is cls
    things.register("baz")(cls)
    assert things.name_of(cls) == "baz"  # now another class is "foo"


def test_name_of_is_not_inherited(things):
    cls = things.register("foo")(option_class("Foo"))
    with pytest.raises(UnknownName, match="Sub is not registered as a thing"):
        things.name_of(type("Sub", (cls,), {}))


@pytest.mark.parametrize("name", ["my-layer", "a.b", "", "3d", "lambda", "None", "inf", "ä", "a b", 3, None])
def test_names_that_no_spec_could_say(things, name):
    with pytest.raises(SpecError) as error:
        things.register(name)
    assert sentence(error)
    with pytest.raises(SpecError):
        things.register("good", aliases=[name])


def test_what_cannot_be_registered(things):
    with pytest.raises(SpecError, match='with @register\\("name"\\)'):
        things.register(option_class("Foo"))
    with pytest.raises(SpecError, match=r"derived from nnjit.registry.Options, got the class int"):
        things.register("foo")(int)
    with pytest.raises(SpecError, match=r"derived from nnjit.layers.Layer"):
        Catalogue("layer", "test.layers").register("foo")(len)
    with pytest.raises(SpecError, match="a tuple of names"):
        things.register("foo", aliases="bar")
    assert things.names() == []


def test_create_takes_instances_of_its_own_kind(things):
    others = Catalogue("loss", "test.losses")
    cls = things.register("foo")(option_class("Foo"))
    instance, unregistered = cls(), option_class("Bar")()
    assert things.create(instance) is instance and things.create(unregistered) is unregistered
    with pytest.raises(SpecError, match="expected a loss, got the thing foo"):
        others.create(instance)
    with pytest.raises(SpecError, match="give an instance, Foo"):
        things.create(cls)


def test_find(write):
    things = Catalogue("thing", "test.things", {"known": "found_things:Known", "other": "found_things:Known"})
    path = write(
        "found_things.py",
        '''
        from nnjit.registry import Options


        class Known(Options):
            """First line.

            More.
            """


        class Bare(Options):
            pass
        ''',
    )
    found = things.find("known")
    assert (found.name, found.module, Path(found.file), found.line) == ("known", "found_things", path, 5)
    assert (found.doc, found.aliases, found.source) == ("First line.\n\nMore.", ("other",), "built-in")
    bare = importlib.import_module("found_things").Bare
    things.register("bare")(bare)
    found = things.find("bare")
    assert (found.cls, found.doc, found.aliases, found.source) == (bare, "", (), "registered")
    things.register("known", force=True)(bare)
    found = things.find("known")
    assert (found.aliases, found.source) == (("bare",), "registered")
    things.register("prompt")(option_class("Prompt", "__nowhere__"))
    assert things.find("prompt").file is None


# The static table


def test_a_table_is_read_lazily(write):
    write(
        "table_things.py",
        """
        from nnjit.registry import Options
        class A(Options): pass
        class B(Options): pass
        """,
    )
    things = Catalogue("thing", "test.things", {"a": "table_things:A", "b": "table_things:B", "no": "no_module:A"})
    assert things.names() == ["a", "b", "no"] and "table_things" not in sys.modules
    assert things.get("a").__name__ == "A" and things.name_of(things.get("a")) == "a"
    things.register("b")(things.get("b"))  # its own decorator
    with pytest.raises(DuplicateName, match=r"table_things:A.* again by .*:A"):
        things.register("a")(option_class("A"))
    with pytest.raises(UsageError, match="no_module:A cannot be imported: ModuleNotFoundError"):
        things.get("no")
    assert "no_module" in things.broken()["no"]


SELF_REGISTERING = """
from nnjit.registry import Options, sources
from test_catalogue_holder import things
@things.register("a")
class A(Options): pass
@things.register("b")
class B(Options): pass
"""


@pytest.fixture
def self_registering(write):
    """Make a catalogue whose table names a module that registers itself on import, as nnjit's modules do."""
    write("test_catalogue_holder.py", "things = None")
    things = Catalogue("thing", "test.things", {"a": "self_things:A", "b": "self_things:B"})
    importlib.import_module("test_catalogue_holder").things = things
    write("self_things.py", SELF_REGISTERING)
    return things


def test_self_registration_is_no_duplicate(self_registering):
    module = importlib.import_module("self_things")
    assert self_registering.get("a") is module.A and self_registering.get("b") is module.B
    with pytest.raises(DuplicateName):
        self_registering.register("a")(module.B)
    importlib.reload(module)
    assert self_registering.get("a") is module.A


def test_a_hidden_name_stays_hidden_when_its_module_is_imported(self_registering):
    self_registering.unregister("a")
    assert self_registering.get("b").__name__ == "B"
    assert self_registering.names() == ["b"]
    self_registering.register("a")(importlib.import_module("self_things").A)
    assert self_registering.names() == ["a", "b"]


def test_a_forced_name_stays_when_the_module_it_was_taken_from_is_imported(self_registering):
    mine = self_registering.register("a", force=True)(option_class("Mine"))
    assert self_registering.get("b").__name__ == "B"
    assert self_registering.get("a") is mine


@pytest.mark.parametrize("kind", CATALOGUES)
def test_every_name_of_the_table_is_in_the_files(kind):
    catalogue = getattr(registry, kind)
    assert catalogue.group == f"nnjit.{kind}"
    for name in CATALOGUES[kind]:
        found = catalogue.find(name)
        assert found.source == "built-in" and found.file and found.doc, name
        assert catalogue.name_of(found.cls) == name
        assert catalogue.plugin_of(name) is None


@pytest.mark.parametrize("room", ["layers", "training", "network", "data"])
def test_every_name_in_the_files_is_in_the_table(room):
    for module in pkgutil.iter_modules([str(ROOT / room)]):
        importlib.import_module(f"nnjit.{room}.{module.name}")
    for kind, table in CATALOGUES.items():
        catalogue = getattr(registry, kind)
        for name in set(catalogue.names()) - set(table):
            assert not catalogue.get(name).__module__.startswith("nnjit."), f"{name} is missing in registry/builtin.py"


# Entry points


def test_entry_points_are_loaded_when_named(write, things):
    write("ep_good.py", "from nnjit.registry import Options\nclass Good(Options): pass\n")
    write("ep_bad/__init__.py", "")
    write("ep_bad/bad.py", "import numpy\n\nimport no_such_module_at_all\n")
    distribution(
        write,
        "ep-dist",
        """
        [test.things]
        good = ep_good:Good
        also_good = ep_good : Good [extra]
        bad = ep_bad.bad:Bad
        gone = ep_good:Gone
        number = ep_good:__name__
        not-a-name = ep_good:Good
        module_only = ep_good
        """,
    )
    assert things.names() == ["also_good", "bad", "gone", "good", "number"]
    assert "ep_good" not in sys.modules and "ep_bad" not in sys.modules
    assert things.broken().keys() == {"not-a-name", "module_only"}

    good = things.get("good")
    assert good is things.get("also_good") and things.name_of(good) == "good"
    assert things.find("good").source == "plug-in ep-dist" and things.find("good").aliases == ("also_good",)
    assert things.plugin_of("good") == things.plugin_of(good) == "ep_good"
    assert things.find("good").name == "good"

    for name, part in {"bad": "no_such_module_at_all", "gone": "Gone", "number": "derived from"}.items():
        with pytest.raises(UsageError) as error:
            things.get(name)
        assert "plug-in ep-dist (ep_" in sentence(error) and part in sentence(error)
        assert part in things.broken()[name]
    assert re.search(r"bad\.py:3\)$", things.broken()["bad"])  # the plug-in's code failed
    assert things.names() == ["also_good", "bad", "gone", "good", "number"]  # the others are still there


def test_an_entry_point_may_register_itself_from_inside_its_package(write):
    write("test_catalogue_holder.py", "things = None")
    things = Catalogue("thing", "test.things")
    importlib.import_module("test_catalogue_holder").things = things
    write("ep_package/__init__.py", "from .inner import Foo")
    write(
        "ep_package/inner.py",
        """
        from nnjit.registry import Options
        from test_catalogue_holder import things
        @things.register("foo", aliases=("fu",))
        class Foo(Options): pass
        """,
    )
    distribution(write, "ep-package", "[test.things]\nfoo = ep_package:Foo\n")
    importlib.import_module("ep_package")  # by the user, before the name is looked up
    assert things.find("foo").source == "plug-in ep-package" and things.find("foo").aliases == ("fu",)
    with pytest.raises(DuplicateName, match=r"ep_package\.inner:Foo"):
        things.register("foo")(option_class("Foo"))


def test_entry_points_that_clash(write):
    things = Catalogue("thing", "test.things", {"own": "clash_own:Own"})
    write("clash_own.py", "from nnjit.registry import Options\nclass Own(Options): pass\n")
    write("clash.py", "from nnjit.registry import Options\nclass A(Options): pass\nclass B(Options): pass\n")
    distribution(write, "clash-one", "[test.things]\nfoo = clash:A\nown = clash:A\nfine = clash:A\n")
    distribution(write, "clash-two", "[test.things]\nfoo = clash:B\n")
    with pytest.raises(DuplicateName) as error:
        things.get("foo")
    assert "clash-one" in sentence(error) and "clash-two" in sentence(error)
    assert things.get("own").__name__ == "Own" and things.get("fine").__name__ == "A"
    assert "clash-two" in things.broken()["foo"] and "clash-one" in things.broken()["own"]
    with pytest.raises(DuplicateName, match="clash-one"):
        things.register("fine2", aliases=("foo",))(option_class("C"))
    mine = things.register("foo", force=True)(option_class("C"))
    assert things.get("foo") is mine


def test_unreadable_metadata_of_one_distribution(write, things):
    write("ep_fine.py", "from nnjit.registry import Options\nclass Good(Options): pass\n")
    distribution(write, "ep-fine", "[test.things]\ngood = ep_fine:Good\n")
    distribution(write, "ep-torn", "[test.things]\nno equals sign\n")
    assert things.names() == ["good"]
    assert things.get("good").__name__ == "Good"


# Plug-ins by hand


PLUGIN = """
from nnjit.registry import Options, losses
@losses.register("{name}", aliases=("{name}_alias",))
class Hinge(Options):
    margin: float = 1.0
"""


@pytest.fixture
def clean_losses():
    """Losses registered by a test are gone after it."""
    before = dict(registry.losses._classes)
    yield
    registry.losses._classes.clear()
    registry.losses._classes.update(before)


@pytest.mark.usefixtures("clean_losses")
def test_a_file(write):
    path = write("folder/my-hinge.py", PLUGIN.format(name="file_hinge"))
    module = load_plugin(str(path))
    assert module.__name__ == "nnjit_plugin_my_hinge" and sys.modules[module.__name__] is module
    assert load_plugin(path) is module and load_plugin(path.parent / ".." / "folder" / path.name) is module
    assert registry.losses.create("file_hinge(2)").margin == 2.0
    found = registry.losses.find("file_hinge")
    assert (found.source, found.aliases, found.file) == (f"plug-in {path}", ("file_hinge_alias",), str(path))
    assert registry.losses.plugin_of("file_hinge") == registry.losses.plugin_of(found.cls) == str(path)
    other = load_plugin(write("elsewhere/my-hinge.py", PLUGIN.format(name="other_hinge")))
    assert other is not module and other.__name__.startswith("nnjit_plugin_my_hinge_")
    assert load_plugin(path) is module


@pytest.mark.usefixtures("clean_losses")
def test_a_module(write):
    write("my_losses/__init__.py", "from . import hinge")
    write("my_losses/hinge.py", PLUGIN.format(name="module_hinge"))
    module = load_plugin("my_losses")
    assert load_plugin("my_losses") is module
    assert registry.losses.plugin_of("module_hinge") == "my_losses"
    assert registry.losses.find("module_hinge").source == "plug-in my_losses"
    with pytest.raises(DuplicateName) as error:
        load_plugin(write("clash.py", PLUGIN.format(name="module_hinge")))
    assert "clash.py" in sentence(error) and "my_losses.hinge:Hinge" in sentence(error)
    assert "nnjit_plugin_clash" not in sys.modules


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("x = (1,\n", ("syntax error in", "failing.py:5")),
        ("import os\n\nx = os.nothing\n", ("AttributeError", "failing.py:7")),
        ("import no_such_module_at_all\n", ("No module named 'no_such_module_at_all'", "failing.py:5")),
        ("raise SystemExit(3)\n", ("SystemExit: 3",)),
        ("raise ValueError('one\\ntwo')\n", ("ValueError: one", "failing.py:5")),
        ("raise ValueError\n", ("ValueError",)),
        ("x = '\0'\n", ("null bytes",)),
        ("from nnjit.registry import losses\nlosses.get('crossentropy')\n", ("did you mean cross_entropy",)),
        ("from nnjit.registry import losses\nlosses.register('a-b')\n", ('"a-b"',)),
        ("from nnjit.registry import Options\nclass A(Options):\n    a: int = 1\n    b: int\n", ("without default",)),
    ],
)
def test_a_file_that_fails_leaves_nothing_behind(write, text, parts):
    before = registry.losses.names()
    path = write("failing.py", PLUGIN.format(name="early").lstrip() + text)  # 4 lines that register, then the fault
    with pytest.raises(UsageError) as error:
        load_plugin(path)
    assert sentence(error).startswith(f"plug-in {path}: ")
    assert all(part in sentence(error) for part in parts), sentence(error)
    assert registry.losses.names() == before and "nnjit_plugin_failing" not in sys.modules


@pytest.mark.usefixtures("clean_losses")
def test_a_module_that_fails_keeps_the_parts_that_did_not(write):
    before = registry.losses.names()
    write("bad_losses/__init__.py", "from . import one, two")
    write("bad_losses/one.py", PLUGIN.format(name="one_hinge"))
    write("bad_losses/two.py", PLUGIN.format(name="two_hinge") + "raise OSError(7, 'why')\n")
    with pytest.raises(UsageError, match=r"^plug-in bad_losses: OSError: \[Errno 7\] why \(.*two\.py:6\)$"):
        load_plugin("bad_losses")
    # Python keeps bad_losses.one, whose import succeeded and will not run again: so does the registry.
    assert "bad_losses.one" in sys.modules
    assert set(registry.losses.names()) - set(before) == {"one_hinge", "one_hinge_alias"}


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ("missing/file.py", "no such file"),
        ("missing.py", "no such file"),
        ("{folder}", "is a folder"),
        ("{folder}/notes.txt", "ends in .py"),
        ("a\0b.py", "no such file"),
        ("no_such_module_at_all", "no module named no_such_module_at_all; is it installed"),
        ("json.no_such_part", "no module named json.no_such_part"),
        ("near_by", "did you mean the file near_by.py?"),
        ("", "expected a .py file or the name of a module"),
        (".relative", "expected a .py file or the name of a module"),
        ("a b", "expected a .py file or the name of a module"),
        ("\udc80", "expected a .py file or the name of a module"),
    ],
)
def test_plugins_that_are_not_there(tmp_path, monkeypatch, given, part):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("")
    Path("near_by.py").write_text("")
    with pytest.raises(UsageError) as error:
        load_plugin(given.format(folder=tmp_path))
    assert part in sentence(error)


# One registry


def python(*arguments, code, cwd, path=None):
    """Run code in another interpreter and return what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(path) if path else ""}
    command = [sys.executable, *arguments, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


BOTH = """
    import sys, importlib
    order, names = {order!r}.split(), {names!r}.split()
    for package in order:
        importlib.import_module(package)
    for name in names:
        one, other = (importlib.import_module(f"{{package}}.{{name}}") for package in order)
        assert one is other and one.__name__ == one.__spec__.name == f"nnjit.registry.{{name}}", (one, other)
    import registry, nnjit
    from nnjit import registry as real
    assert registry is real is nnjit.registry is sys.modules["registry"] is sys.modules["nnjit.registry"]
    assert registry.__spec__.name == "nnjit.registry"
    from registry.catalogue import Catalogue
    import registry.options
    assert Catalogue is real.Catalogue and registry.options.Options is real.Options
    copies = [m for m in sys.modules.values() if (getattr(m, "__file__", None) or "").endswith("catalogue.py")]
    assert len({{id(module) for module in copies}}) == 1
    catalogue = registry.layers
    assert "dense" in registry.names() and importlib.reload(registry) is real and registry.layers is catalogue
    print(real.__file__)
"""
SUBMODULES = sorted(path.stem for path in (ROOT / "registry").glob("*.py") if path.stem != "__init__")
LIGHT = " ".join(name for name in SUBMODULES if name != "compose")  # compose needs numba, which -S hides


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """Copy the tree as a plain install does."""
    folder = tmp_path_factory.mktemp("site")
    for name in ("registry", "__init__.py", "errors.py"):
        source, target = ROOT / name, folder / "nnjit" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copy(source, target)
    return folder


@pytest.mark.parametrize("order", ["registry nnjit.registry", "nnjit.registry registry"])
def test_both_spellings_are_one_module_as_installed_here(order):
    code = BOTH.format(order=order, names=" ".join(SUBMODULES))
    assert Path(python(code=code, cwd=ROOT)).is_file()


@pytest.mark.parametrize("order", ["registry nnjit.registry", "nnjit.registry registry"])
def test_both_spellings_are_one_module_with_a_plain_install(order, copy):
    """-S leaves out site-packages, and with it the install of nnjit that runs this test."""
    printed = python("-S", code=BOTH.format(order=order, names=LIGHT), cwd=ROOT, path=copy)
    assert Path(printed) == copy / "nnjit" / "registry" / "__init__.py"


def test_both_spellings_are_one_module_without_an_install():
    printed = python("-S", code=BOTH.format(order="registry nnjit.registry", names=LIGHT), cwd=ROOT)
    assert Path(printed) == ROOT / "registry" / "__init__.py"


def test_a_submodule_may_be_imported_first():
    code = "from registry.specs import parse; import nnjit.registry.specs as s; assert s.parse is parse; print(1)"
    assert python(code=code, cwd=ROOT) == "1"
    assert python("-S", code=code, cwd=ROOT) == "1"


def test_importing_is_light():
    code = """
        import sys
        from nnjit import registry
        registry.names(), registry.losses.names("m*"), registry.parse("conv(8, 3)")
        heavy = {"numba", "numpy", "click", "matplotlib", "pydantic", "rich"} & sys.modules.keys()
        layers = [name for name in sys.modules if name.startswith(("nnjit.layers", "nnjit.network", "nnjit.data"))]
        print(sorted(heavy), layers)
    """
    assert python(code=code, cwd=ROOT) == "[] []"
    assert python(code="import nnjit.registry, sys; print('importlib.metadata' in sys.modules)", cwd=ROOT) == "False"


def test_compose_is_the_function_of_the_table():
    code = """
        from nnjit import registry
        from nnjit.registry import compose
        from nnjit.network.compose import compose as inner
        assert compose is inner is registry.compose and callable(compose)
        assert set(registry.__all__) <= set(dir(registry)), set(registry.__all__) - set(dir(registry))
        print(1)
    """
    assert python(code=code, cwd=ROOT) == "1"
