"""Texts and tables that fit."""

import pytest

from orca.cli.text import Cell, Column, clean, cut, paint, table, width_of, wrap


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [("short", 5, "short"), ("longer", 5, "long…"), ("日本語", 5, "日本…"), ("日本語", 4, "日…"), ("x", 0, "")],
)
def test_a_text_is_cut_to_its_columns(text: str, width: int, expected: str) -> None:
    assert cut(text, width) == expected
    assert width_of(expected) <= width


def test_control_characters_cannot_reach_the_terminal() -> None:
    assert clean("a\x1b[31mb\r\nc") == "a [31mb  c"


def test_wrapped_lines_fit_and_lose_nothing() -> None:
    text = "one two " + "x" * 50 + " three"
    lines = wrap(text, 20, "  ")
    assert all(width_of(line) <= 20 and line.startswith("  ") for line in lines)
    assert "".join(line.strip() for line in lines).replace(" ", "") == text.replace(" ", "")


def test_a_table_shrinks_only_columns_that_may() -> None:
    columns = (Column("ID"), Column("TEXT", shrinks_to=6), Column("N", is_number=True))
    lines = table(columns, [["abcdefgh", "a long text here", "1"]], width=24)
    assert lines == ["ID        TEXT         N", "abcdefgh  a long tex…  1"]


def test_a_column_without_content_is_left_out() -> None:
    assert table((Column("A"), Column("B")), [["1", ""]], width=80) == ["A", "1"]


def test_paint_is_only_for_terminals() -> None:
    assert paint("x", "red bold", is_coloured=True) == "\x1b[31;1mx\x1b[0m"
    assert paint("x", "red", is_coloured=False) == "x"
    assert table((Column("A"),), [[Cell("x", "red")]], width=9) == ["A", "x"]
