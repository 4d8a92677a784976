"""Keys of the whole cluster: what `serf keys` does to us, and a rotation that cuts nobody off (WIRE §6.6)."""

import pytest

from gossip.codec.serf_frames import decode_key_response, decode_serf, encode_key_request, encode_serf
from gossip.messages import Address, KeyRequest, KeyResponse, Query, QueryResponse
from gossip.serf import (
    KeyCommandEnded,
    KeyCommandRequested,
    KeyOperation,
    KeyReport,
    KeyringChanged,
    RotationEnded,
    RotationProgressed,
    RotationRequested,
    RotationStep,
    SendUser,
    SerfConfig,
)
from gossip.serf.keys import ATTEMPTS_MAX, KeyOrder, Rotation, base64_text
from orca.errors import ConflictError, InvalidRequestError
from tests.gossip.serf.world import World

OLD, NEW, THIRD = b"o" * 16, b"n" * 32, b"t" * 24


def ask(world: World, operation: str, key: bytes = b"", query_id: int = 1) -> KeyResponse:
    """What n0 answers when a Serf agent asks."""
    query = Query(
        ltime=5,
        query_id=query_id,
        source=Address("10.0.0.99", 7946),
        source_node="agent",
        timeout_ns=10**9,
        name=f"_serf_{operation}",
        payload=encode_key_request(KeyRequest(key=key)),
    )
    serf = world.serfs["n0"]
    serf.user_message(encode_serf(query), query.source, world.now)
    effects = serf.drain()
    sent = [effect for effect in effects if isinstance(effect, SendUser)]
    if any(isinstance(effect, KeyringChanged) for effect in effects):
        assert isinstance(effects[0], KeyringChanged), "the ring is kept before anybody hears that it changed"
    response = decode_serf(sent[0].payload)
    assert isinstance(response, QueryResponse)
    assert len(sent[0].payload) <= 1024
    return decode_key_response(response.payload)


def run_command(world: World, operation: KeyOperation, key: bytes = b"") -> KeyReport:
    world.effects["n0"].clear()
    world.step("n0", KeyCommandRequested(handle=4, operation=operation, key=key))
    world.run(6.0)
    ended = world.told("n0", KeyCommandEnded)
    assert len(ended) == 1
    assert isinstance(ended[0], KeyCommandEnded)
    assert ended[0].handle == 4
    return ended[0].report


def test_an_agent_installs_uses_lists_and_removes_a_key() -> None:
    world = World(1, key=OLD)
    ring = world.rings["n0"]
    assert ask(world, "install-key", NEW, 1) == KeyResponse(is_success=True)
    assert ask(world, "use-key", NEW, 2).is_success
    listed = ask(world, "list-keys", b"", 3)
    assert listed.keys == (base64_text(NEW), base64_text(OLD))
    assert listed.primary_key == base64_text(NEW)
    assert ask(world, "remove-key", OLD, 4).is_success
    assert ring.keys == (NEW,)


def test_an_agent_is_told_what_cannot_be_done() -> None:
    world = World(1, key=OLD)
    assert "16, 24 or 32" in ask(world, "install-key", b"short", 1).message
    assert not ask(world, "use-key", NEW, 2).is_success
    assert not ask(world, "remove-key", OLD, 3).is_success
    assert ask(world, "remove-key", NEW, 4).is_success, "what is gone already need not go"
    assert not ask(World(1), "list-keys").is_success
    assert world.rings["n0"].keys == (OLD,)


def test_a_list_that_is_too_long_for_an_answer_says_so() -> None:
    for bytes_max, is_whole in ((1024, True), (500, False)):
        world = World(1, SerfConfig(response_bytes_max=bytes_max), key=OLD)
        for number in range(15):
            world.rings["n0"].install(bytes([number]) * 32)
        listed = ask(world, "list-keys")
        assert listed.is_success
        assert listed.primary_key == base64_text(OLD)
        assert (len(listed.keys) == 16) is is_whole
        assert is_whole or f"first {len(listed.keys)} of 16 keys" in listed.message


def test_a_command_reports_what_every_member_did() -> None:
    world = World(3, key=OLD)
    report = run_command(world, KeyOperation.INSTALL, NEW)
    assert report.is_complete
    assert (report.expected, report.answered) == (3, 3)
    listed = run_command(world, KeyOperation.LIST)
    assert listed.keys == {base64_text(OLD): 3, base64_text(NEW): 3}
    assert listed.primary_keys == {base64_text(OLD): 3}


def test_a_command_names_the_silent_and_the_unable() -> None:
    world = World(4, key=OLD)
    world.rings["n1"].install(NEW)
    world.rings["n0"].install(NEW)
    world.rings["n3"].install(NEW)
    world.cut = {frozenset(("n3", node)) for node in ("n0", "n1", "n2")}
    report = run_command(world, KeyOperation.USE, NEW)
    assert report.silent == ("n3",)
    assert list(report.failures) == ["n2"]
    assert not report.is_complete


@pytest.mark.parametrize("key", [b"", b"short", bytes(17)])
def test_a_key_of_a_wrong_length_is_refused(key: bytes) -> None:
    world = World(1, key=OLD)
    with pytest.raises(InvalidRequestError, match="16, 24 or 32"):
        world.step("n0", KeyCommandRequested(handle=1, operation=KeyOperation.INSTALL, key=key))
    with pytest.raises(InvalidRequestError, match="16, 24 or 32"):
        world.step("n0", RotationRequested(key=key))


