"""The client's half of a connection: what belongs to which request, and what no agent may send."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.membership import Acked, Finished, KeyOperation, Question
from gossip.rpc.conversation import STOPPED_MAX, Conversation, Incoming, Record, Reply
from gossip.rpc.protocol import AUTH_REQUIRED, CodecError, Limits, encode_reply_header, pack_value
from gossip.rpc.records import encode_joined, encode_log, encode_query_news
from gossip.rpc.requests import Ask, ChangeKeys, FollowLog, Join, ListMembers, ReadStats, SendEvent


def test_replies_find_their_requests_in_any_order() -> None:
    talk = Conversation()
    first, _ = talk.begin(Join(addresses=("a",)))
    second, _ = talk.begin(SendEvent(name="e"))
    assert (first, second) == (1, 2)
    data = encode_reply_header(2, "too long") + encode_reply_header(1) + encode_joined(3)
    assert talk.receive(data) == [Reply(2, "too long", {}), Reply(1, "", {b"Num": 3})]
    assert talk.open_count == 0


def test_an_error_of_the_command_has_a_body_and_one_before_it_has_none() -> None:
    talk = Conversation()
    talk.begin(ChangeKeys(operation=KeyOperation.LIST))
    talk.begin(ReadStats())
    data = encode_reply_header(1, "1/2 nodes reported failure")
    assert talk.receive(data) == []
    assert talk.receive(pack_value({"NumNodes": 2})) == [Reply(1, "1/2 nodes reported failure", {b"NumNodes": 2})]
    assert talk.receive(encode_reply_header(2, AUTH_REQUIRED)) == [Reply(2, AUTH_REQUIRED, {})]


def test_a_stream_goes_on_until_it_is_forgotten_and_late_records_are_dropped() -> None:
    talk = Conversation()
    seq, _ = talk.begin(FollowLog(level="info"))
    record = encode_reply_header(seq) + encode_log("line")
    assert talk.receive(encode_reply_header(seq) + record) == [Reply(seq, "", {}), Record(seq, {b"Log": b"line"})]
    assert talk.forget_stream(seq)
    other, _ = talk.begin(SendEvent(name="e"))
    assert talk.receive(record + encode_reply_header(other) + record) == [Reply(other, "", {})]
    assert not talk.forget_stream(seq)


def test_a_query_is_over_when_it_says_so() -> None:
    talk = Conversation()
    seq, _ = talk.begin(Ask(question=Question(name="q")))
    head = encode_reply_header(seq)
    found = talk.receive(head + head + encode_query_news(Acked("n")) + head + encode_query_news(Finished()))
    assert [type(one) for one in found] == [Reply, Record, Record]
    assert talk.open_count == 0
    with pytest.raises(CodecError, match="request 1"):
        talk.receive(head)


def test_a_refused_stream_is_none() -> None:
    talk = Conversation()
    seq, _ = talk.begin(FollowLog(level="loud"))
    assert talk.receive(encode_reply_header(seq, "Unknown log level: LOUD")) == [
        Reply(seq, "Unknown log level: LOUD", {})
    ]
    assert talk.open_count == 0


def test_replies_that_nobody_asked_for_end_the_conversation() -> None:
    talk = Conversation()
    with pytest.raises(CodecError) as caught:
        talk.receive(encode_reply_header(9))
    assert caught.value.cause == "unknown_seq"
    talk = Conversation()
    seq, _ = talk.begin(SendEvent(name="e"))
    talk.withdraw(seq)
    with pytest.raises(CodecError):
        talk.receive(encode_reply_header(seq))


def test_streams_long_over_are_forgotten() -> None:
    talk = Conversation()
    for _ in range(STOPPED_MAX + 1):
        seq, _ = talk.begin(FollowLog(level="info"))
        talk.receive(encode_reply_header(seq))
        talk.forget_stream(seq)
    assert talk.receive(encode_reply_header(2) + encode_log("late")) == []
    with pytest.raises(CodecError, match="long over"):
        talk.receive(encode_reply_header(1) + encode_log("late"))


def test_a_reply_beyond_the_limit_is_not_collected() -> None:
    talk = Conversation(Limits(4096, 4096))
    seq, _ = talk.begin(ListMembers())
    talk.receive(encode_reply_header(seq))
    with pytest.raises(CodecError) as caught:
        talk.receive(pack_value({"Members": ["x" * 90] * 200}))
    assert caught.value.cause == "too_large"


@settings(max_examples=300)
@given(data=st.binary(max_size=300), cut=st.integers(0, 300))
def test_hostile_agents_give_replies_records_or_one_error(data: bytes, cut: int) -> None:
    talk = Conversation()
    talk.begin(ListMembers())
    talk.begin(FollowLog(level="info"))
    talk.receive(encode_reply_header(2))
    found: list[Incoming] = []
    with contextlib.suppress(CodecError):
        found += talk.receive(data[:cut])
        found += talk.receive(data[cut:])
    assert {one.seq for one in found} <= {1, 2}
