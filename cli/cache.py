"""`nnjit cache`: the directory of compiled code."""

import click


@click.group("cache", invoke_without_command=True)
@click.pass_context
def cache(ctx):
    """Print where compiled code is kept. NNJIT_CACHE_DIR moves it."""
    from ..kernels.compiler.cache import directory

    if ctx.invoked_subcommand is None:
        click.echo(directory())


@cache.command("clear")
def clear():
    """Delete all compiled code; it is compiled again when it is needed."""
    from ..kernels.compiler.cache import clear, directory

    click.echo(f"{directory()}: {clear() / 1e6:.1f} MB freed")
