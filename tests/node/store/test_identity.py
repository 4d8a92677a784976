import itertools
import re
from collections.abc import Callable

import pytest

from node.store.directory import DataDirectory
from node.store.environment import Environment
from node.store.identity import Identity, read_identity, start_identity
from node.store.views import Database, WriteView
from orca.errors import StoreCorruptError, StoreFullError

pytestmark = pytest.mark.integration


class CountedIds:
    """Ids in order."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def fresh(self) -> str:
        return f"{next(self._numbers):012d}"


def test_identity_is_made_once_and_counts_its_starts(directory: DataDirectory) -> None:
    ids = CountedIds()
    made: list[Identity] = []
    for _ in range(3):
        with Environment.open(directory) as environment:
            assert read_identity(environment) == (made[-1] if made else None)
            made.append(start_identity(environment, ids))
    assert [identity.incarnation for identity in made] == [1, 2, 3]
    assert {(identity.node, identity.cluster) for identity in made} == {("n-000000000001", "c-000000000002")}
    assert re.fullmatch(r"n-[a-z0-9]{12}", made[0].node)


def test_name_is_kept_until_another_is_given(environment: Environment) -> None:
    ids = CountedIds()
    names = [start_identity(environment, ids, name).name for name in (None, "oak", None, "elm")]
    assert names == ["n-000000000001", "oak", "oak", "elm"]


def test_unreadable_identity_is_never_replaced_by_a_new_one(environment: Environment) -> None:
    start_identity(environment, CountedIds())
    record = environment.read(lambda view: view.get(Database.LOCAL, b"identity"))
    assert record is not None
    for wrong in (b"", record[:-1], record[:8] + bytes([record[8] ^ 1]) + record[9:]):
        environment.write_blocking(_putting(b"identity", wrong))
        with pytest.raises(StoreCorruptError, match="identity in"):
            start_identity(environment, CountedIds())
        with pytest.raises(StoreCorruptError):
            read_identity(environment)


def test_full_store_still_lets_a_node_start(environment: Environment) -> None:
    first = start_identity(environment, CountedIds())
    size = 2**18
    number = 0
    while size:
        try:
            environment.write_blocking(_putting(b"fill-%d" % number, b"x" * size))
            number += 1
        except StoreFullError:
            size //= 2
    assert start_identity(environment, CountedIds()).incarnation == first.incarnation + 1


def _putting(key: bytes, value: bytes) -> Callable[[WriteView], None]:
    return lambda view: view.put(Database.LOCAL, key, value)
