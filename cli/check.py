"""`nnjit check [NAME...]`: certify layers, losses, optimizers and schedules, including plug-ins."""

from pathlib import Path

import click

from ..errors import UsageError
from . import options


@click.command("check")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@options.plugin
@click.option(
    "--shape",
    multiple=True,
    metavar="SIZES",
    help="Shape of a sample on which to try NAME, such as 1,28,28; repeatable.",
)
@click.option(
    "--draw", type=click.Path(path_type=Path), metavar="PATH", help="Write a plot of the Taylor slopes to this file."
)
def check(names, plugin, shape, draw):
    """Certify layers: finite differences, Taylor slope, kernels against the reference, threads, large numbers.

    CUDA is checked if there is a GPU, and in Numba's simulator if NUMBA_ENABLE_CUDASIM=1, which is slow.

    NAME is a layer, loss, optimizer or schedule, one with options, such as "dense(units=5)", or a pattern, such as
    'conv*'. Default: all of them. The exit status is 1 if any check fails.
    """
    from ..check import certify
    from ..registry import load_plugin
    from ..terminal.progress import Progress

    for each in plugin:
        load_plugin(each)
    if shape and not names:
        raise UsageError('--shape needs the NAME of what takes it, such as nnjit check "dense(5)" --shape 7')
    shapes = [options.sizes("--shape", text) for text in shape] or None
    with Progress("certifying") as progress:
        report = certify(list(names) or None, progress, shapes)
    click.echo(report.table())
    if draw is not None:
        from ..plots import taylor

        click.echo(taylor.draw(report.remainders, draw))
    return int(report.failed)
