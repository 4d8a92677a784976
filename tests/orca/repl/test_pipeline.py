"""How a line of the shell is read, and what stands behind a `|`."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.errors import InvalidRequestError
from orca.repl.filters import make_filter
from orca.repl.pipeline import Pipeline, is_incomplete, last_stage, parse

STATUS = """{"services": [{"name": "web", "ready": 2}, {"name": "db", "ready": 1}], "leader": null}"""


@pytest.mark.parametrize(
    ("text", "command", "filters"),
    [
        ("status", ("status",), ()),
        ("  logs web -n 5 ", ("logs", "web", "-n", "5"), ()),
        ("logs web|grep 'a b'|tail 2", ("logs", "web"), (("grep", "a b"), ("tail", "2"))),
        ('exec web.1 -- sh -c "echo a|cat"', ("exec", "web.1", "--", "sh", "-c", "echo a|cat"), ()),
        ("deploy \\\n service.toml", ("deploy", "service.toml"), ()),
        ("status # how is it", ("status",), ()),
        ("exec web.1 -- echo größe", ("exec", "web.1", "--", "echo", "größe"), ()),
    ],
)
def test_a_line_is_read_as_a_shell_reads_it(text: str, command: tuple[str, ...], filters: object) -> None:
    assert parse(text) == Pipeline(command, filters)  # type: ignore[arg-type] # as given above


@pytest.mark.parametrize("text", ["", "   ", "# nothing"])
def test_empty_lines_and_comments_ask_for_nothing(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize("text", ["| head", "ps |", "ps | | head", "ps || head", "logs 'web"])
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse(text)


@pytest.mark.parametrize(("text", "more"), [("ps", False), ("ps |", True), ("a 'b", True), ("a \\", True), ("", False)])
def test_a_line_goes_on_while_something_is_open(text: str, more: bool) -> None:
    assert is_incomplete(text) is more


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ([], "", False)),
        ("sta", ([], "sta", False)),
        ("logs ", (["logs"], "", False)),
        ("logs we", (["logs"], "we", False)),
        ("logs web | gr", ([], "gr", True)),
        ("exec web.1 -- 'a", (["exec", "web.1", "--"], "'a", False)),
    ],
)
def test_what_is_being_typed_is_found(text: str, expected: tuple[list[str], str, bool]) -> None:
    assert last_stage(text) == expected


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    is_incomplete(text)
    last_stage(text)
    with suppress(InvalidRequestError):
        parse(text)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("grep", "a"), ["a1", "ba"]),
        (("grep", "-v", "a"), ["C", "d"]),
        (("grep", "-i", "c"), ["C"]),
        (("head", "2"), ["a1", "ba"]),
        (("head", "-n", "1"), ["a1"]),
        (("tail", "1"), ["d"]),
        (("count",), ["4"]),
        (("sort", "-r"), ["d", "ba", "a1", "C"]),
    ],
)
def test_filters_keep_what_they_are_asked_for(words: tuple[str, ...], expected: list[str]) -> None:
    assert list(make_filter(words)(["a1", "ba", "C", "d"])) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("services[].name", ["web", "db"]),
        (".services[1].ready", ["1"]),
        ("leader", ["null"]),
        ("nothing.here", []),
        ("leader[]", []),
        ("services[7]", []),
    ],
)
def test_a_part_of_a_document_is_found_by_its_path(path: str, expected: list[str]) -> None:
    assert list(make_filter(("json", path))(STATUS.splitlines())) == expected


@pytest.mark.parametrize("words", [("sed", "s/a/b/"), ("grep",), ("grep", "("), ("head", "x"), ("count", "1")])
def test_what_is_no_filter_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequestError):
        make_filter(words)


def test_text_that_is_no_document_is_refused_with_the_way_out() -> None:
    with pytest.raises(InvalidRequestError, match="no JSON") as refused:
        list(make_filter(("json", "a"))(["NAME  READY"]))
    assert "--json" in refused.value.hint
