"""Expressions about nodes: what they say, and what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.model.constraint import attribute_of, parse_constraint
from tests.consensus.scheduler.fake_world import make_node

NODE = make_node("web-1", cpu=8000, labels={"disk": "ssd", "zone": "b", "kernel": "6.10", "name": "mine"})


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("disk == ssd", True),
        ("disk==hdd", False),
        ("disk != hdd", True),
        ("rack != r1", True),
        ("rack == r1", False),
        ("zone in (a, b)", True),
        ("zone not in (a,b)", False),
        ("rack not in (a)", True),
        ("name ~ web-*", True),
        ("name ~ web-?", True),
        ("name !~ db-*", True),
        ("name ~ web-[1]", False),
        ("kernel >= 6.9", True),
        ("kernel < 6.9", False),
        ("kernel <= 6.10.0", True),
        ("rack > 1", False),
        ("disk > 1", False),
        ("cores >= 8", True),
        ("cores > 8", False),
        ("arch == x86_64", True),
        ("arch == amd64", True),
        ("node.platform.arch != aarch64", True),
        ("node.hostname == web-1", True),
        ("node.labels.name == mine", True),
        ("disk", True),
        ("!disk", False),
        ("!rack", True),
        ('disk == "ssd"', True),
    ],
)
def test_an_expression_holds_or_does_not(text: str, holds: bool) -> None:
    constraint = parse_constraint(text)
    assert constraint.holds_for(attribute_of(NODE, NODE.labels, constraint.attribute)) is holds


@pytest.mark.parametrize(
    "text", ["", "disk = ssd", "a == b c", "node.ip == 1", "zone in ()", "cores > many", "a" * 501]
)
def test_what_is_no_expression_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(ValueError, match=r"it |nothing is known|is no number"):
        parse_constraint(text)


@given(st.text(max_size=40))
def test_any_text_is_an_expression_or_a_value_error(text: str) -> None:
    try:
        constraint = parse_constraint(text)
    except ValueError:
        return
    assert constraint.holds_for(None) in {True, False}
    assert constraint.holds_for("x") in {True, False}
