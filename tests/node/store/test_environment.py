import os
import random
import shutil
import signal
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
import trio

from node.store.directory import DataDirectory
from node.store.environment import QUEUE_MAX, Environment
from node.store.soundness import SCHEMA_VERSION
from node.store.views import Database, ReadView, WriteView
from orca.errors import (
    DataDirectoryLockedError,
    InvalidConfigError,
    NotAvailableError,
    StoreCorruptError,
    StoreFullError,
    StoreStalledError,
)

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[3]


def putting(key: bytes, value: bytes = b"value") -> Callable[[WriteView], bytes]:
    def change(view: WriteView) -> bytes:
        view.put(Database.LOCAL, key, value)
        return key

    return change


def putting_many(numbers: range) -> Callable[[WriteView], None]:
    def change(view: WriteView) -> None:
        for number in numbers:
            view.put(Database.LOCAL, b"key-%06d" % number, b"v" * 1000)

    return change


def value_of(environment: Environment, key: bytes) -> bytes | None:
    return environment.read(lambda view: view.get(Database.LOCAL, key))


def fill_store(directory: DataDirectory, keys: int = 300) -> Path:
    with Environment.open(directory, map_bytes_max=2**22) as environment:
        for start in range(0, keys, 100):
            environment.write_blocking(putting_many(range(start, start + 100)))
        return environment.data_path


async def test_write_is_there_after_reopening_when_it_returned(directory: DataDirectory) -> None:
    with Environment.open(directory) as environment:
        assert await environment.write(putting(b"a", b"1")) == b"a"
        assert environment.write_blocking(putting(b"b", b"2")) == b"b"
    with Environment.open(directory) as environment:
        assert (value_of(environment, b"a"), value_of(environment, b"b")) == (b"1", b"2")


async def test_writes_that_wait_share_one_transaction(environment: Environment) -> None:
    seen: list[int] = []

    def note(view: WriteView) -> None:
        seen.append(view._transaction.id())

    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(environment.write, note)
    assert len(seen) == 200
    assert len(set(seen)) < 50


async def test_failing_write_does_not_harm_its_neighbours(environment: Environment) -> None:
    failures: list[str] = []

    def break_off(view: WriteView) -> None:
        view.put(Database.LOCAL, b"half", b"done")
        raise ValueError("no")

    async def expect_failure() -> None:
        with pytest.raises(ValueError, match="no"):
            await environment.write(break_off)
        failures.append("no")

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(environment.write, putting(b"good-%d" % number))
            if number % 4 == 0:
                nursery.start_soon(expect_failure)
    assert len(failures) == 10
    assert value_of(environment, b"half") is None
    assert environment.read(lambda view: view.count(Database.LOCAL)) == 40


async def test_full_store_refuses_growth_and_allows_removal(environment: Environment) -> None:
    written = 0

    async def write_on() -> None:
        nonlocal written
        for written in range(10_000):
            await environment.write(putting(b"key-%06d" % written, b"v" * 3000))

    with pytest.raises(StoreFullError, match="is full") as caught:
        await write_on()
    assert caught.value.hint
    usage = environment.usage()
    assert usage.used_bytes <= usage.limit_bytes < usage.map_bytes_max == 2**20
    assert usage.used_bytes > usage.limit_bytes - 32768
    assert value_of(environment, b"key-%06d" % written) is None
    assert value_of(environment, b"key-%06d" % (written - 1)) is not None
    await environment.write(putting(b"key-000000", b"w" * 3000))
    assert await environment.write(lambda view: view.delete_range(Database.LOCAL)) == written
    await environment.write(putting(b"again"))


async def test_one_write_larger_than_the_map_is_refused_and_the_store_lives_on(environment: Environment) -> None:
    with pytest.raises(StoreFullError):
        await environment.write(putting(b"large", b"x" * 2**21))
    await environment.write(putting(b"small"))
    assert value_of(environment, b"large") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_full_disk_refuses_writes_and_the_store_goes_on_when_there_is_room(tmp_path: Path) -> None:
    mount = tmp_path / "disk"
    mount.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        with DataDirectory.open(mount / "data") as directory, Environment.open(directory) as environment:
            environment.write_blocking(putting(b"kept"))
            ballast = mount / "ballast"
            with pytest.raises(OSError, match="No space"):
                ballast.write_bytes(b"x" * 2**21)
            with pytest.raises(StoreFullError, match="is full"):
                environment.write_blocking(putting(b"large", b"x" * 500_000))
            assert value_of(environment, b"kept") == b"value"
            ballast.unlink()
            environment.write_blocking(putting(b"large", b"x" * 300_000))
        with DataDirectory.open(mount / "data") as directory, Environment.open(directory) as environment:
            assert value_of(environment, b"kept") == b"value"
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_hung_disk_is_reported_after_the_time_limit(environment: Environment) -> None:
    release = threading.Event()
    started = threading.Event()

    def hang(view: WriteView) -> None:
        started.set()
        release.wait(10)

    try:
        with pytest.raises(StoreStalledError, match="did not confirm"):
            environment.write_blocking(hang, timeout_s=0.05)
        assert started.is_set()
        assert environment.usage().commit_running_s > 0
    finally:
        release.set()
    environment.write_blocking(putting(b"after"))


