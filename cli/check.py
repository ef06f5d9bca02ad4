"""`nnjit check [NAME...]`: certify layers, plug-ins included."""

from pathlib import Path

import click


@click.command("check")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--plugin", multiple=True, metavar="FILE_OR_MODULE", help="Load a plug-in first; may be repeated.")
@click.option("--draw", type=click.Path(path_type=Path), metavar="PATH", help="Picture of the Taylor slopes to write.")
def check(names, plugin, draw):
    """Certify layers: gradients by differences, Taylor slope, compiled kernels against the reference, threads, shapes.

    NAME may be a pattern, such as 'conv*'; without one every layer is certified. Exit status 1 on any failure.
    """
    from ..check import certify
    from ..registry import load_plugin

    for each in plugin:
        load_plugin(each)
    with click.progressbar(length=1, label="certifying", file=click.get_text_stream("stderr")) as bar:
        report = certify(list(names) or None, progress=lambda done, total, name: _show(bar, done, total, name))
    click.echo(report.table())
    if draw is not None:
        from ..plots import taylor

        click.echo(taylor.draw(report.remainders, draw))
    return int(report.failed)


def _show(bar, done, total, name):
    bar.length = total
    bar.label = f"certifying {name}"
    bar.update(done - bar.pos)
