"""The small files that a spec mounts into its copies, written where a runtime can bind them.

A copy that has a secret among its files gets all of them in memory: in a directory of a file system that
never reaches a disk. They are gone after a reboot, and so are the copies that were bound to them.
"""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from orca.errors import NotAvailableError
from orca.model.ids import AllocationId, BlobDigest, LeaseEpoch
from orca.model.spec import FileSpec, ServiceSpec

_IN_MEMORY = frozenset({"tmpfs", "ramfs"})


def memory_places(environ: Mapping[str, str], uid: int) -> tuple[Path, ...]:
    """Where a node of user `uid` may keep files in memory, the best first."""
    own = environ.get("XDG_RUNTIME_DIR")
    places = [Path("/run")] if uid == 0 else [Path(own)] if own else []
    return (*places, Path("/dev/shm"))  # noqa: S108 - a directory of mode 0700 is made below it


def is_in_memory(path: Path, mounts: str) -> bool:
    """Whether `path` (absolute, without links) lies in a tmpfs, by the lines of /proc/mounts."""
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        is_below = point == "/" or str(path) == point or str(path).startswith(f"{point}/")
        if is_below and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind in _IN_MEMORY


def memory_place(places: Sequence[Path]) -> Path | None:
    """The first of `places` that is a file system in memory and can be written to."""
    mounts = Path("/proc/mounts").read_text()
    return next(
        (one for one in places if one.is_dir() and os.access(one, os.W_OK) and is_in_memory(one.resolve(), mounts)),
        None,
    )


class WorkloadFiles:
    """One directory a copy, one file a `FileSpec`, named by its index.

    Contents lie under `root`. Copies with secrets have theirs in the first of `memory` that is a file system in
    memory, below `name`, which must be unique on this computer. All calls block on the disk: use a worker thread.
    """

    def __init__(
        self, root: Path, blob_path: Callable[[BlobDigest], Path], *, name: str, memory: Sequence[Path]
    ) -> None:
        self._root = root
        self._blob_path = blob_path
        self._name = name
        self._memory = memory

    def write(
        self,
        allocation: AllocationId,
        spec: ServiceSpec,
        secrets: Mapping[str, bytes],
        fence: LeaseEpoch | None = None,
    ) -> str:
        """The directory with the files of `spec`; empty without any. Idempotent.

        `secrets` has the value of each secret that the files name. Without a `fence` yet its file is empty; nothing is
        started then. Raises NotAvailableError when a content cannot be
        read, a file cannot be written, or secrets have no place in memory.
        """
        if not spec.files:
            return ""
        has_secrets = any(file.secret is not None for file in spec.files)
        directory = (self._memory_root() if has_secrets else self._root) / allocation
        for index, file in enumerate(spec.files):
            content = self._content(file, secrets, fence)
            try:
                for folder in (directory.parent.parent, directory.parent, directory) if has_secrets else (directory,):
                    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                _put(directory / str(index), content, file.mode & 0o777)
            except OSError as error:
                raise NotAvailableError(f"{file.target} cannot be written for {spec.id}: {error}") from error
        return str(directory)

    def _content(self, file: FileSpec, secrets: Mapping[str, bytes], fence: LeaseEpoch | None) -> bytes:
        if file.is_fence:
            return b"" if fence is None else f"{fence}\n".encode()
        if file.secret is not None:
            return secrets[file.secret]
        assert file.content is not None, "a file has a content, a secret or a fence"
        try:
            return self._blob_path(file.content).read_bytes()
        except OSError as error:
            raise NotAvailableError(f"the content of {file.target} ({file.content}) cannot be read: {error}") from error

    def _memory_root(self) -> Path:
        place = memory_place(self._memory)
        if place is not None:
            return place / "orca" / self._name
        places = " or ".join(map(str, self._memory))
        raise NotAvailableError(
            f"a secret may be written only to memory, and none of {places} is a tmpfs that can be written to; "
            "mount one there, or give the secret by `env`"
        )

    def remove(self, allocation: AllocationId) -> None:
        """Forget the files of a copy; nothing when it has none."""
        for root in (self._root, *(place / "orca" / self._name for place in self._memory)):
            shutil.rmtree(root / allocation, ignore_errors=True)


def _put(path: Path, content: bytes, mode: int) -> None:
    # A running copy keeps its bind mount only while the file stays the same inode, so what is
    # right is left alone. What is not is replaced whole: half of it must never be mounted.
    if _holds(path, content):
        path.chmod(mode)
        return
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_bytes(content)
    fresh.chmod(mode)
    fresh.replace(path)


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False  # it is not there, or its mode forbids reading
