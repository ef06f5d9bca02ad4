"""`nnjit check [NAME...]`: certify layers, plug-ins included."""

import sys
from pathlib import Path

import click

from . import options


@click.command("check")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@options.plugin
@click.option("--draw", type=click.Path(path_type=Path), metavar="PATH", help="Picture of the Taylor slopes to write.")
def check(names, plugin, draw):
    """Certify layers: gradients by differences, Taylor slope, compiled kernels against the reference, threads, shapes.

    CUDA is asked where there is a GPU, and in Numba's simulator with NUMBA_ENABLE_CUDASIM=1, which takes its time.

    NAME may be a pattern, such as 'conv*'; without one every layer is certified. Exit status 1 on any failure.
    """
    from ..check import certify
    from ..registry import load_plugin

    for each in plugin:
        load_plugin(each)
    report = certify(list(names) or None, progress=_show if sys.stderr.isatty() else None)
    click.echo(report.table())
    if draw is not None:
        from ..plots import taylor

        click.echo(taylor.draw(report.remainders, draw))
    return int(report.failed)


def _show(done, total, name):
    """One line on a terminal, rewritten and taken away by the last."""
    click.echo(f"\r\x1b[Kcertifying {name}, {done + 1} of {total}", nl=False, err=True)
    if done + 1 == total:
        click.echo("\r\x1b[K", nl=False, err=True)
