"""`nnjit watch RUN`: follow a run from another terminal."""

from pathlib import Path

import click


@click.command("watch")
@click.argument("run", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN")
def watch(run):
    """Follow a run that trains in another terminal, and say how it ended.

    RUN is a run directory, such as runs/digits-1, or one that a run will create: then it is waited for. The exit status
    is 0 if the run ended by itself, and 1 if it failed or was stopped. Ctrl-C ends the watching, not the run.
    """
    from ..launch.watch import Watch
    from ..terminal.output import Output, complain

    if len(run) > 1:
        raise click.UsageError(
            f"it follows one run, got {len(run)}: {run[0]}, {run[1]}{', ...' * (len(run) > 2)}; nnjit compare shows "
            "several"
        )
    ended = Watch(run[0]).follow()
    if ended.well:
        print(ended.sentence, file=Output(), flush=True)
        return 0
    complain(ended.sentence)
    return 1
