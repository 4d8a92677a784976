"""The data directory of a node, held by one process at a time."""

import fcntl
import os
import stat
from pathlib import Path
from types import TracebackType

from orca.errors import DataDirectoryLockedError, InvalidConfigError


class DataDirectory:
    """A directory that this process alone uses, until `close` or the end of the process.

    The lock is an flock on an open file: the kernel gives it up when the process dies,
    however it dies, so a file left behind locks nobody out.
    """

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self._lock_fd: int | None = lock_fd

    @classmethod
    def open(cls, path: Path) -> "DataDirectory":
        """Make the directory where it is missing, make it private, and lock it.

        Raises `DataDirectoryLockedError` when another process holds it, and
        `InvalidConfigError` when it cannot be used: no permission, somebody else's, or a
        directory that everybody may write to.
        """
        path = path.absolute()
        make_private_directory(path)
        lock_path = path / "lock"
        try:
            fd = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise InvalidConfigError(f"cannot open the lock file {lock_path}: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise DataDirectoryLockedError(
                f"another node (process {holder}) runs on the data directory {path}; "
                "stop it, or give this one a directory of its own with --data-dir"
            ) from error
        except OSError as error:
            os.close(fd)
            raise InvalidConfigError(f"cannot lock {lock_path}: {error.strerror}; use a local disk") from error
        os.fchmod(fd, 0o600)
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        return cls(path, fd)

    @property
    def store_path(self) -> Path:
        """Where the LMDB environment lies."""
        return self.path / "store"

    @property
    def blobs_path(self) -> Path:
        """Where the blobs lie."""
        return self.path / "blobs"

    def close(self) -> None:
        """Give the directory back; a second call does nothing."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def __enter__(self) -> "DataDirectory":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def make_private_directory(path: Path) -> None:
    """Make `path` (and its parents) where it is missing, and see that nobody else may enter it (0700).

    Raises `InvalidConfigError` where that cannot be.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except FileExistsError as error:
        raise InvalidConfigError(f"{path} is a file; a directory is needed there") from error
    except OSError as error:
        raise InvalidConfigError(f"cannot make the directory {path}: {error.strerror}") from error
    if found.st_uid != os.geteuid():
        raise InvalidConfigError(f"{path} belongs to user {found.st_uid}, this process runs as {os.geteuid()}")
    if found.st_mode & stat.S_ISVTX:
        # /tmp and its like: making it private would take it away from everybody else.
        raise InvalidConfigError(f"{path} is shared by all users; use a directory of its own, for example {path}/orca")
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)


def sync_directory(path: Path) -> None:
    """Make the names inside `path` durable, as fsync(2) asks after a rename."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
