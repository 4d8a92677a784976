"""Expressions of strangers: the same answers as `re` for what is understood, in bounded time for everything."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.serf.patterns import WORK_MAX, PatternError, compile_pattern


@pytest.mark.parametrize(
    ("expression", "text", "is_match"),
    [
        ("", "anything", True),
        ("web", "my-web-1", True),
        ("^web", "my-web", False),
        ("^web-[0-9]+$", "web-12", True),
        ("^web-[0-9]+$", "web-x", False),
        ("^(eu|us)-.*", "us-west", True),
        ("^(?:eu|us)-.*", "ap-west", False),
        ("a{2,3}$", "baaa", True),
        ("^a{2,3}$", "aaaa", False),
        ("^a{2}$", "aa", True),
        ("^a{2,}$", "aaaaa", True),
        ("a{x", "a{x", True),
        ("^[^a-c]$", "d", True),
        ("^[^a-c]$", "b", False),
        ("^[]a]$", "]", True),
        (r"^\d+\.\d+$", "1.25", True),
        (r"^[\w.-]+$", "a_b-c.d", True),
        (r"^\S+$", "a b", False),
        (r"\Aa\z", "a", True),
        ("^a*?$", "aaa", True),
        ("(a*)*$", "aaab", True),
        ("(|a)+", "", True),
        (".", "\n", False),
        ("é", "café", True),
    ],
)
def test_it_matches_like_go_does(expression: str, text: str, is_match: bool) -> None:
    assert compile_pattern(expression).matches(text) is is_match


@pytest.mark.parametrize(
    "expression",
    [
        "(a)\\1",
        "(?=a)",
        "(?i)a",
        "(?P<n>a)",
        "\\b",
        "\\pL",
        "\\x41",
        "[[:alpha:]]",
        "[b-a]",
        "(",
        ")",
        "[a",
        "\\",
        "*a",
        "a**",
        "a{300}",
        "a{3,2}",
        "(" * 20 + ")" * 20,
        "a" * 257,
        "((a{200}){200}){200}",
    ],
)
def test_what_is_not_understood_is_refused(expression: str) -> None:
    with pytest.raises(PatternError):
        compile_pattern(expression)


def test_nested_repetitions_of_nothing_end() -> None:
    assert compile_pattern("(((((){256}){256}){256}){256}){256}").matches("x")


def test_what_takes_too_much_work_does_not_match() -> None:
    """`re` would take longer than the universe has."""
    assert not compile_pattern("(a*)*b").matches("a" * 100)
    wide = compile_pattern("(a?){200}" + "b")
    assert not wide.matches("a" * (WORK_MAX // 100))


plain = st.sampled_from(["a", "b", "-", r"\d", "[ab]", "[^a]", ".", "1", "^", "$"])
expressions = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{0,2}", "{2}", "*?"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
    ),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(expressions, st.text(alphabet="ab-1\n", max_size=8))
def test_it_agrees_with_re_on_any_expression_of_the_common_part(expression: str, text: str) -> None:
    """But for `$` before a last newline, which only Python lets match."""
    expected = re.search(expression.replace("$", r"\Z"), text) is not None
    assert compile_pattern(expression).matches(text) is expected


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60), st.text(max_size=40))
def test_any_text_is_compiled_or_refused(expression: str, text: str) -> None:
    try:
        pattern = compile_pattern(expression)
    except PatternError:
        return
    assert pattern.matches(text) in {True, False}
