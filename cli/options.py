"""Options of several commands, and the places of their values in the config."""

import click

# Option -> where its value goes in the config.
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


def config_table(config, given, assignments, plugins):
    """Return the table of a config file with the changes of the command line, and what errors call the file.

    Parameters
    ----------
    config : path or None
    given : dict
        Option -> value, the names of `PLACES`.
    assignments : sequence of str
        ``section.key=value``, later than `given`.
    plugins : sequence of str

    Raises
    ------
    UsageError
    """
    from ..training import config_file

    table, where = ({}, "") if config is None else config_file.read(config)
    for name, value in given.items():
        config_file.assign(table, PLACES[name], {"name": value} if name == "data" else value)
    for assignment in assignments:
        config_file.override(table, assignment)
    config_file.add_plugins(table, plugins)
    return table, where
