"""Lines of keys in TOML, against files that are easy to misread."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.specs.toml_lines import NestedTooDeepError, Path, find_places

TRICKY = '''\
# [not.a.table]
top = 1
"quoted key" = "a = b"
'lit.eral' = 'c:\\path'
a.b . "c" = 2
long = """
[[service]]
name = "inside a string" \\"""
"""""
lit = \'\'\'
x = 1
it''s \'\'\'\'
list = [ # comment ]
  1,
  [ "x]", 'y,' ],
  { k = 3, l.m = [4] },
]
when = 1979-05-27 07:32:00Z
[table] # comment
z = -inf
  [ table . "sub.table" ]
  q = 0x_no
'''.replace("0x_no", "0xff")

ARRAYS = """\
[[service]]
name = "a"
[service.env]
A = "1"
[[service.routes]]
path = "/"
[[service.routes]]
path = "/x"

[[service]]
name = "b"
env.B = "2"
[service.resources]
cpu = 1
[[service.routes]]
path = "/y"
"""


def _paths(value: Any, path: Path = ()) -> list[Path]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key, child in value.items():
            found += _paths(child, (*path, key))
    if isinstance(value, list):
        for index, child in enumerate(value):
            found += _paths(child, (*path, index))
    return found


@pytest.mark.parametrize("text", [TRICKY, ARRAYS])
def test_every_value_that_tomllib_reads_has_a_line(text: str) -> None:
    lines = find_places(text).lines
    assert [path for path in _paths(tomllib.loads(text)) if path not in lines] == []


@pytest.mark.parametrize("text", [TRICKY, ARRAYS])
def test_crlf_line_ends_count_like_plain_ones(text: str) -> None:
    assert find_places(text.replace("\n", "\r\n")).lines == find_places(text).lines


def test_lines_of_strings_lists_and_dotted_keys_are_where_they_stand() -> None:
    lines = find_places(TRICKY).lines
    expected: dict[Path, int] = {
        ("top",): 2,
        ("quoted key",): 3,
        ("lit.eral",): 4,
        ("a", "b", "c"): 5,
        ("a",): 5,
        ("long",): 6,
        ("lit",): 10,
        ("list",): 13,
        ("list", 0): 14,
        ("list", 1, 1): 15,
        ("list", 2, "l", "m", 0): 16,
        ("when",): 18,
        ("table",): 19,
        ("table", "z"): 20,
        ("table", "sub.table"): 21,
        ("table", "sub.table", "q"): 22,
    }
    assert {path: lines.get(path) for path in expected} == expected


def test_keys_below_an_array_of_tables_belong_to_its_newest_element() -> None:
    lines = find_places(ARRAYS).lines
    expected: dict[Path, int] = {
        ("service",): 1,
        ("service", 0): 1,
        ("service", 0, "name"): 2,
        ("service", 0, "env"): 3,
        ("service", 0, "env", "A"): 4,
        ("service", 0, "routes", 1, "path"): 8,
        ("service", 1): 10,
        ("service", 1, "env"): 12,
        ("service", 1, "env", "B"): 12,
        ("service", 1, "resources", "cpu"): 14,
        ("service", 1, "routes", 0): 15,
    }
    assert {path: lines.get(path) for path in expected} == expected


def test_a_key_given_twice_is_reported_with_both_lines() -> None:
    (twice,) = find_places("a = 1\nb = 2\na = 3\n").duplicates
    assert (twice.path, twice.line, twice.first_line) == (("a",), 3, 1)


@pytest.mark.parametrize("text", ["a = " + "[" * 100, "a." * 100 + "b = 1", "a = " + "{b = " * 100, "[" + "a." * 50])
def test_deep_nesting_is_refused_before_tomllib_sees_it(text: str) -> None:
    with pytest.raises(NestedTooDeepError):
        find_places(text)


_KEYS = st.text("abc .\"'[]=#\\\n", min_size=1, max_size=6)
_VALUES = st.recursive(
    st.integers(-9, 9) | st.booleans() | st.text("ab\"'\\\n#=[]{},", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=8,
)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return "[\n" + ",\n".join(map(_written, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(key)} = {_written(child)}" for key, child in value.items()) + "}"
    return _quoted(value)


@given(st.dictionaries(_KEYS, _VALUES, max_size=4))
def test_any_written_document_is_followed_to_its_end(document: dict[str, Any]) -> None:
    text = "".join(f"{_quoted(key)} = {_written(value)}\n" for key, value in document.items())
    assert tomllib.loads(text) == document
    lines = find_places(text).lines
    assert [path for path in _paths(document) if path not in lines] == []
    starts = [lines[key,] for key in document]
    assert starts == sorted(starts)


@given(st.text("[]{}=.,#\"' \n\\abc1", max_size=80))
def test_text_that_is_no_toml_never_breaks_the_scan(text: str) -> None:
    places = find_places(text)
    assert all(1 <= line <= text.count("\n") + 1 for line in places.lines.values())
