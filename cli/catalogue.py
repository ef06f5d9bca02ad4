"""Names of the registry as a table, and the documentation of one: for `nnjit list` and `nnjit layers`."""

import click

from .text import aligned, table


def kinds():
    """Map the word of each kind, such as "losses", to its catalogue, plug-ins' kinds included."""
    from .. import registry

    return {word: value for word, value in vars(registry).items() if isinstance(value, registry.Catalogue)}


def print_table(catalogue, pattern):
    """Print the names that match a pattern, with their options; the broken ones on standard error."""
    from ..errors import UnknownName

    found = found_all(catalogue, pattern)
    if pattern != "*" and not catalogue.names(pattern):
        raise UnknownName(f"no {catalogue.kind} matches {pattern!r}; known names: {', '.join(catalogue.names())}")
    if found:
        table(
            (catalogue.kind, "options", "what it is", "from"),
            [(one.name, _form(one.cls), one.doc.partition("\n")[0], one.source) for one in found],
        )
    for broken, reason in catalogue.broken().items():
        click.echo(f"broken: {broken}: {reason}", err=True)


def found_all(catalogue, pattern="*"):
    """Find the names that match and can be imported; `catalogue.broken()` reports the others."""
    from ..errors import UsageError

    found = []
    for name in catalogue.names(pattern):
        try:
            found.append(catalogue.find(name))
        except UsageError:
            continue
    return found


def _parameters(cls):
    """List (name, type in words, default as a spec writes it or None) of every option."""
    import typing
    from inspect import Parameter, signature

    from ..registry.annotations import describe
    from ..registry.specs import literal

    hints = typing.get_type_hints(cls)
    return [
        (name, describe(hints[name]), None if one.default is Parameter.empty else literal(_plain(one.default)))
        for name, one in signature(cls).parameters.items()
    ]


def _plain(default):
    """Return a default value; call a default_factory."""
    return default() if callable(default) else default


def _form(cls):
    return ", ".join(name if default is None else f"{name}={default}" for name, _, default in _parameters(cls))


def explain(found):
    """Format the documentation of one entry."""
    options = [(name, default or "must be given", kind) for name, kind, default in _parameters(found.cls)]
    facts = [("source", f"{found.file}:{found.line}" if found.file else found.module), ("from", found.source)]
    if found.aliases:
        facts.append(("also called", ", ".join(found.aliases)))
    kernels = _kernels(found.cls)
    if kernels:
        facts.append(("kernels", ", ".join(f"{name} ({_where(kernel)})" for name, kernel in kernels.items())))
        facts.append(("devices", ", ".join(_devices(kernels.values())) or "none"))
    blocks = [f"{found.name}({_form(found.cls)})", found.doc or "No docstring.", aligned(facts)]
    if options:
        blocks.insert(2, aligned([("option", "default", "takes"), *options]))
    return "\n\n".join(blocks)


def _kernels(cls):
    """Map names to kernels, for every kernel among the attributes of a class."""
    from ..kernels.compiler.elementwise import Formula
    from ..kernels.compiler.kernel import Kernel
    from ..kernels.operations import Operation

    names = dict.fromkeys(name for base in cls.__mro__ for name in vars(base))
    values = {name: getattr(cls, name) for name in names if not name.startswith("_")}
    return {name: value for name, value in values.items() if isinstance(value, (Kernel, Formula, Operation))}


def _where(kernel):
    from ..kernels.operations import Operation

    return f"kernels/*/{kernel.file}.py" if isinstance(kernel, Operation) else "defined in the class"


def _devices(kernels):
    """List the devices that have all operations; kernels defined in a class run on every device."""
    from ..kernels.operations import Operation
    from ..network.network import DEVICES

    def has(operation, device):
        try:
            return operation.on(device) is not None
        except (ImportError, AttributeError):
            return False

    operations = [kernel for kernel in kernels if isinstance(kernel, Operation)]
    return [device for device in DEVICES if all(has(operation, device) for operation in operations)]
