"""What commands share."""

from collections.abc import Sequence

import typer


def examples(*lines: str) -> str:
    """Format the examples at the end of a command's help."""
    return "\n\n".join(("Examples:", *lines))


def show_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Show rows in columns as wide as their longest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo(visible(line.rstrip()))


def visible(line: str) -> str:
    """Replace control characters, which would act on the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)
