"""`nnjit cache`: the directory of compiled code and decoded images."""

import click


@click.group("cache", invoke_without_command=True)
@click.pass_context
def cache(ctx):
    """Print the directory of compiled code and decoded images. Set NNJIT_CACHE_DIR to move it."""
    from ..kernels.compiler.directory import directory

    if ctx.invoked_subcommand is None:
        click.echo(directory())


@cache.command("clear")
def clear():
    """Delete all compiled code and decoded images; nnjit makes them again when needed."""
    from ..kernels.compiler.directory import clear, directory

    click.echo(f"{directory()}: {clear() / 1e6:.1f} MB freed")
