"""`nnjit plot RUN...`: plots from the logs of one or more runs."""

from pathlib import Path

import click


@click.command("plot")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option(
    "--what",
    multiple=True,
    metavar="PICTURE",
    help="loss, metrics, gradient_norms, update_ratio, filters or confusion; may be repeated. "
    "Default: all plots that the runs have data for.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR|FILE",
    help="A directory, or a file name for a single picture. Default: the run's own directory, or the current one "
    "for several runs.",
)
@click.option("--format", "suffix", type=click.Choice(["png", "svg", "pdf"]), help="File format. Default: png.")
def plot(runs, what, output, suffix):
    """Plot the loss, metrics, gradient norms, update ratios, filters and confusion matrix of runs.

    Several runs share each plot. Prints the path of every file written.
    """
    from ..errors import DataError
    from ..plots import PICTURES, picture
    from ..plots.run_log import read

    logs = [read(run) for run in dict.fromkeys(runs)]
    for log in logs:
        if log.unreadable:
            click.echo(f"{log.directory}: {log.unreadable} unreadable lines of the log were skipped", err=True)
    pictures = {name.replace("-", "_"): picture(name) for name in what or PICTURES}
    if not what:
        pictures = {name: module for name, module in pictures.items() if any(map(module.has_data, logs))}
    if not pictures:
        raise DataError(f"{', '.join(str(log.directory) for log in logs)}: the log holds nothing to plot")
    for (name, module), target in zip(pictures.items(), _targets(pictures, logs, output, suffix), strict=True):
        click.echo(module.draw(logs, target))
        for log in logs:
            if not module.has_data(log):
                click.echo(f"{name}: {log.directory} is left out, it has no {module.NEEDS}", err=True)


def _targets(pictures, logs, output, suffix):
    """List the file for each plot. A name with a suffix of letters is a file, unless a directory has that name."""
    from ..errors import UsageError
    from ..plots.theme import check_format

    if output is not None and output.suffix[1:].isalpha() and not output.is_dir():
        if len(pictures) > 1:
            raise UsageError(
                f"--output {output} is one file for {len(pictures)} pictures ({', '.join(pictures)}); "
                "name a directory, or one picture with --what"
            )
        if check_format(output) != (suffix or check_format(output)):
            raise UsageError(f"--output {output} and --format {suffix} name different formats")
        folder, files = output.parent, [output]
    else:
        folder = output or (logs[0].directory if len(logs) == 1 else Path())
        files = [folder / f"{name}.{suffix or 'png'}" for name in pictures]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {folder}: cannot be made a directory ({error.strerror})") from None
    return files
