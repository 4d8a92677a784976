import itertools
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from consensus.raft import ProposalId, Proposed, RaftConfig, RaftMachine, Tick, collect_write
from consensus.storage import HardState, LogStore, LogWrite
from node.store.directory import DataDirectory
from node.store.environment import Environment
from node.store.log_records import STEP_BYTES
from node.store.log_store import FILE_NAME, QUIET_BYTES_MAX, FileLogStore
from orca.errors import StoreCorruptError, StoreFullError
from orca.model.ids import LogIndex, NodeId, Term
from orca.model.units import Instant
from tests.contracts.log_store import LOG_STORE_CHECKS, OpenStore, entries_from, snapshot_at

pytestmark = pytest.mark.integration
MakePlace = Callable[[], OpenStore]
NODE = NodeId("n-a")
WAY_OUT = "restore the data directory from a backup"


@pytest.fixture
def path(environment: Environment) -> Path:
    return environment.data_path.parent / FILE_NAME


@pytest.fixture
def make_place(tmp_path: Path) -> Iterator[MakePlace]:
    """Each place is a data directory; opening it again closes and reopens the whole environment."""
    names = itertools.count()
    current: dict[Path, tuple[DataDirectory, Environment, FileLogStore]] = {}

    def close(path: Path) -> None:
        if path in current:
            directory, environment, store = current.pop(path)
            store.close()
            environment.close()
            directory.close()

    def make() -> OpenStore:
        path = tmp_path / f"place-{next(names)}"

        def open_store() -> LogStore:
            close(path)
            directory = DataDirectory.open(path)
            environment = Environment.open(directory, map_bytes_max=2**25)
            store = FileLogStore.open(environment)
            current[path] = (directory, environment, store)
            return store

        return open_store

    yield make
    for path in list(current):
        close(path)


@pytest.mark.parametrize("check", LOG_STORE_CHECKS)
def test_store_in_a_file_keeps_the_contract(check: Callable[[OpenStore], None], make_place: MakePlace) -> None:
    check(make_place())


def test_full_store_refuses_entries_with_nothing_written_and_still_compacts(store: FileLogStore) -> None:
    last = 0
    refusal = ""
    while not refusal:
        try:
            store.write(LogWrite(entries=entries_from(last + 1, 1, payload=b"x" * 10_000)))
            last += 1
        except StoreFullError as error:
            refusal = error.message
    assert "is full" in refusal
    assert last > 50
    assert [entry.index for entry in store.load().entries] == list(range(1, last + 1))
    store.write(LogWrite(snapshot=snapshot_at(last - 1, 1, b"small")))
    store.write(LogWrite(entries=entries_from(last + 1, 1, payload=b"x" * 10_000)))
    assert store.load().last_index == last + 1


def fill(store: FileLogStore) -> LogWrite:
    """A snapshot, entries beside it, entries after it; the last write."""
    store.write(LogWrite(hard_state=HardState(term=Term(3), voted_for=NODE), entries=entries_from(1, 1, 1, 1)))
    store.write(LogWrite(snapshot=snapshot_at(2, 1, b"s" * 5_000)))
    store.write(LogWrite(entries=entries_from(4, 2, 3), commit_index=LogIndex(4)))
    last = LogWrite(entries=entries_from(6, 3, payload=b"x" * 700))
    store.write(last)
    return last


def used(path: Path) -> int:
    return len(path.read_bytes().rstrip(b"\0"))


def test_every_flipped_bit_is_found(environment: Environment, path: Path) -> None:
    with FileLogStore.open(environment) as store:
        fill(store)
    good = path.read_bytes()
    bits = random.Random(4).sample(range(used(path) * 8), 300)
    for bit in bits:
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(StoreCorruptError, match=WAY_OUT):
            FileLogStore.open(environment)
        assert path.read_bytes() == flipped, "what is damaged stays as it was found"
    path.write_bytes(good)
    FileLogStore.open(environment).close()


def test_a_file_that_was_cut_is_refused(environment: Environment, path: Path) -> None:
    with FileLogStore.open(environment) as store:
        fill(store)
    good = path.read_bytes()
    for length in (0, 1, 20, *random.Random(5).sample(range(len(good)), 40), len(good) - 1):
        path.write_bytes(good[:length])
        with pytest.raises(StoreCorruptError, match=WAY_OUT):
            FileLogStore.open(environment)


