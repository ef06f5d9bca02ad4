"""`nnjit compile [CONFIG.toml]`: fill the cache of compiled code for a run."""

import click

from ..kernels.compiler.second import early
from . import options
from .text import aligned


@click.command("compile")
@click.argument("config", required=False, metavar="[CONFIG.toml]")
@options.of_config
@options.plugin
@options.assignments
def compile(config, plugin, assignments, **overrides):
    """Compile what `nnjit run` needs for a config into the cache, for a container image or a class room.

    Nothing is trained. The same run then compiles nothing, nor do `nnjit evaluate` and `nnjit predict` with its
    network, as long as nnjit, Numba, the kind of processor and the code of plug-ins are the same; the cache may be
    copied and may be read-only. NNJIT_CACHE_DIR chooses its directory. Default: the run of `nnjit run`.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    with early():
        from ..launch.fill import fill

        filled = fill(*options.config_table(config, given, assignments, plugin))
    from .info import versions

    facts = [
        ("network", filled.summary),
        ("written", f"{filled.written} functions, {filled.size / 1e6:.1f} MB ({filled.present} were there)"),
        ("to", str(filled.folder)),
        *versions(),
    ]
    click.echo(aligned(facts))
    if filled.unstored:
        click.echo("not stored: a kernel that depends on an object without a textual form, and its programs")
