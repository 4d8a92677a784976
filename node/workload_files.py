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
        """The directory with the files of `spec`; empty without any. Idempotent."""
        if not spec.files:
            return ""
        directory = self._root / allocation
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for index, file in enumerate(spec.files):
            path = directory / str(index)
            try:
                content = self._blob_path(file.content).read_bytes()
            except OSError as error:
                raise NotAvailableError(
                    f"the content of {file.target} ({file.content}) cannot be read: {error}"
                ) from error
            # A running copy keeps its bind mount only while the file stays the same inode.
            if not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)
            path.chmod(file.mode & 0o777)
        return str(directory)

    def remove(self, allocation: AllocationId) -> None:
        """Forget the files of a copy; nothing when it has none."""
        shutil.rmtree(self._root / allocation, ignore_errors=True)
