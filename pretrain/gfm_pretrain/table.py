"""Tables as text: aligned for a terminal, or in Markdown."""

from collections.abc import Sequence

Row = Sequence[object]


def text_table(header: Row, rows: Sequence[Row]) -> str:
    """Columns aligned with spaces under a ruled header; columns of numbers are set right.

    Args:
        header: one title per column.
        rows: one cell per column; a cell is shown as `str(cell)`.

    Returns:
        The lines of the table, joined by newlines, without a trailing one.

    Raises:
        ValueError: a row has more or fewer cells than the header.
    """
    lines = _cells(header, rows)
    columns = list(zip(*lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [len(rows) > 0 and all(map(_is_number, column[1:])) for column in columns]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(_aligned(line, widths, right) for line in lines)


def markdown_table(header: Row, rows: Sequence[Row]) -> str:
    """The same table in Markdown; `|` and line breaks inside a cell are escaped.

    Raises:
        ValueError: a row has more or fewer cells than the header.
    """
    lines = [[_escaped(cell) for cell in line] for line in _cells(header, rows)]
    lines.insert(1, ["---"] * len(header))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cells(header: Row, rows: Sequence[Row]) -> list[list[str]]:
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row of this table has {len(header)} cells, got {len(row)}: {row}")
    return [[str(cell) for cell in line] for line in (header, *rows)]


def _aligned(line: list[str], widths: list[int], right: list[bool]) -> str:
    cells = (
        cell.rjust(width) if is_right else cell.ljust(width)
        for cell, width, is_right in zip(line, widths, right, strict=True)
    )
    return "  ".join(cells).rstrip()


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", ""))
    except ValueError:
        return cell in ("", "-")
    return True


def _escaped(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|")
