"""Files of a spec where a runtime can bind them: whole, with their modes, and not touched in use."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.workload_files import WorkloadFiles, is_in_memory, memory_places
from orca.errors import NotAvailableError
from orca.model.ids import AllocationId, BlobDigest, LeaseEpoch
from orca.model.spec import FileSpec, ServiceSpec, SingletonSpec
from tests.consensus.intent import make_spec

A = AllocationId("a")


@pytest.fixture
def files(tmp_path: Path) -> WorkloadFiles:
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    (blobs / "one").write_bytes(b"first")
    (blobs / "two").write_bytes(b"second")
    return make_files(tmp_path, memory=[])


def make_files(tmp_path: Path, memory: list[Path]) -> WorkloadFiles:
    blobs = tmp_path / "blobs"
    return WorkloadFiles(
        tmp_path / "files", lambda digest: blobs / digest.removeprefix("sha256:"), name="n-test", memory=memory
    )


def spec(*contents: str, mode: int = 0o444) -> ServiceSpec:
    found = (FileSpec(target=f"/{one}", content=BlobDigest(f"sha256:{one}"), mode=mode) for one in contents)
    return make_spec(files=tuple(found))


def test_a_spec_without_files_needs_no_directory(files: WorkloadFiles, tmp_path: Path) -> None:
    assert files.write(A, make_spec(), {}) == ""
    assert not (tmp_path / "files").exists()


def test_files_are_named_by_their_place_and_nobody_else_can_reach_them(files: WorkloadFiles) -> None:
    directory = Path(files.write(A, spec("one", "two"), {}))
    assert [(directory / name).read_bytes() for name in ("0", "1")] == [b"first", b"second"]
    assert (directory / "0").stat().st_mode & 0o777 == 0o444
    assert directory.stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in directory.iterdir()) == ["0", "1"]


def test_a_file_in_use_stays_the_same_file(files: WorkloadFiles) -> None:
    directory = Path(files.write(A, spec("one"), {}))
    before = (directory / "0").stat().st_ino
    files.write(A, spec("one", mode=0o400), {})
    after = (directory / "0").stat()
    assert (after.st_ino, after.st_mode & 0o777) == (before, 0o400)


def test_a_file_that_was_half_written_is_replaced_whole(files: WorkloadFiles) -> None:
    directory = Path(files.write(A, spec("one", mode=0o000), {}))
    (directory / "0").chmod(0o600)
    (directory / "0").write_bytes(b"fir")
    (directory / "0").chmod(0o000)
    (directory / "0.new").write_bytes(b"left by a crash")
    files.write(A, spec("one"), {})
    assert (directory / "0").read_bytes() == b"first"
    assert not (directory / "0.new").exists()


def test_a_content_that_is_not_there_is_said_by_its_target(files: WorkloadFiles) -> None:
    with pytest.raises(NotAvailableError, match="the content of /three"):
        files.write(A, spec("one", "three"), {})


def test_a_place_that_cannot_be_written_is_an_error_of_its_own(files: WorkloadFiles, tmp_path: Path) -> None:
    (tmp_path / "files").write_text("a file where a directory should be")
    with pytest.raises(NotAvailableError, match="/one cannot be written for default/web"):
        files.write(A, spec("one"), {})


def test_files_of_a_copy_that_is_gone_go_too(files: WorkloadFiles) -> None:
    directory = Path(files.write(A, spec("one"), {}))
    files.remove(A)
    assert not directory.exists()
    files.remove(A)


SECRET = make_spec(
    files=(FileSpec(target="/one", content=BlobDigest("sha256:one")), FileSpec(target="/s", secret="db", mode=0o440))
)
MOUNTS = """overlay / overlay rw 0 0
tmpfs /run tmpfs rw 0 0
/dev/sda1 /run/disk ext4 rw 0 0
tmpfs /with\\040space tmpfs rw 0 0
short
"""


@pytest.fixture
def memory() -> Iterator[Path]:
    place = Path("/dev/shm") / f"orca-test-{os.getpid()}"
    place.mkdir(mode=0o700)
    yield place
    shutil.rmtree(place)


def test_a_copy_with_a_secret_has_its_files_in_memory_and_nothing_of_it_on_a_disk(
    files: WorkloadFiles, tmp_path: Path, memory: Path
) -> None:
    files = make_files(tmp_path, [tmp_path, memory])
    directory = Path(files.write(A, SECRET, {"db": b"hunter2"}))
    assert directory == memory / "orca" / "n-test" / A
    assert [(directory / name).read_bytes() for name in ("0", "1")] == [b"first", b"hunter2"]
    assert (directory / "1").stat().st_mode & 0o777 == 0o440
    assert all(path.stat().st_mode & 0o077 == 0 for path in (directory, directory.parent, directory.parent.parent))
    assert not (tmp_path / "files").exists()
    files.remove(A)
    assert not directory.exists()


def test_without_a_file_system_in_memory_a_secret_is_not_written_at_all(files: WorkloadFiles, tmp_path: Path) -> None:
    files = make_files(tmp_path, [Path("/proc/self"), tmp_path / "absent"])
    with pytest.raises(NotAvailableError, match="only to memory"):
        files.write(A, SECRET, {"db": b"hunter2"})
    assert not (tmp_path / "files").exists()


@pytest.mark.parametrize(
    ("path", "answer"),
    [("/run", True), ("/run/orca", True), ("/running", False), ("/run/disk/x", False), ("/with space/x", True)],
)
def test_what_lies_in_memory_is_told_by_the_nearest_mount(path: str, answer: bool) -> None:
    assert is_in_memory(Path(path), MOUNTS) is answer


def test_the_own_runtime_directory_comes_before_the_one_of_everybody() -> None:
    assert memory_places({}, 0) == (Path("/run"), Path("/dev/shm"))
    assert memory_places({"XDG_RUNTIME_DIR": "/run/user/5"}, 5)[0] == Path("/run/user/5")
    assert memory_places({}, 5) == (Path("/dev/shm"),)


def test_the_fence_of_a_singleton_is_a_file_and_another_fence_another_one(tmp_path: Path) -> None:
    files = WorkloadFiles(tmp_path, lambda digest: tmp_path / digest, name="n-test", memory=())
    asked = make_spec(files=(FileSpec(target="/run/fence", is_fence=True),), singleton=SingletonSpec())
    assert (Path(files.write(A, asked, {})) / "0").read_text() == "", "it is prepared before it has a lease"
    for fence in (7, 9):
        directory = Path(files.write(A, asked, {}, LeaseEpoch(fence)))
        assert (directory / "0").read_text() == f"{fence}\n"