def test_last_write_that_a_power_cut_tore_is_dropped_and_its_place_is_used_again(
    environment: Environment, path: Path
) -> None:
    """Any sectors of it may have come to the disk, in any order; it was never answered."""
    rng = random.Random(6)
    with FileLogStore.open(environment) as store:
        fill(store)
        before, start = path.read_bytes(), used(path)
        kept = store.load()
        # A long one, so that the file grows as well.
        store.write(LogWrite(entries=entries_from(7, 3, payload=b"y" * rng.randint(600, 2 * STEP_BYTES))))
        whole = store.load()
    after = path.read_bytes()
    cuts = 0
    for _ in range(100):
        length = rng.choice((len(before), len(after), rng.randint(len(before), len(after))))
        torn = bytearray(before.ljust(length, b"\0"))
        for sector in range(start // 512, -(-length // 512)):
            if rng.random() < rng.choice((0.5, 0.9, 0.99)):
                place = max(start, sector * 512)
                torn[place : sector * 512 + 512] = after[place : min(length, sector * 512 + 512)]
        path.write_bytes(torn)
        with FileLogStore.open(environment) as store:
            found = store.load()
            assert found in (kept, whole)
            cuts += found == kept
            store.write(LogWrite(hard_state=HardState(term=Term(9))))
        with FileLogStore.open(environment) as store:
            assert store.load().hard_state.term == 9
            assert store.load().entries == found.entries
    assert cuts > 50


def test_a_log_that_is_missing_or_of_another_node_is_refused(
    environment: Environment, path: Path, tmp_path: Path
) -> None:
    with FileLogStore.open(environment) as store:
        fill(store)
    path.rename(tmp_path / "kept")
    with pytest.raises(StoreCorruptError, match=r"raft\.log: it cannot be read \(No such file"):
        FileLogStore.open(environment)
    with (
        DataDirectory.open(tmp_path / "other") as directory,
        Environment.open(directory, map_bytes_max=2**20) as other,
        FileLogStore.open(other),
    ):
        path.write_bytes((other.data_path.parent / FILE_NAME).read_bytes())
    with pytest.raises(StoreCorruptError, match="log of another node"):
        FileLogStore.open(environment)
    path.write_bytes(random.Random(1).randbytes(STEP_BYTES))
    with pytest.raises(StoreCorruptError, match="does not begin as the log of an Orca node does"):
        FileLogStore.open(environment)
    path.unlink()
    path.symlink_to(tmp_path / "kept")
    with pytest.raises(StoreCorruptError, match="not a regular file"):
        FileLogStore.open(environment)


def test_what_a_crash_left_of_a_new_file_is_removed(environment: Environment, path: Path) -> None:
    """The rename is the moment at which a new file counts."""
    with FileLogStore.open(environment) as store:
        fill(store)
        kept = store.load()
    new_path = path.with_name(path.name + ".new")
    new_path.write_bytes(b"half of a new file")
    with FileLogStore.open(environment) as store:
        assert store.load() == kept
    assert not new_path.exists()
    assert path.stat().st_mode & 0o777 == 0o600


def test_starting_again_does_not_make_the_file_larger(environment: Environment, path: Path) -> None:
    sizes = set()
    for _ in range(5):
        with FileLogStore.open(environment) as store:
            last = store.load().last_index
            store.write(LogWrite(entries=entries_from(last + 1, 1)))
            sizes.add(path.stat().st_size)
    assert len(sizes) == 1


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The kernel takes a write up to there and refuses the rest, as a full disk does."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_write_that_the_disk_cuts_short_leaves_nothing_and_the_next_one_is_taken(
    environment: Environment, path: Path
) -> None:
    with FileLogStore.open(environment) as store:
        fill(store)
        kept = store.load()
        for room in (0, 1, 5_000, STEP_BYTES):
            large = LogWrite(entries=entries_from(7, 3, payload=b"z" * 3 * STEP_BYTES))
            with files_of_at_most(path.stat().st_size + room), pytest.raises(StoreFullError, match="is full"):
                store.write(large)
            assert store.load() == kept
            with files_of_at_most(path.stat().st_size), pytest.raises(StoreFullError):
                store.write(LogWrite(snapshot=snapshot_at(3, 1, b"s" * 2 * path.stat().st_size)))
            assert store.load() == kept
        store.write(LogWrite(hard_state=HardState(term=Term(8))))
    with FileLogStore.open(environment) as store:
        assert store.load().entries == kept.entries
        assert store.load().hard_state.term == 8


