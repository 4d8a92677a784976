"""Where the node is that a command talks to."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from orca.errors import InvalidRequestError

if TYPE_CHECKING:
    from orca.http.connect import Connect

API_PORT: Final = 6880
SOCKET_NAME: Final = "api.sock"


class NodeAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A node's API: `socket_path` when that is set, else `host` and `port`, with TLS when `is_tls`.

    `label` is what it is called instead, where something else than an address leads to it.
    """

    host: str = ""
    port: int = 0
    socket_path: str = ""
    is_tls: bool = False
    label: str = ""

    @property
    def authority(self) -> str:
        """What goes into the `Host` field."""
        if self.socket_path or not self.host:
            return "localhost"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def connector(self) -> "Connect":
        """Opens connections to it, on trio."""
        from orca.http.connect import tcp_connector, unix_connector

        return unix_connector(self.socket_path) if self.socket_path else tcp_connector(self.host, self.port)

    def __str__(self) -> str:
        if self.label:
            return self.label
        scheme = "https" if self.is_tls else "http"
        return f"unix:{self.socket_path}" if self.socket_path else f"{scheme}://{self.authority}"


def parse_address(text: str) -> NodeAddress:
    """Reads `host`, `host:port`, `http://host[:port]`, `https://host[:port]`, `[v6]:port` or `unix:/path`.

    The port is 6880 where none is written. Raises `InvalidRequestError`.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if path.startswith("//"):
            path = path.removeprefix("//")
        if not path.startswith("/") or "\0" in path:
            raise _bad(text, "the path of a unix socket must be absolute")
        return NodeAddress(socket_path=path)
    if "://" in text and not text.startswith(("http://", "https://")):
        raise _bad(text, "only http://, https:// and unix: are spoken")
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _bad(text, str(error)) from error
    if not host or parts.path not in {"", "/"} or parts.query or parts.username is not None or host.split() != [host]:
        raise _bad(text, "it must be a host and a port, nothing more")
    return NodeAddress(host=host, port=API_PORT if port is None else port, is_tls=parts.scheme == "https")


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """ORCA_DATA_DIR, else `/var/lib/orca` for root, else `~/.local/share/orca`."""
    if named := environ.get("ORCA_DATA_DIR"):
        return Path(named).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/orca")
    return Path(environ.get("HOME") or Path.home()) / ".local" / "share" / "orca"


def discover_node(node: str | None, environ: Mapping[str, str]) -> NodeAddress:
    """The node that is meant: `node`, else ORCA_NODE, else the one of the default data directory.

    The last is reached by its unix socket where there is one, else at 127.0.0.1:6880.
    Raises `InvalidRequestError` for an address that cannot be read.
    """
    if named := node or environ.get("ORCA_NODE"):
        return parse_address(named)
    path = default_data_dir(environ) / SOCKET_NAME
    try:
        if stat.S_ISSOCK(path.stat().st_mode):
            return NodeAddress(socket_path=str(path))
    except OSError:
        pass  # no such directory, or somebody else's: the TCP port is open to all
    return NodeAddress(host="127.0.0.1", port=API_PORT)


def _bad(text: str, why: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{text!r} is no address of a node: {why}",
        hint="write host:port, http://host:port, https://host:port or unix:/path/api.sock",
    )
