"""Plain text that fits: widths, cutting, tables. Pure."""

import unicodedata
from collections.abc import Sequence
from typing import Final, NamedTuple

ELLIPSIS: Final = "…"
GAP: Final = 2
WIDTH_DEFAULT: Final = 80

STYLES: Final = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}


class Cell(NamedTuple):
    """A text of one line and how it is painted."""

    text: str
    style: str = ""


class Column(NamedTuple):
    """A table's column. `shrinks_to` is its least width when the table is too wide, 0 for never."""

    title: str
    is_number: bool = False
    shrinks_to: int = 0


def clean(text: str) -> str:
    """`text` on one line and without control characters, which could take over a terminal."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else " " for character in text).strip()


def width_of(text: str) -> int:
    """Terminal columns that `text` takes."""
    if text.isascii():
        return len(text)
    return sum(_character_width(character) for character in text)


def _character_width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) == "Cf":
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def cut(text: str, width: int) -> str:
    """`text` in at most `width` columns; what is lost is shown by an ellipsis."""
    if width_of(text) <= width:
        return text
    kept, used = [], 0
    for character in text:
        size = _character_width(character)
        if used + size > width - 1:
            break
        kept.append(character)
        used += size
    return "".join(kept).rstrip() + ELLIPSIS if width > 0 else ""


def wrap(text: str, width: int, indent: str = "") -> list[str]:
    """`text` on lines of at most `width` columns, each after `indent`; long words are broken."""
    lines, line = [], ""
    room = max(width - width_of(indent), 10)
    for word in text.split():
        while width_of(word) > room:
            if line:
                lines.append(line)
                line = ""
            head = word[:room]
            while width_of(head) > room:
                head = head[:-1]
            lines.append(head)
            word = word[len(head) :]
        if line and width_of(line) + 1 + width_of(word) > room:
            lines.append(line)
            line = word
        elif word:
            line = f"{line} {word}" if line else word
    return [indent + one for one in ([*lines, line] if line or not lines else lines)]


def paint(text: str, style: str, *, is_coloured: bool) -> str:
    """`text` in `style`, a name of STYLES or several joined by spaces."""
    if not (is_coloured and style and text):
        return text
    codes = ";".join(STYLES[name] for name in style.split())
    return f"\x1b[{codes}m{text}\x1b[0m"


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell | str]], *, width: int, is_coloured: bool = False
) -> list[str]:
    """Lines of a table with a head line, at most `width` columns wide.

    A column that is empty in every row is left out. When it does not fit, the columns
    that may shrink lose width, the widest first, and cut texts end in an ellipsis.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    kept = [index for index in range(len(columns)) if not cells or any(row[index].text for row in cells)]
    shown = [columns[index] for index in kept]
    cells = [[row[index] for index in kept] for row in cells]
    sizes = _sizes(shown, cells, width)
    head = [Cell(column.title, "bold") for column in shown]
    lines = []
    for row in (head, *cells):
        parts = []
        for column, cell, size in zip(shown, row, sizes, strict=True):
            text = cut(cell.text, size)
            fill = " " * (size - width_of(text))
            painted = paint(text, cell.style, is_coloured=is_coloured)
            parts.append(fill + painted if column.is_number else painted + fill)
        lines.append((" " * GAP).join(parts).rstrip())
    return lines


def fits(columns: Sequence[Column], rows: Sequence[Sequence[Cell | str]], width: int) -> bool:
    """Whether a table is at most `width` columns wide, shrunk as far as it may be."""
    cells = [[_cell(value) for value in row] for row in rows]
    kept = [index for index in range(len(columns)) if any(row[index].text for row in cells)]
    sizes = _sizes([columns[index] for index in kept], [[row[index] for index in kept] for row in cells], width)
    return sum(sizes) + GAP * (len(sizes) - 1) <= width


def _cell(value: Cell | str) -> Cell:
    return Cell(clean(value)) if isinstance(value, str) else Cell(clean(value.text), value.style)


def _sizes(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int) -> list[int]:
    sizes = [
        max([width_of(column.title), *(width_of(row[index].text) for row in rows)])
        for index, column in enumerate(columns)
    ]
    over = sum(sizes) + GAP * (len(sizes) - 1) - width
    while over > 0:
        able = [index for index, column in enumerate(columns) if column.shrinks_to and sizes[index] > column.shrinks_to]
        if not able:
            break
        sizes[max(able, key=lambda index: sizes[index])] -= 1
        over -= 1
    return sizes
