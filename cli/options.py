"""Options of several commands, and the path of their values in the config."""

import click

# Option -> path of its value in the config.
PLACES = {
    "layers": ("model", "layers"),
    "input_shape": ("model", "input_shape"),
    "data": ("data",),
    "loss": ("training", "loss"),
    "optimizer": ("training", "optimizer"),
    "epochs": ("training", "epochs"),
    "batch_size": ("training", "batch_size"),
    "seed": ("training", "seed"),
    "device": ("run", "device"),
    "precision": ("run", "precision"),
    "threads": ("run", "threads"),
}

plugin = click.option(
    "--plugin", multiple=True, metavar="FILE_OR_MODULE", help="Load a plug-in first; may be repeated."
)


def config_table(config, overrides, assignments, plugins):
    """Return the table of a config file with the changes of the command line, and its name for errors.

    Parameters
    ----------
    config : path or None
    overrides : dict
        Option -> value, the names of `PLACES`.
    assignments : sequence of str
        ``section.key=value``, applied after `overrides`.
    plugins : sequence of str

    Raises
    ------
    UsageError
    """
    from ..training import config_file

    table, source_name = ({}, "") if config is None else config_file.read(config)
    for name, value in overrides.items():
        config_file.assign(table, PLACES[name], {"name": value} if name == "data" else value)
    for assignment in assignments:
        config_file.override(table, assignment)
    config_file.add_plugins(table, plugins)
    return table, source_name
