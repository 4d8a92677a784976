"""What clients may ask and what may happen, for the property tests."""

from hypothesis import strategies as st

from gossip.membership import (
    Acked,
    Answered,
    EventReceived,
    Finished,
    KeyOperation,
    Member,
    MembersChanged,
    MembershipNews,
    MemberStatus,
    QueryNews,
    QueryReceived,
    Question,
    StatusChange,
)
from gossip.messages import Address, Filter, NodeFilter, TagFilter
from gossip.rpc.requests import (
    Ask,
    Auth,
    ChangeKeys,
    ChangeTags,
    FilterMembers,
    FollowEvents,
    FollowLog,
    ForceLeave,
    Handshake,
    Join,
    LeaveCluster,
    ListMembers,
    ReadCoordinate,
    ReadStats,
    Request,
    Respond,
    SendEvent,
    StopStream,
)

# Names on the wire are bytes: what is no UTF-8 has to survive too.
words = st.binary(max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
payloads = st.binary(max_size=300)
numbers = st.integers(0, 2**63 - 1)
tags = st.dictionaries(words, words, max_size=4)
addresses = st.builds(
    Address,
    st.one_of(st.ip_addresses(v=4).map(str), st.just("fd00::7"), st.just("::1")),
    st.integers(0, 65535),
)
members = st.builds(
    Member,
    node=words,
    address=addresses,
    tags=tags,
    status=st.sampled_from(MemberStatus),
    version=st.binary(min_size=6, max_size=6),
)
news: st.SearchStrategy[MembershipNews] = st.one_of(
    st.builds(MembersChanged, change=st.sampled_from(StatusChange), members=st.lists(members, max_size=3).map(tuple)),
    st.builds(EventReceived, ltime=numbers, name=words, payload=payloads, is_coalescable=st.booleans()),
    st.builds(QueryReceived, query_id=numbers, ltime=numbers, name=words, payload=payloads),
)
query_news: st.SearchStrategy[QueryNews] = st.one_of(
    st.builds(Acked, words), st.builds(Answered, words, payloads), st.builds(Finished)
)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    """Filters as the wire can say them: one list of names, then one expression a tag."""
    nodes = draw(st.lists(words, max_size=3).map(tuple))
    filters: list[Filter] = [NodeFilter(nodes=nodes)] if nodes else []
    filters += [TagFilter(tag=tag, expression=expression) for tag, expression in draw(tags).items()]
    return Question(
        name=draw(words),
        payload=draw(payloads),
        filters=tuple(filters),
        wants_ack=draw(st.booleans()),
        relay_factor=draw(st.integers(0, 255)),
        timeout_s=float(draw(st.integers(0, 3600))),
    )


requests: st.SearchStrategy[Request] = st.one_of(
    st.builds(Handshake, version=st.integers(0, 9)),
    st.builds(Auth, key=words),
    st.builds(SendEvent, name=words, payload=payloads, is_coalescable=st.booleans()),
    st.builds(ForceLeave, node=words, is_prune=st.booleans()),
    st.builds(Join, addresses=st.lists(words, max_size=3).map(tuple), is_replaying=st.booleans()),
    st.just(ListMembers()),
    st.builds(FilterMembers, tags=tags, status=words, node=words),
    st.builds(FollowEvents, kinds=words),
    st.builds(FollowLog, level=words),
    st.builds(StopStream, seq=numbers),
    st.just(LeaveCluster()),
    st.builds(ChangeKeys, operation=st.sampled_from(KeyOperation).filter(lambda one: one is not KeyOperation.LIST)),
    st.just(ChangeKeys(operation=KeyOperation.LIST)),
    st.builds(ChangeTags, tags=tags, removed=st.lists(words, max_size=3).map(tuple)),
    st.builds(Ask, question=questions()),
    st.builds(Respond, query_id=numbers, payload=payloads),
    st.just(ReadStats()),
    st.builds(ReadCoordinate, node=words),
)
