"""`nnjit plot RUN...`: plots from the logs and predictions of one or more runs."""

from pathlib import Path

import click


@click.command("plot")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option(
    "--what",
    multiple=True,
    metavar="PICTURE",
    help="loss, metrics, learning_rate, gradient_norms, update_ratio, confusion, labels, residuals, samples, plane or "
    "filters; may be repeated. Default: all plots that the runs have data for.",
)
@click.option("--layer", metavar="NAME", help="The convolution that filters shows, such as conv.3. Default: the first.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR|FILE",
    help="A directory, or a file name for a single picture. Default: the run's own directory, or the current one "
    "for several runs.",
)
@click.option("--format", "suffix", type=click.Choice(["png", "svg", "pdf"]), help="File format. Default: png.")
def plot(runs, what, layer, output, suffix):
    """Plot losses, metrics, norms by layer, filters, and what fits the task: a confusion matrix, residuals, samples.

    Several runs share each plot. The directory that `nnjit run --seeds` or `--folds` made is drawn as the mean of its
    runs with a band of a standard deviation. Prints the path of every file written.
    """
    from ..errors import DataError, UsageError
    from ..plots import PICTURES, TOGETHER, filters, picture
    from ..plots.run_log import expand

    what = what or (("filters",) if layer is not None else ())
    pictures = {picture(name).__name__.rpartition(".")[2]: picture(name) for name in what or PICTURES}
    if layer is not None and "filters" not in pictures:
        raise UsageError(f"--layer {layer}: only the picture filters shows one layer; add --what filters")
    runs = list(dict.fromkeys(runs))
    logs = [log for run in runs for log in expand(run)]
    for log in logs:
        if log.unreadable:
            click.echo(f"{log.directory}: {log.unreadable} unreadable lines of the log were skipped", err=True)
    if not what:
        wanted = TOGETHER if any(log.group is not None for log in logs) else pictures
        pictures = {name: pictures[name] for name in wanted if any(map(pictures[name].has_data, logs))}
    if not pictures:
        raise DataError(f"{', '.join(map(str, runs))}: the log holds nothing to plot")
    folder = runs[0] if len(runs) == 1 else Path()
    for (name, module), target in zip(pictures.items(), _targets(pictures, folder, output, suffix), strict=True):
        click.echo(filters.draw(logs, target, layer) if module is filters else module.draw(logs, target))
        for log in logs:
            if not module.has_data(log):
                click.echo(f"{name}: {log.directory} is left out, it has no {module.NEEDS}", err=True)


def _targets(pictures, folder, output, suffix):
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
        folder = output or folder
        files = [folder / f"{name}.{suffix or 'png'}" for name in pictures]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {folder}: cannot be made a directory ({error.strerror})") from None
    return files
