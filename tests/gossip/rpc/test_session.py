"""The server's half of a connection: who may ask what, and which streams a client has."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.membership import EventReceived, Finished, MembersChanged, MembershipNews, QueryReceived, StatusChange
from gossip.rpc.backend import LogLevel, LogLine
from gossip.rpc.conversation import Conversation, Record, Reply
from gossip.rpc.protocol import RequestHeader, encode_request_header, pack_value
from gossip.rpc.records import decode_log, decode_news
from gossip.rpc.requests import (
    Auth,
    FollowEvents,
    FollowLog,
    Handshake,
    ListMembers,
    Request,
    SendEvent,
    StopStream,
)
from gossip.rpc.server.selection import EventFilter
from gossip.rpc.server.session import REFUSALS_MAX, STREAMS_MAX, HangUp, Perform, Say, Session, Turn
from tests.gossip.rpc import strategies
from tests.gossip.rpc.memory_backend import AUTH_KEY, make_member

GREETING = (Handshake(version=1), Auth(key=AUTH_KEY))


class Talk:
    """A client and a session, and what passes between them."""

    def __init__(self, *said: Request) -> None:
        self.client = Conversation()
        self.session = Session(AUTH_KEY)
        self.turns: list[Turn] = []
        for request in said:
            assert self.says(request) == [""], request

    def says(self, request: Request) -> list[str]:
        """The errors that are replied, "" for none."""
        _, data = self.client.begin(request)
        self.turns = self.session.receive(data)
        replies = [one for turn in self.turns if isinstance(turn, Say) for one in self.client.receive(turn.data)]
        return [one.error for one in replies if isinstance(one, Reply)]

    def performed(self, request: Request) -> Request | None:
        assert self.says(request) == []
        (turn,) = self.turns
        return turn.request if isinstance(turn, Perform) else None

    def hung_up(self) -> str:
        """Why the session ended the connection; empty when it did not."""
        return next((turn.cause for turn in self.turns if isinstance(turn, HangUp)), "")


def test_a_handshake_and_the_key_come_before_everything_else() -> None:
    talk = Talk()
    assert talk.says(ListMembers()) == ["Handshake required"]
    assert talk.hung_up() == "no_handshake"
    assert talk.session.receive(b"\x80") == [], "nothing is read after the end"

    talk = Talk(Handshake(version=1))
    assert talk.says(SendEvent(name="e")) == ["Authentication required"]
    assert not talk.hung_up()
    assert talk.says(Auth(key="wrong")) == ["Invalid authentication token"]
    assert not talk.session.is_trusted
    assert talk.says(Auth(key=AUTH_KEY)) == [""]
    assert talk.performed(SendEvent(name="e")) == SendEvent(name="e")


def test_another_version_and_a_second_handshake_are_refused() -> None:
    talk = Talk()
    for version in (0, 2):
        assert talk.says(Handshake(version=version)) == ["Unsupported IPC version"]
    assert talk.says(Handshake(version=1)) == [""]
    assert talk.says(Handshake(version=1)) == ["Handshake already performed"]
    assert not talk.hung_up()
    negative = encode_request_header(RequestHeader("handshake", 1)) + pack_value({"Version": -1})
    assert isinstance(Session(AUTH_KEY).receive(negative)[0], Say)


def test_who_guesses_keys_is_sent_away() -> None:
    talk = Talk(Handshake(version=1))
    for number in range(REFUSALS_MAX):
        assert not talk.hung_up()
        talk.says(Auth(key=f"guess {number}"))
    assert talk.hung_up() == "refused"


def test_a_stranger_may_not_say_much() -> None:
    talk = Talk(Handshake(version=1))
    talk.says(Auth(key="x" * 5000))
    assert talk.hung_up() in {"bad_msgpack", "too_large"}
    talk = Talk(*GREETING)
    assert talk.performed(SendEvent(name="e", payload=b"x" * 5000))
    talk.says(SendEvent(name="e", payload=b"x" * 300_000))
    assert talk.hung_up() in {"bad_msgpack", "too_large"}


def test_an_unknown_command_ends_the_connection() -> None:
    talk = Talk(*GREETING)
    turns = talk.session.receive(encode_request_header(RequestHeader("explode", 9)))
    assert turns[-1] == HangUp("unknown_command")
    assert isinstance(turns[0], Say)
    assert b"Unsupported command" in turns[0].data


def test_requests_in_one_piece_are_taken_in_order() -> None:
    client, session = Conversation(), Session(AUTH_KEY)
    asked = (*GREETING, SendEvent(name="one"), ListMembers(), SendEvent(name="two", payload=b"x" * 9000))
    turns = session.receive(b"".join(client.begin(request)[1] for request in asked))
    assert [turn.request for turn in turns if isinstance(turn, Perform)] == list(asked[2:])


def test_streams_carry_what_they_were_asked_for_until_they_are_stopped() -> None:
    talk = Talk(*GREETING)
    assert talk.says(FollowEvents(kinds="nonsense")) == ["Invalid event filter"]
    assert talk.says(FollowEvents(kinds="member-failed,user:deploy")) == [""]
    stream = 4
    assert talk.session.wants_news
    deploy = EventReceived(ltime=1, name="deploy", payload=b"x", is_coalescable=False)
    (record,) = talk.session.records(deploy)
    (found,) = talk.client.receive(record)
    assert isinstance(found, Record)
    assert found.seq == stream
    assert decode_news(found.fields) == deploy
    other = EventReceived(ltime=1, name="other", payload=b"", is_coalescable=False)
    assert talk.session.records(other) == []
    assert talk.says(FollowEvents(kinds="*")) == [""]
    assert len(talk.session.records(deploy)) == 2
    assert talk.says(StopStream(seq=stream)) == [""]
    assert len(talk.session.records(deploy)) == 1


def test_one_log_stream_is_allowed_and_quieter_lines_are_left_out() -> None:
    talk = Talk(*GREETING)
    assert talk.says(FollowLog(level="loud")) == ["Unknown log level: LOUD"]
    assert talk.session.log_record(LogLine(level=LogLevel.ERR, text="early")) == b""
    assert talk.says(FollowLog(level="warn")) == [""]
    assert talk.says(FollowLog(level="warn")) == ["Monitor already exists"]
    assert talk.session.log_record(LogLine(level=LogLevel.INFO, text="quiet")) == b""
    (found,) = talk.client.receive(talk.session.log_record(LogLine(level=LogLevel.WARN, text="loud")))
    assert decode_log(found.fields) == "loud"
    assert talk.says(StopStream(seq=4)) == [""]
    assert not talk.session.wants_log


def test_a_connection_has_a_number_of_streams_at_most() -> None:
    talk = Talk(*GREETING, *(FollowEvents(kinds="user") for _ in range(STREAMS_MAX)))
    (error,) = talk.says(FollowEvents(kinds="user"))
    assert "which is the most" in error
    header = encode_request_header(RequestHeader("stream", 3)) + pack_value({"Type": "*"})
    (turn,) = talk.session.receive(header)
    assert isinstance(turn, Say)
    assert b"Stream with given sequence exists" in turn.data


def test_records_of_a_query_come_under_its_number() -> None:
    session = Session(AUTH_KEY)
    client = Conversation()
    seq, _ = client.begin(FollowLog(level="info"))
    client.receive(pack_value({"Seq": seq, "Error": ""}))
    assert client.receive(session.query_record(seq, Finished()))[0].seq == seq


@pytest.mark.parametrize(
    ("kinds", "takes"),
    [
        ("", "jluq"), ("*", "jluq"), ("member-join", "j"), ("member-leave,query", "lq"), ("user:deploy", "u"),
        ("user:other", ""), ("query:load,user", "uq"), ("user:", "u"), ("member-join,*", "jluq"),
    ],
)  # fmt: skip
def test_filters_of_events_mean_what_serf_means(kinds: str, takes: str) -> None:
    member = make_member("m")
    news: dict[str, MembershipNews] = {
        "j": MembersChanged(change=StatusChange.JOINED, members=(member,)),
        "l": MembersChanged(change=StatusChange.LEFT, members=(member,)),
        "u": EventReceived(ltime=1, name="deploy", payload=b"", is_coalescable=False),
        "q": QueryReceived(query_id=1, ltime=1, name="load", payload=b""),
    }
    wanted = EventFilter(kinds)
    assert "".join(letter for letter, one in news.items() if wanted.takes(one)) == takes


@settings(max_examples=300)
@given(pieces=st.lists(st.binary(max_size=60), max_size=6), is_trusted=st.booleans())
def test_any_bytes_are_turns_and_never_an_exception(pieces: list[bytes], is_trusted: bool) -> None:
    session = Talk(*GREETING).session if is_trusted else Session(AUTH_KEY)
    turns = [turn for piece in pieces for turn in session.receive(piece)]
    assert sum(isinstance(turn, HangUp) for turn in turns) <= 1
    if not is_trusted:
        assert not any(isinstance(turn, Perform) for turn in turns)


@given(requests=st.lists(strategies.requests, max_size=5), garbage=st.binary(max_size=30), place=st.integers(0, 200))
def test_requests_with_garbage_in_them_are_turns_too(requests: list[Request], garbage: bytes, place: int) -> None:
    talk = Talk(*GREETING)
    stream = b"".join(talk.client.begin(request)[1] for request in requests)
    for turn in talk.session.receive(stream[:place] + garbage + stream[place:]):
        assert isinstance(turn, Say | Perform | HangUp)
