"""What the sending process is given, and what it answers."""

import msgspec


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """One message and where it goes."""

    address: str
    title: str
    body: str
    kind: str
    identity: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Why it was not taken; empty when it was."""

    problem: str = ""
