"""Options of several commands, and the path of their values in the config."""

import click

# Option -> path of its value in the config.
PLACES = {
    "layers": ("model", "layers"),
    "input_shape": ("model", "input_shape"),
    "data": ("data",),
    "loss": ("training", "loss"),
    "optimizer": ("training", "optimizer"),
    "metrics": ("training", "metrics"),
    "epochs": ("training", "epochs"),
    "batch_size": ("training", "batch_size"),
    "seed": ("training", "seed"),
    "patience": ("training", "patience"),
    "class_weights": ("training", "class_weights"),
    "device": ("run", "device"),
    "precision": ("run", "precision"),
    "threads": ("run", "threads"),
}

plugin = click.option(
    "--plugin", multiple=True, metavar="FILE_OR_MODULE", help="Load a plug-in first; may be repeated."
)

# Options of a run's config, for the commands that take one as `nnjit run` does.
CONFIG = (
    click.option("--layers", metavar="SPECS", help='Layers, such as "conv(8,3) relu maxpool(2) flatten dense(10)".'),
    click.option(
        "--data",
        metavar="SPEC",
        help="A file, such as data.npz, or digits, csv(path='FILE', label='COLUMN'), images(path='DIR'), ...",
    ),
    click.option("--loss", metavar="SPEC", help="Loss, such as cross_entropy."),
    click.option("--optimizer", metavar="SPEC", help='Optimizer, such as "sgd(lr=0.1, momentum=0.9)".'),
    click.option("--metrics", metavar="SPECS", help='Metrics beside the usual ones, such as "f1 top_k(k=3)".'),
    click.option("--epochs", type=int, help="Number of passes over the data."),
    click.option("--batch-size", type=int, help="Samples per step; 0 means the whole set."),
)
assignments = click.option(
    "--set", "assignments", multiple=True, metavar="SECTION.KEY=VALUE", help="Change the config; may be repeated."
)


def sizes(option, text):
    """Read the sizes of a shape, such as "1,28,28" or "1x28x28"; UsageError names the option."""
    from ..errors import UsageError
    from ..registry.specs import quoted

    try:
        return tuple(int(size) for size in text.lower().replace("x", ",").strip("()[] ").split(",") if size.strip())
    except ValueError:
        raise UsageError(f"{option} {quoted(text)}: expected sizes such as 1,28,28") from None


def of_config(command):
    """Add the options of a run's config to a command; a decorator."""
    for option in reversed(CONFIG):
        command = option(command)
    return command


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
