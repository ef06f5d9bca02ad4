"""Tables of text: rich on a terminal, plain aligned text in a file or pipe."""

import sys

import click


def table(head, rows):
    """Print rows of texts under a header."""
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
    """Align rows of texts in columns and join them to one text; the last column is not padded."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[-1] = 0
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _literal(cell):
    from rich.text import Text

    return Text(cell)  # "[1, 8, 8]" is not markup


def notes(dataset_notes):
    """Print the notes of a reader of data on standard error, so that they are no part of a table or of CSV."""
    for note in dataset_notes:
        click.echo(note, err=True)