def test_without_encryption_there_is_nothing_to_rotate() -> None:
    world = World(1)
    with pytest.raises(InvalidRequestError, match="not enabled"):
        world.step("n0", RotationRequested(key=NEW))


def rotated(world: World) -> RotationEnded:
    ended = world.told("n0", RotationEnded)
    assert len(ended) == 1
    assert isinstance(ended[0], RotationEnded)
    return ended[0]


def test_a_rotation_leaves_only_the_new_key_everywhere_and_tells_its_steps() -> None:
    world = World(5, key=OLD)
    world.rings["n2"].install(THIRD)
    world.step("n0", RotationRequested(key=NEW))
    world.run(20.0)
    assert rotated(world).is_done
    assert [ring.keys for ring in world.rings.values()] == [(NEW,)] * 5
    steps = [effect.step for effect in world.effects["n0"] if isinstance(effect, RotationProgressed)]
    assert list(dict.fromkeys(steps)) == list(RotationStep)
    assert steps.count(RotationStep.REMOVE) == 2
    for node in world.serfs:
        kept = [effect.keys for effect in world.effects[node] if isinstance(effect, KeyringChanged)]
        assert kept[-1] == (NEW,), f"{node} kept its ring durably"


def test_a_rotation_of_one_node_is_done_at_once() -> None:
    world = World(1, key=OLD)
    world.step("n0", RotationRequested(key=NEW))
    assert rotated(world).is_done
    assert world.rings["n0"].keys == (NEW,)


def test_a_rotation_never_goes_on_without_a_member_that_is_silent() -> None:
    world = World(3, key=OLD)
    world.cut = {frozenset(("n2", node)) for node in ("n0", "n1")}
    world.step("n0", RotationRequested(key=NEW))
    with pytest.raises(ConflictError, match="install"):
        world.step("n0", RotationRequested(key=NEW))
    world.run(60.0)
    ended = rotated(world)
    assert (ended.is_done, ended.step) == (False, RotationStep.INSTALL)
    assert "n2" in ended.reason
    assert world.rings["n0"].primary == OLD
    attempts = [effect for effect in world.effects["n0"] if isinstance(effect, RotationProgressed)]
    assert len(attempts) == ATTEMPTS_MAX
    world.cut.clear()
    world.effects["n0"].clear()
    world.step("n0", RotationRequested(key=NEW))
    world.run(20.0)
    assert rotated(world).is_done


def test_a_rotation_waits_for_failed_members_unless_allowed_to_lock_them_out() -> None:
    world = World(3, key=OLD)
    world.crash("n2")
    with pytest.raises(InvalidRequestError, match="n2 failed"):
        world.step("n0", RotationRequested(key=NEW))
    world.step("n0", RotationRequested(key=NEW, allows_absent=True))
    world.run(20.0)
    assert rotated(world).is_done


def test_a_rotation_stops_when_a_member_fails_before_the_old_key_goes() -> None:
    world = World(3, key=OLD)
    world.step("n0", RotationRequested(key=NEW))
    world.crash("n2")
    world.run(30.0)
    ended = rotated(world)
    assert not ended.is_done
    assert "n2" in ended.reason
    assert all(OLD in world.rings[node].keys for node in world.serfs)


def report(operation: KeyOperation, answered: int, keys: dict[bytes, int], primary: dict[bytes, int]) -> KeyReport:
    return KeyReport(
        operation=operation,
        expected=answered,
        answered=answered,
        failures={},
        silent=(),
        keys={base64_text(key): count for key, count in keys.items()},
        primary_keys={base64_text(key): count for key, count in primary.items()},
    )


def test_a_check_that_does_not_hold_is_made_again_and_never_skipped() -> None:
    rotation = Rotation(NEW)
    assert rotation.after(report(KeyOperation.INSTALL, 3, {}, {}), ()) == KeyOrder(KeyOperation.LIST, b"")
    incomplete = report(KeyOperation.LIST, 3, {OLD: 3, NEW: 2}, {OLD: 3})
    for _ in range(ATTEMPTS_MAX - 1):
        assert rotation.after(incomplete, ()) == KeyOrder(KeyOperation.LIST, b"")
    move = rotation.after(incomplete, ())
    assert isinstance(move, RotationEnded)
    assert (move.is_done, move.step) == (False, RotationStep.CHECK_INSTALLED)


def test_agents_that_do_not_name_their_primary_key_are_believed() -> None:
    """PrimaryKey came with Serf 0.9.4."""
    rotation = Rotation(NEW)
    both = report(KeyOperation.LIST, 3, {OLD: 3, NEW: 3}, {OLD: 2})
    rotation.after(report(KeyOperation.INSTALL, 3, {}, {}), ())
    rotation.after(both, ())
    rotation.after(report(KeyOperation.USE, 3, {}, {}), ())
    told = report(KeyOperation.LIST, 3, {OLD: 3, NEW: 3}, {NEW: 2})
    assert rotation.after(told, ()) == KeyOrder(KeyOperation.REMOVE, OLD)
