"""`nnjit check [NAME...]`: certify layers, losses, optimizers and schedules, including plug-ins."""

import sys
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

    for each in plugin:
        load_plugin(each)
    if shape and not names:
        raise UsageError('--shape needs the NAME of what takes it, such as nnjit check "dense(5)" --shape 7')
    shapes = [options.sizes("--shape", text) for text in shape] or None
    report = certify(list(names) or None, progress=_show if sys.stderr.isatty() else None, shapes=shapes)
    click.echo(report.table())
    if draw is not None:
        from ..plots import taylor

        click.echo(taylor.draw(report.remainders, draw))
    return int(report.failed)


def _show(done, total, name):
    """Write one line on a terminal, which the next call rewrites and the last call erases."""
    click.echo(f"\r\x1b[Kcertifying {name}, {done + 1} of {total}", nl=False, err=True)
    if done + 1 == total:
        click.echo("\r\x1b[K", nl=False, err=True)
