"""TCP and unix sockets as trio streams, for both roles."""

import contextlib
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeAlias

import trio

from orca.errors import AddressInUseError

Connect: TypeAlias = Callable[[], Awaitable[trio.abc.Stream]]
"""Opens one connection; raises OSError when none comes about."""

UNIX_PATH_BYTES_MAX: Final = 107
"""What fits into `sockaddr_un` beside its final zero."""
LISTEN_BACKLOG: Final = 128


def tcp_connector(host: str, port: int, *, timeout_s: float = 5.0) -> Connect:
    """Connections to `host`:`port`; a connect that takes longer than `timeout_s` is an OSError."""

    async def connect() -> trio.abc.Stream:
        try:
            with trio.fail_after(timeout_s):
                return await trio.open_tcp_stream(host, port)
        except trio.TooSlowError as error:
            raise TimeoutError(f"no connection to {host}:{port} within {timeout_s:g} s") from error

    return connect


def unix_connector(path: str, *, timeout_s: float = 5.0) -> Connect:
    """Connections to the unix socket at `path`; a connect that takes longer is an OSError."""

    async def connect() -> trio.abc.Stream:
        with _short_path(path) as short:
            try:
                with trio.fail_after(timeout_s):
                    return await trio.open_unix_socket(short)
            except trio.TooSlowError as error:
                raise TimeoutError(f"no connection to {path} within {timeout_s:g} s") from error

    return connect


async def listen_unix(path: str) -> trio.SocketListener:
    """A listener at `path` that only its owner can use (mode 0600).

    A socket that a dead process left there is replaced. Raises `AddressInUseError` when
    somebody answers on it, or when something other than a socket is there.
    """
    with _short_path(path) as short:
        await _clear_stale(path, short)
        listening = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # The mode is set before the name exists, so there is no moment at which others could connect.
            os.fchmod(listening.fileno(), 0o600)
            await listening.bind(short)
            os.chmod(short, 0o600)  # noqa: PTH101
            listening.listen(LISTEN_BACKLOG)
        except BaseException:
            listening.close()
            raise
    return trio.SocketListener(listening)


async def _clear_stale(path: str, short: str) -> None:
    try:
        mode = os.lstat(short).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise AddressInUseError(f"{path} is in the way: a unix socket is to be made there, and it is something else")
    try:
        with trio.fail_after(2):
            stream = await trio.open_unix_socket(short)
    except ConnectionRefusedError:
        os.unlink(short)  # noqa: PTH108
    except (OSError, trio.TooSlowError) as error:
        raise AddressInUseError(f"the unix socket {path} exists and cannot be tried: {error}") from error
    else:
        await stream.aclose()
        raise AddressInUseError(f"another process answers on the unix socket {path}")


@contextlib.contextmanager
def _short_path(path: str) -> Iterator[str]:
    """A name of `path` that fits into a socket address: long ones go through their directory's descriptor."""
    if len(os.fsencode(path)) <= UNIX_PATH_BYTES_MAX:
        yield path
        return
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)  # noqa: PTH120
    try:
        yield f"/proc/self/fd/{directory}/{os.path.basename(path)}"  # noqa: PTH119
    finally:
        os.close(directory)
