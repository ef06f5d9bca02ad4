"""`nnjit check [NAME...]`: certify layers, including plug-ins."""

from pathlib import Path

import click

from . import options


@click.command("check")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@options.plugin
@click.option(
    "--draw", type=click.Path(path_type=Path), metavar="PATH", help="Write a plot of the Taylor slopes to this file."
)
def check(names, plugin, draw):
    """Certify layers: finite differences, Taylor slope, compiled kernels against the reference, threads, shapes.

    CUDA is checked if there is a GPU, and in Numba's simulator if NUMBA_ENABLE_CUDASIM=1, which is slow.

    NAME may be a pattern, such as 'conv*'. Default: all layers. The exit status is 1 if any check fails.
    """
    from ..check import certify
    from ..registry import load_plugin
    from ..terminal.progress import Progress

    for each in plugin:
        load_plugin(each)
    with Progress("certifying") as progress:
        report = certify(list(names) or None, progress)
    click.echo(report.table())
    if draw is not None:
        from ..plots import taylor

        click.echo(taylor.draw(report.remainders, draw))
    return int(report.failed)
