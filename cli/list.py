"""`nnjit list [KIND] [NAME]`: all that a config and the command line can name, or the documentation of one entry."""

import click

from . import options
from .catalogue import explain, found_all, kinds, print_table
from .text import table


@click.command("list")
@click.argument("kind", required=False)
@click.argument("name", required=False)
@options.plugin
def list(kind, name, plugin):
    """List all that can be named: layers, losses, optimizers, schedules, initializers, datasets, ...

    With KIND its names with their options; with NAME, or a name in place of KIND, its documentation.
    """
    from .. import registry
    from ..errors import UnknownName
    from ..registry.specs import nearest, quoted

    for each in plugin:
        registry.load_plugin(each)
    known = kinds()
    chosen = next((word for word, catalogue in known.items() if kind in (word, catalogue.kind)), None)
    if kind is None:
        rows = [(word, one.name, one.doc.partition("\n")[0]) for word in known for one in found_all(known[word])]
        table(("kind", "name", "what it is"), rows)
    elif chosen is not None and name is None:
        print_table(known[chosen], "*")
    elif chosen is not None:
        click.echo(explain(known[chosen].find(name)))
    elif name is None and (homes := [word for word, catalogue in known.items() if kind in catalogue.names()]):
        click.echo("\n\n".join(explain(known[word].find(kind)) for word in homes))
    else:
        near = nearest(kind, [*known, *(each for catalogue in known.values() for each in catalogue.names())])
        hint = f"did you mean {near[0]}? " if near else ""
        raise UnknownName(f"nothing is called {quoted(kind)}; {hint}the kinds are {', '.join(known)}")
