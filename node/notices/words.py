"""The messages: plain text of alerts, made of the same sentences as `orca alerts`. Pure."""

from collections.abc import Sequence
from typing import Final

import msgspec

from node.notices.decide import Notice
from orca.model.event import Severity

LINES_MAX: Final = 40
"""Alerts named in one message; the rest is counted."""
CAUSES_MAX: Final = 2
QUOTES_MAX: Final = 3


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent. `kind`: info, success, warning or failure, for channels that colour messages."""

    title: str
    body: str
    kind: str
    identity: str


def message_of(notices: Sequence[Notice], cluster: str) -> Message:
    """One message for all of `notices`; there is at least one."""
    assert notices, "a message of nothing"
    identity = notices[0].identity if len(notices) == 1 else f"{notices[0].identity}+{len(notices) - 1}"
    title = _title(notices[0]) if len(notices) == 1 else _count(notices)
    body = _at_length(notices[0]) if len(notices) == 1 else _digest(notices)
    return Message(title=f"[orca {cluster}] {title}", body=body, kind=_kind(notices), identity=identity)


def test_message(cluster: str, channel: str, node: str) -> Message:
    """That the way is open."""
    return Message(
        title=f"[orca {cluster}] test",
        body=f"This is how alerts come to the channel {channel}. It was sent by {node} because somebody asked for it.",
        kind="info",
        identity="test",
    )


def _title(notice: Notice) -> str:
    if not notice.state.is_firing:
        return f"over: {notice.alert}"
    return f"{'worse, now ' if notice.is_worse else ''}{notice.state.severity.value}: {notice.alert}"


def _count(notices: Sequence[Notice]) -> str:
    firing = sum(one.state.is_firing for one in notices)
    parts = [f"{firing} alerts" if firing > 1 else "1 alert"] if firing else []
    parts += [f"{len(notices) - firing} over"] if firing < len(notices) else []
    return ", ".join(parts)


def _kind(notices: Sequence[Notice]) -> str:
    firing = [one.state.severity for one in notices if one.state.is_firing]
    if not firing:
        return "success"
    return "failure" if Severity.ERROR in firing else "warning" if Severity.WARNING in firing else "info"


def _headline(notice: Notice) -> str:
    if notice.view is None:
        return "It is in no node's history any more."
    return notice.view.facts[0]


def _at_length(notice: Notice) -> str:
    lines = [_headline(notice)]
    view = notice.view
    if view is not None:
        lines += view.facts[1:]
        if notice.state.is_firing:
            lines += [f"> {quote}" for quote in view.quotes[:QUOTES_MAX]]
            if view.causes:
                lines.append("Possible causes:")
            lines += [f"- {one.cause} ({one.because}): {one.command}" for one in view.causes[:CAUSES_MAX]]
        elif view.resolved_by is not None:
            lines.append(f"Resolved by {view.resolved_by.by}. {view.resolved_by.reason}".rstrip())
        if view.stands_for:
            lines.append(f"It stands for {len(view.stands_for)} more: {', '.join(view.stands_for[:5])}.")
    if notice.state.is_firing:
        lines.append(f"orca alerts show {notice.alert}")
    return "\n".join(lines)


def _digest(notices: Sequence[Notice]) -> str:
    lines = [f"{_title(one)}: {_headline(one)}" for one in notices[:LINES_MAX]]
    if len(notices) > LINES_MAX:
        lines.append(f"… and {len(notices) - LINES_MAX} more")
    return "\n".join([*lines, "orca alerts"])
