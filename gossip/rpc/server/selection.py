"""Which events a stream carries, and which members a list shows."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from gossip.membership import EventReceived, Member, MembersChanged, MembershipNews, QueryReceived
from gossip.rpc.records import EVENT_OF, QUERY_EVENT, USER_EVENT
from gossip.rpc.requests import FilterMembers
from gossip.serf.patterns import Pattern, PatternError, compile_pattern
from orca.errors import InvalidRequestError

_EVERYTHING: Final = "*"
_NAMED: Final = (USER_EVENT, QUERY_EVENT)
_KINDS: Final = frozenset({*EVENT_OF.values(), *_NAMED, _EVERYTHING})
KINDS_MAX: Final = 64


class _Kind(NamedTuple):
    """One kind of events; with a name, only events or queries of that name."""

    event: str
    name: str


class EventFilter:
    """What a stream was asked for: `member-join,user:deploy`, for example; nothing means everything.

    Raises ValueError for what no event is.
    """

    def __init__(self, words: str) -> None:
        self._kinds = tuple(_kind(word) for word in (words or _EVERYTHING).split(","))
        if len(self._kinds) > KINDS_MAX or any(kind.event not in _KINDS for kind in self._kinds):
            raise ValueError(f"no filter of events: {words!r:.80}")

    def takes(self, news: MembershipNews) -> bool:
        """Whether the stream carries it."""
        name = ""
        match news:
            case MembersChanged():
                event = EVENT_OF[news.change]
            case EventReceived():
                event, name = USER_EVENT, news.name
            case QueryReceived():
                event, name = QUERY_EVENT, news.name
        return any(
            kind.event == _EVERYTHING or (kind.event == event and kind.name in {"", name}) for kind in self._kinds
        )


def _kind(word: str) -> _Kind:
    for event in _NAMED:
        if word.startswith(f"{event}:"):
            return _Kind(event, word.removeprefix(f"{event}:"))
    return _Kind(word, "")


def member_selector(request: FilterMembers) -> Callable[[Member], bool]:
    """Tells whom the request wants; InvalidRequestError when an expression cannot be read."""
    tags = {tag: _whole(expression, f"tag {tag!r}") for tag, expression in request.tags.items()}
    status = _whole(request.status, "status") if request.status else None
    node = _whole(request.node, "name") if request.node else None

    def is_wanted(member: Member) -> bool:
        return (
            _all_match(tags, member.tags)
            and (status is None or status.matches(member.status.name.lower()))
            and (node is None or node.matches(member.node))
        )

    return is_wanted


def _all_match(patterns: Mapping[str, Pattern], tags: Mapping[str, str]) -> bool:
    return all(pattern.matches(tags.get(tag, "")) for tag, pattern in patterns.items())


def _whole(expression: str, what: str) -> Pattern:
    try:
        # As Serf builds it, so `a|b` means the same to both: beginning with a, or ending with b.
        return compile_pattern(f"^{expression}$")
    except PatternError as error:
        raise InvalidRequestError(f"the expression for {what} cannot be read: {error}") from error
