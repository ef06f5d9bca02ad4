"""The registry: names of layers, losses, metrics, optimizers, schedules, initializers, data sets; their creation.

::

    from nnjit import registry

    @registry.register("affine")              # layers
    class Affine(Layer): ...

    @registry.losses.register("huber2")       # and registry.metrics, .optimizers, .schedules, ...
    class Huber2(Loss): ...

    registry.names("conv*"); registry.get("conv"); registry.find("conv"); registry.create("conv(8, 3)")
    net = registry.compose(["flatten", "dense(10)"], input_shape=(1, 8, 8))
"""

if __name__ == "registry":
    # In a checkout the folder can also be imported as `registry`. That name must refer to the same module as
    # nnjit.registry, and its submodules likewise: a second copy would be an empty registry.
    import sys
    from importlib import abc, import_module, machinery, util
    from pathlib import Path

    class _SameModule(abc.MetaPathFinder, abc.Loader):
        """Finds registry.X by importing nnjit.registry.X."""

        def find_spec(self, fullname, path, target=None):
            return machinery.ModuleSpec(fullname, self) if fullname.startswith("registry.") else None

        def create_module(self, spec):
            module = import_module(f"nnjit.{spec.name}")
            spec.loader_state = module.__spec__
            return module

        def exec_module(self, module):  # it has already run; importing under this name must not rename it
            module.__spec__ = module.__spec__.loader_state

    if "nnjit" not in sys.modules and util.find_spec("nnjit") is None:  # a checkout that was never installed
        _root = Path(__file__).resolve().parent.parent
        _init = machinery.SourceFileLoader("nnjit", str(_root / "__init__.py"))
        _spec = util.spec_from_loader("nnjit", _init)
        assert _spec is not None  # a source file always has one
        sys.modules["nnjit"] = util.module_from_spec(_spec)
        _init.exec_module(sys.modules["nnjit"])
    sys.meta_path.insert(0, _SameModule())
    sys.modules[__name__] = import_module("nnjit.registry")
else:
    from typing import TYPE_CHECKING, Any

    from . import builtin
    from .catalogue import Catalogue, Found
    from .options import Options
    from .plugins import load_plugin
    from .sources import Source
    from .specs import Spec, parse, split

    if TYPE_CHECKING:  # what `__getattr__` loads, for type checkers; this import never runs
        from ..network.compose import compose

    if "layers" not in globals():  # a reload keeps the registered names
        layers = Catalogue("layer", "nnjit.layers", builtin.LAYERS, "--layers '{} ...'")
        losses = Catalogue("loss", "nnjit.losses", builtin.LOSSES, "--loss {}")
        optimizers = Catalogue("optimizer", "nnjit.optimizers", builtin.OPTIMIZERS, "--optimizer {}")
        schedules = Catalogue("schedule", "nnjit.schedules", builtin.SCHEDULES, "--set training.schedule={}")
        initializers = Catalogue(
            "initializer", "nnjit.initializers", builtin.INITIALIZERS, "--layers \"dense(10, init='{}')\""
        )
        datasets = Catalogue("dataset", "nnjit.datasets", builtin.DATASETS, "--data {}")
        metrics = Catalogue("metric", "nnjit.metrics", builtin.METRICS, "--set 'training.metrics=[\"{}\"]'")

    # Layers are registered most often, so the methods of their catalogue are functions of this module.
    register, unregister, names = layers.register, layers.unregister, layers.names
    get, find, create = layers.get, layers.find, layers.create
    name_of, plugin_of = layers.name_of, layers.plugin_of

    __all__ = [
        "Catalogue",
        "Found",
        "Options",
        "Spec",
        "compose",
        "create",
        "datasets",
        "find",
        "get",
        "initializers",
        "layers",
        "load_plugin",
        "losses",
        "metrics",
        "name_of",
        "names",
        "optimizers",
        "parse",
        "plugin_of",
        "register",
        "schedules",
        "split",
        "unregister",
    ]

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})

    def __getattr__(name: str) -> Any:
        """Load `compose` on first use: it imports the network, which imports this module."""
        if name != "compose":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return Source(builtin.COMPOSE).load()
