"""`nnjit export MODEL --to FILE`: a saved network as a library for C."""

import click

from . import options


@click.command("export")
@click.argument("model", metavar="MODEL")
@click.option(
    "--to", "path", required=True, metavar="FILE", help="pendulum.so or pendulum.o; the header is pendulum.h."
)
@click.option("--cpu", default="portable", metavar="KIND", help="portable, native, or x86-64-v2, -v3, -v4.")
@options.plugin
def export(model, path, cpu, plugin):
    """Write MODEL, a .safetensors file or a run directory (its best parameters), as a library that needs no Python."""
    from ..launch.saved import open_saved

    network, _ = open_saved(model, plugin)
    made = network.export(path, cpu, plugin)
    click.echo(f"{made}, {made.with_suffix('.h')}")
