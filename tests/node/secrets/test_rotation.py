"""Rotating the data key: everything is sealed anew, wherever it breaks off it can be done again, values stay."""

from typing import cast

import msgspec
import pytest
import trio
import trio.testing

from consensus.driver import ReplicaDriver
from consensus.state.commands import DropDataKey, PutAuthority, ResealSecrets
from node.secrets import SecretControl
from node.secrets.rotation import ENTRIES_MAX, ExposureKeeper, KeyRotation
from orca.errors import NotAvailableError, ProposalLostError
from orca.model.ids import RequestId, SecretId
from orca.model.trust import Author
from tests.consensus.intent import CountingIds
from tests.node.trust.cluster import Member

NAMES = [SecretId(f"shop/s{number}") for number in range(ENTRIES_MAX + 20)]
ANN = Author(actor="ann", origin="here")


async def prepared() -> tuple[Member, SecretControl]:
    """A member with more secrets than one command seals anew."""
    member = Member()
    replica = cast("ReplicaDriver", member.replica)
    rotation = KeyRotation(replica, member.data_keys, member.clock, CountingIds())
    control = SecretControl(replica, member.data_keys, member.clock, rotation)
    await control.set({name: name.encode() for name in NAMES}, request_id=RequestId("set"), by=ANN)
    member.replica.proposed.clear()
    return member, control


def check(member: Member, version: int) -> None:
    """All values are as they were, sealed with `version` and nothing else, and the CA's key can be opened."""
    state = member.state
    assert list(state.data_keys) == [version]
    assert {one.key_version for one in state.secrets.values()} == {version}
    for name in NAMES:
        record = state.secrets[name]
        assert member.data_keys.open(name, record.key_version, record.ciphertext) == name.encode()
    assert member.data_keys.signing().key == member.authority.key


async def test_everything_is_sealed_anew_and_the_old_key_is_forgotten() -> None:
    member, control = await prepared()
    versions = {one.id: one.version for one in member.state.secrets.values()}
    assert await control.rotate(by=ANN) == (2, len(NAMES))
    check(member, 2)
    assert {one.id: one.version for one in member.state.secrets.values()} == versions
    kinds = [type(command) for command in member.replica.proposed]
    assert kinds.count(ResealSecrets) == 2
    assert kinds[-2:] == [PutAuthority, DropDataKey]


@pytest.mark.parametrize("step", range(5))
async def test_a_rotation_that_was_cut_off_is_completed_by_the_next(step: int) -> None:
    member, control = await prepared()
    propose, done = member.replica.propose, 0

    async def cut_off(command: object) -> object:
        nonlocal done
        if done == step:
            raise ProposalLostError("the node was killed")
        done += 1
        return await propose(command)  # type: ignore[arg-type] # whatever was proposed

    member.replica.propose = cut_off  # type: ignore[method-assign,assignment] # a node that dies
    with pytest.raises(ProposalLostError):
        await control.rotate(by=ANN)
    for name in NAMES:
        record = member.state.secrets[name]
        assert member.data_keys.open(name, record.key_version, record.ciphertext) == name.encode()
    member.replica.propose = propose  # type: ignore[method-assign] # the node again
    version, _ = await control.rotate(by=ANN)
    check(member, version)


async def test_a_node_that_cannot_open_the_present_key_makes_no_new_one() -> None:
    member, control = await prepared()
    for key in member.state.data_keys.values():
        key.wrapped.clear()
    with pytest.raises(NotAvailableError, match="cannot open data key 1"):
        await control.rotate(by=ANN)
    assert not member.replica.proposed


async def test_a_data_key_that_a_removed_node_knew_is_replaced_by_who_leads(nursery: trio.Nursery) -> None:
    member, _ = await prepared()
    (key,) = member.state.data_keys.values()
    member.state.data_keys[1] = msgspec.structs.replace(key, is_exposed=True)
    replica = cast("ReplicaDriver", member.replica)
    rotation = KeyRotation(replica, member.data_keys, member.clock, CountingIds())
    node = member.data_keys.node
    member.replica.leader = node
    keeper = ExposureKeeper(node, replica, rotation, member.clock, others=list)
    assert keeper.is_due()
    nursery.start_soon(keeper.run)
    with trio.fail_after(20):
        while list(member.state.data_keys) != [2]:
            await trio.testing.wait_all_tasks_blocked()
    check(member, 2)
    assert not keeper.is_due()
    nursery.cancel_scope.cancel()


async def test_a_replacement_that_was_cut_off_goes_on_with_the_new_key() -> None:
    member, _ = await prepared()
    rotation = KeyRotation(cast("ReplicaDriver", member.replica), member.data_keys, member.clock, CountingIds())
    await rotation._put_key(ANN)
    member.state.data_keys[1] = msgspec.structs.replace(member.state.data_keys[1], is_exposed=True)
    assert await rotation.replace_exposed(ANN) == 2
    check(member, 2)