def test_queue_that_is_full_refuses_more(environment: Environment) -> None:
    release = threading.Event()

    def write_without_waiting() -> None:
        with suppress(StoreStalledError):
            environment.write_blocking(putting(b"x"), timeout_s=0.0)

    try:
        with pytest.raises(StoreStalledError):
            environment.write_blocking(lambda view: release.wait(10), timeout_s=0.01)
        for _ in range(QUEUE_MAX):
            write_without_waiting()
        with pytest.raises(NotAvailableError, match="writes wait"):
            write_without_waiting()
    finally:
        release.set()


async def test_closed_store_takes_no_write_and_gives_no_value(directory: DataDirectory) -> None:
    environment = Environment.open(directory)
    environment.close()
    environment.close()
    with pytest.raises(NotAvailableError, match="closed"):
        await environment.write(putting(b"x"))
    with pytest.raises(NotAvailableError, match="closed"):
        value_of(environment, b"x")


async def test_cancelled_writer_leaves_a_working_store(environment: Environment) -> None:
    release = threading.Event()
    with trio.move_on_after(0.01) as scope:
        await environment.write(lambda view: release.wait(10))
    assert scope.cancelled_caught
    release.set()
    await environment.write(putting(b"after"))


def test_scans_keep_to_their_range_in_both_directions(environment: Environment) -> None:
    for number in (1, 3, 5, 7):
        environment.write_blocking(putting(bytes([number])))

    def keys(start: bytes, stop: bytes | None) -> tuple[list[int], list[int]]:
        def read(view: ReadView) -> tuple[list[int], list[int]]:
            forth = [key[0] for key, _ in view.scan(Database.LOCAL, start, stop)]
            return forth, [key[0] for key, _ in view.scan_back(Database.LOCAL, start, stop)]

        return environment.read(read)

    assert keys(b"", None) == ([1, 3, 5, 7], [7, 5, 3, 1])
    assert keys(b"\x03", b"\x07") == ([3, 5], [5, 3])
    assert keys(b"\x02", b"\x06") == ([3, 5], [5, 3])
    assert keys(b"\x08", None) == ([], [])
    assert keys(b"", b"\x01") == ([], [])
    assert keys(b"", b"\x09") == ([1, 3, 5, 7], [7, 5, 3, 1])
    assert environment.write_blocking(lambda view: view.delete_range(Database.LOCAL, b"\x03", b"\x06")) == 2
    assert keys(b"", None) == ([1, 7], [7, 1])
    assert environment.read(lambda view: (view.first_key(Database.LOG), view.last_key(Database.LOG))) == (None, None)


def test_files_are_private_and_made_private_again(directory: DataDirectory) -> None:
    Environment.open(directory).close()
    store = directory.store_path
    (store / "data.mdb").chmod(0o644)
    store.chmod(0o755)
    with Environment.open(directory):
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (directory.path, store, *store.iterdir())}
    assert modes == {"data": 0o700, "store": 0o700, "data.mdb": 0o600, "lock.mdb": 0o600}


def test_second_process_is_refused_with_the_pid_and_the_directory(directory: DataDirectory) -> None:
    program = (
        "import sys; from pathlib import Path; from node.store.directory import DataDirectory\n"
        "try: DataDirectory.open(Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(directory.path)], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.startswith(DataDirectoryLockedError.__name__)
    assert f"process {os.getpid()}" in done.stdout
    assert str(directory.path) in done.stdout


def test_lock_left_by_a_killed_process_locks_nobody_out(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from node.store.directory import DataDirectory; from node.store.environment import Environment\n"
        "from node.store.views import Database\n"
        "environment = Environment.open(DataDirectory.open(Path(sys.argv[1])))\n"
        "number = 0\n"
        "while True:\n"
        "    environment.write_blocking(lambda view: view.put(Database.LOCAL, b'%d' % number, b'x' * 2000))\n"
        "    print(number, flush=True); number += 1"
    )
    path = tmp_path / "data"
    child = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, cwd=ROOT)
    assert child.stdout is not None
    acknowledged = [int(child.stdout.readline()) for _ in range(200)]
    with pytest.raises(DataDirectoryLockedError):
        DataDirectory.open(path)
    child.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in child.stdout.read().split(b"\n")[:-1] if line]
    child.stdout.close()
    child.wait()
    with DataDirectory.open(path) as directory, Environment.open(directory) as environment:
        for number in acknowledged:
            assert value_of(environment, b"%d" % number) == b"x" * 2000


