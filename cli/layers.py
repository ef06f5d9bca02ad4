"""`nnjit layers [NAME]`: the layers as a table, or the documentation of one."""

import click

from . import options
from .catalogue import explain, print_table


@click.command("layers")
@click.argument("name", required=False)
@options.plugin
def layers(name, plugin):
    """List the layers, or document NAME: options, shapes, formula, source file, devices.

    NAME may be a pattern, such as 'conv*'. `nnjit list` lists names of every kind.
    """
    from .. import registry

    for each in plugin:
        registry.load_plugin(each)
    if name is not None and not set(name) & set("*?["):
        click.echo(explain(registry.layers.find(name)))
    else:
        print_table(registry.layers, name or "*")
