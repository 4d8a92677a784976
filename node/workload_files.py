"""The small files that a spec mounts into its copies, written where a runtime can bind them."""

import shutil
from collections.abc import Callable
from pathlib import Path

from orca.errors import NotAvailableError
from orca.model.ids import AllocationId, BlobDigest
from orca.model.spec import ServiceSpec


class WorkloadFiles:
    """One directory a copy under `root`, one file a `FileSpec`, named by its index.

    All calls block on the disk: use a worker thread.
    """

    def __init__(self, root: Path, blob_path: Callable[[BlobDigest], Path]) -> None:
        self._root = root
        self._blob_path = blob_path

    def write(self, allocation: AllocationId, spec: ServiceSpec) -> str:
        """The directory with the files of `spec`; empty without any. Idempotent.

        Raises NotAvailableError when a content cannot be read or a file cannot be written.
        """
        if not spec.files:
            return ""
        directory = self._root / allocation
        for index, file in enumerate(spec.files):
            try:
                content = self._blob_path(file.content).read_bytes()
            except OSError as error:
                raise NotAvailableError(
                    f"the content of {file.target} ({file.content}) cannot be read: {error}"
                ) from error
            try:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                _put(directory / str(index), content, file.mode & 0o777)
            except OSError as error:
                raise NotAvailableError(f"{file.target} cannot be written for {spec.id}: {error}") from error
        return str(directory)

    def remove(self, allocation: AllocationId) -> None:
        """Forget the files of a copy; nothing when it has none."""
        shutil.rmtree(self._root / allocation, ignore_errors=True)


def _put(path: Path, content: bytes, mode: int) -> None:
    # A running copy keeps its bind mount only while the file stays the same inode, so what is
    # right is left alone. What is not is replaced whole: half of it must never be mounted.
    if _holds(path, content):
        path.chmod(mode)
        return
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.write_bytes(content)
    fresh.chmod(mode)
    fresh.replace(path)


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False  # it is not there, or its mode forbids reading
