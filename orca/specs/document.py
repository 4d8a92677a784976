"""A parsed file in one shape for TOML and YAML: values that know their line."""

import datetime
from typing import Final, TypeAlias

import msgspec

Scalar: TypeAlias = str | int | float | bool | datetime.date | datetime.time | None

DEPTH_MAX: Final = 32
"""Deepest nesting of tables and lists. The deepest place of a valid file is about 8."""


class Node(msgspec.Struct, frozen=True):
    """One value of a file.

    `line` is where its key stands (an element of a list: where the element starts).
    A loose node (YAML) keeps scalars as they were written, and whoever reads it decides
    whether `8080` is a number or a word; a strict one (TOML) has the type of the file.
    """

    value: "Scalar | tuple[Node, ...] | dict[str, Node]"
    line: int
    is_loose: bool = False


def kind_of(value: object) -> str:
    """What a person calls the type of `value`."""
    names: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (type(None), "nothing"),
        (bool, "true or false"),
        (int, "a number"),
        (float, "a number"),
        (str, "a string"),
        (dict, "a table"),
        (tuple, "a list"),
        ((datetime.date, datetime.time), "a date or time"),
    )
    return next(name for kind, name in names if isinstance(value, kind))
