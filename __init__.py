"""nnjit: neural networks whose every kernel is a Numba-compiled loop that a person can read."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what `__getattr__` loads, for type checkers; nothing of it runs
    from . import errors, registry
    from .network.compose import compose, load
    from .network.network import Network

__version__ = "0.1.0"

# Public names, loaded on first use: importing nnjit must not import numba.
_PUBLIC = {
    "registry": ("nnjit.registry", None),
    "compose": ("nnjit.registry", "compose"),
    "load": ("nnjit.network.compose", "load"),
    "Network": ("nnjit.network.network", "Network"),
    "errors": ("nnjit.errors", None),
}

__all__ = ["Network", "compose", "errors", "load", "registry"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'nnjit' has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    value = import_module(module)
    if attribute is not None:
        value = getattr(value, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
