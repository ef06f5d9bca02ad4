"""`nnjit show RUN_OR_CONFIG`: summary, config and program of a run or a config."""

from pathlib import Path

import click

from . import options


@click.command("show")
@click.argument("what", metavar="RUN_OR_CONFIG")
@click.option("--program", is_flag=True, help="Print the generated source instead.")
@options.plugin
def show(what, program, plugin):
    """Print the summary and resolved config of a run directory or a config (- is standard input), or the program."""
    texts = _of_run(Path(what)) if Path(what).is_dir() else _of_config(what, plugin)
    click.echo(texts["program.py"] if program else f"{texts['summary.txt']}\n\n{texts['config.toml']}")


def _of_run(path):
    """Read the texts in a run directory; needs neither the network nor its plug-ins."""
    from ..errors import CheckpointError
    from ..storage.run_directory import RunDirectory

    RunDirectory.open(path)
    texts = {}
    for name in ("summary.txt", "config.toml", "program.py"):
        try:
            texts[name] = (path / name).read_text(encoding="utf-8").rstrip()
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path / name}: cannot be read ({getattr(error, 'strerror', error)})") from None
    return texts


def _of_config(path, plugins):
    """Return the texts that `nnjit run` would write for a config."""
    from ..launch import launch
    from ..training import config_file

    table, source_name = config_file.read(path)
    config_file.add_plugins(table, plugins)
    trainer, config, _ = launch.prepare(launch.read_config(table, source_name), source_name)
    return {
        "summary.txt": trainer.network.summary(),
        "config.toml": config.text().rstrip(),
        "program.py": trainer.program.source.rstrip(),
    }