@pytest.mark.parametrize("content", [b"", b"hello" * 5000, b"\0" * 65536, os.urandom(4096)])
def test_file_that_is_no_store_is_refused_and_left_alone(directory: DataDirectory, content: bytes) -> None:
    directory.store_path.mkdir()
    data_path = directory.store_path / "data.mdb"
    data_path.write_bytes(content)
    with pytest.raises(StoreCorruptError, match=r"data\.mdb .*move it aside"):
        Environment.open(directory)
    assert data_path.read_bytes() == content


def test_store_directory_without_its_file_is_not_a_new_store(directory: DataDirectory) -> None:
    directory.store_path.mkdir()
    with pytest.raises(StoreCorruptError, match="cannot be read"):
        Environment.open(directory)
    assert list(directory.store_path.iterdir()) == []


def test_every_truncation_is_refused(directory: DataDirectory, tmp_path: Path) -> None:
    data_path = fill_store(directory)
    whole = data_path.read_bytes()
    pages = len(whole) // 4096
    for size in [1, 4095, 4096, 8191, 8192, len(whole) // 2, (pages // 2) * 4096, 12288]:
        data_path.write_bytes(whole[:size])
        with pytest.raises(StoreCorruptError, match=r"data\.mdb"):
            Environment.open(directory)
    data_path.write_bytes(whole)
    Environment.open(directory).close()


def test_damaged_pages_are_refused_or_harmless(directory: DataDirectory) -> None:
    """A page that is in use and was overwritten is found; one that is free does not matter."""
    data_path = fill_store(directory)
    whole = data_path.read_bytes()
    rng = random.Random(5)
    refused = 0
    for page in range(len(whole) // 4096):
        damaged = bytearray(whole)
        damaged[page * 4096 : page * 4096 + 64] = rng.randbytes(64)
        data_path.write_bytes(damaged)
        try:
            with Environment.open(directory, map_bytes_max=2**22) as environment:
                assert environment.read(lambda view: view.count(Database.LOCAL)) == 300
                assert len(environment.read(lambda view: list(view.scan(Database.LOCAL)))) == 300
        except StoreCorruptError:
            refused += 1
    assert refused > 50


def test_lmdb_file_of_another_program_is_refused(directory: DataDirectory, tmp_path: Path) -> None:
    import lmdb

    with lmdb.open(str(tmp_path / "other"), max_dbs=4) as other:
        other.open_db(b"theirs")
    shutil.move(tmp_path / "other", directory.store_path)
    with pytest.raises(StoreCorruptError, match="not an Orca store"):
        Environment.open(directory)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (msgspec.json.encode({"format": "orca-store", "version": SCHEMA_VERSION + 1}), "newer version of Orca"),
        (msgspec.json.encode({"format": "pear-store", "version": 1}), "pear-store"),
        (b"\xff\xfe", "unreadable schema"),
        (b"{}", "unreadable schema"),
    ],
)
def test_unknown_schema_is_refused(directory: DataDirectory, record: bytes, message: str) -> None:
    with Environment.open(directory) as environment:
        environment.write_blocking(lambda view: view.put(Database.META, b"schema", record))
    for _ in range(2):
        with pytest.raises(StoreCorruptError, match=message):
            Environment.open(directory)


def test_store_made_halfway_is_made_again(directory: DataDirectory) -> None:
    half = directory.path / "store.new"
    half.mkdir()
    (half / "data.mdb").write_bytes(struct.pack("<Q", 0) * 100)
    Environment.open(directory).close()
    assert not half.exists()


def test_damaged_lock_file_of_lmdb_does_no_harm(directory: DataDirectory) -> None:
    Environment.open(directory).close()
    (directory.store_path / "lock.mdb").write_bytes(os.urandom(8192))
    with Environment.open(directory) as environment:
        environment.write_blocking(putting(b"x"))


def test_data_directory_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InvalidConfigError, match="is a file"):
        DataDirectory.open(file)
    with pytest.raises(InvalidConfigError, match="cannot make"):
        DataDirectory.open(file / "below")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with pytest.raises(InvalidConfigError, match="shared by all users"):
        DataDirectory.open(shared)
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777


def test_map_that_is_too_small_is_refused(directory: DataDirectory) -> None:
    with pytest.raises(InvalidConfigError, match="at least 512 KiB"):
        Environment.open(directory, map_bytes_max=4096)