def test_after_an_error_of_the_disk_nothing_more_is_written(environment: Environment, path: Path) -> None:
    """Nobody knows what is on the disk then."""
    with FileLogStore.open(environment) as store:
        fill(store)
        broken = os.open(path, os.O_RDONLY)  # it takes no write
        os.dup2(broken, store._file._fd_now())
        os.close(broken)
        for _ in range(2):
            with pytest.raises(StoreCorruptError, match="no further write is taken"):
                store.write(LogWrite(hard_state=HardState(term=Term(8))))
    with FileLogStore.open(environment) as store:
        assert store.load().hard_state.term == 3


def test_writes_without_entries_do_not_make_the_file_grow_for_ever(store: FileLogStore, path: Path) -> None:
    fill(store)
    kept = store.load()
    store._quiet_bytes = QUIET_BYTES_MAX - 1_000
    sizes = []
    for number in range(100):
        store.write(LogWrite(hard_state=HardState(term=Term(10 + number))))
        sizes.append(used(path))
    assert sizes != sorted(sizes), "the file was begun anew"
    assert store.load().entries == kept.entries
    assert store.load().hard_state.term == 109


WRITES_UNTIL_KILLED = """
import sys
from pathlib import Path
from consensus.storage import HardState, LogWrite
from node.store.directory import DataDirectory
from node.store.environment import Environment
from node.store.log_store import FileLogStore
from tests.contracts.log_store import entries_from, snapshot_at
store = FileLogStore.open(Environment.open(DataDirectory.open(Path(sys.argv[1])), map_bytes_max=2**22))
last = store.load().last_index
while True:
    store.write(LogWrite(entries=entries_from(last + 1, 1, payload=b"e" * (last * 37 % 3_000))))
    last += 1
    print(last, flush=True)
    if last % 20 == 0:
        store.write(LogWrite(snapshot=snapshot_at(last - 5, 1, b"s" * 10_000)))
"""


def test_nothing_acknowledged_is_lost_when_the_process_is_killed_at_any_moment(tmp_path: Path) -> None:
    for seed in range(6):
        words = [sys.executable, "-c", WRITES_UNTIL_KILLED, str(tmp_path / "data")]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(random.Random(seed).randint(1, 60))]
            process.kill()
            lines += process.stdout.read().splitlines()
        acknowledged = max(int(line) for line in lines if line.strip().isdigit())
        with (
            DataDirectory.open(tmp_path / "data") as directory,
            Environment.open(directory, map_bytes_max=2**22) as environment,
            FileLogStore.open(environment) as store,
        ):
            assert store.load().last_index >= acknowledged


def test_machine_goes_on_after_a_restart_with_all_that_was_written(make_place: MakePlace) -> None:
    open_store = make_place()
    for start in range(1, 4):
        store = open_store()
        machine = make_machine(store)
        perform(machine, store, Tick())
        assert machine.term == start
        for number in range(5):
            perform(machine, store, Proposed(proposal_id=ProposalId(number), payload=b"%d" % number))
        assert machine.last_index == start * 6
    payloads = [entry.payload for entry in open_store().load().entries]
    assert payloads == [b"", b"0", b"1", b"2", b"3", b"4"] * 3


def make_machine(store: LogStore) -> RaftMachine:
    return RaftMachine(NODE, frozenset({NODE}), store.load(), RaftConfig(), random.Random(1))


def perform(machine: RaftMachine, store: LogStore, event: Tick | Proposed) -> None:
    _, write, _ = collect_write(machine.step(event, Instant(0.0)))
    assert write is not None
    store.write(write)
