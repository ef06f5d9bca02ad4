"""How verbs print tables: by rich on a terminal, as plain aligned text into a file or pipe."""

import sys

import click


def table(head, rows):
    """Print rows of texts under a head."""
    if sys.stdout.isatty():
        from rich import box
        from rich.console import Console
        from rich.table import Table

        shown = Table(*head, box=box.SIMPLE_HEAD)
        for row in rows:
            shown.add_row(*map(_literal, row))
        Console().print(shown)
    else:
        click.echo(aligned([head, *rows]))


def aligned(rows):
    """Rows of texts in columns, as one text; the last column is as long as it is."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[-1] = 0
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _literal(cell):
    from rich.text import Text

    return Text(cell)  # "[1, 8, 8]" is no markup
