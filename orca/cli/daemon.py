"""`orca up` and `orca join`: run a node in this process. The only door from the command line into `node`."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncclick as click

from orca.cli.program import Session, argument, option, verb

if TYPE_CHECKING:
    from collections.abc import Callable

    from orca.config import GossipSection, NodeConfig
    from orca.model.view import NodeView


_OPTIONS = (
    option(
        "--data-dir",
        metavar="DIR",
        help="Where state lives [$ORCA_DATA_DIR, /var/lib/orca for root, ~/.local/share/orca].",
    ),
    option("--name", metavar="NAME", help="What people call this node [the host name]."),
    option("--api", metavar="HOST:PORT", help="Where the API listens [127.0.0.1:6880]."),
    option("--http", metavar="[HOST:]PORT", help="Where the proxy listens [80, or 8080 when that may not be bound]."),
    option(
        "--https", "https_port", type=click.IntRange(0, 65535), metavar="PORT", help="The same in TLS [443, or 8443]."
    ),
    option("--listen", metavar="IP", help="Where gossip and mesh listen [0.0.0.0: all of this computer]."),
    option("--advertise", metavar="IP", help="The address that other nodes are told [that of the default route]."),
    option("--gossip", metavar="[IP:]PORT", help="Where members find each other, UDP and TCP [7946]."),
    option("--rpc", metavar="[HOST:]PORT", help="Serve Serf's RPC, so that `serf` works here; needs a key [off]."),
    option("--rpc-key-file", metavar="FILE", help="The key that clients of --rpc have to show [gossip.rpc.key]."),
    option("--agent", metavar="[HOST:]PORT", help="Leave gossip to the Serf agent whose RPC is there [own gossip]."),
    option("--agent-key-file", metavar="FILE", help="The key of that agent (rpc_auth) [gossip.agent.key]."),
    option("--mesh", "mesh_port", type=click.IntRange(0, 65535), metavar="PORT", help="For the other nodes [6881]."),
    option("--seed", "seeds", multiple=True, metavar="HOST[:PORT]", help="A further member of the gossip; repeatable."),
    option("--port-offset", type=int, metavar="N", help="Added to every port: several nodes on one computer."),
    option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Label of this node; repeatable."),
    option("--config", "config_file", metavar="FILE", help="Settings in TOML; options here win over it."),
    option("--log-format", type=click.Choice(["human", "json"]), help="How the node writes its log."),
    option("--no-docker", "without_docker", is_flag=True, help="Run WebAssembly only."),
)


@verb(
    "up",
    *_OPTIONS,
    more="Runs until it gets SIGTERM or Ctrl-C. What it runs stays running, and is taken over by the next start. With "
    "--json it describes itself on standard output once it answers; its log goes to standard error. In an empty data "
    "directory it founds a cluster; `orca token create` lets more nodes in.",
)
def up_command(session: Session, config_file: str | None, **values: Any) -> int:
    """Run a node."""
    config = node_config(config_file, values)
    from node.program import run_node

    run_node(config, _announcing(session))
    return 0


@verb(
    "join",
    argument("peers", nargs=-1, required=True, metavar="PEER..."),
    option("--token", metavar="TOKEN", help="As `orca token create` printed it; other users can see it here."),
    option("--token-file", metavar="FILE", help="A file that holds it."),
    option("--join-only", "is_only", is_flag=True, help="Join and exit; `orca up` runs the node then."),
    *_OPTIONS,
    more="PEER is a node of the cluster: HOST or HOST:PORT, the mesh port [6881]. The token comes from "
    "$ORCA_JOIN_TOKEN, from --token-file, or is asked for. It names the cluster's CA: nothing is sent to anybody else. "
    "Run again with the same data directory it is the same node, and takes no second use of the token.",
)
def join_command(
    session: Session,
    peers: tuple[str, ...],
    token: str | None,
    token_file: str | None,
    is_only: bool,
    config_file: str | None,
    **values: Any,
) -> int:
    """Join a cluster."""
    config = node_config(config_file, values)
    from orca.model.join_token import JoinOptions

    options = JoinOptions(peers=peers, token=_checked(_read_token(session, token, token_file)))
    if is_only:
        import trio

        from node.program import join_node

        trio.run(join_node, config, options)
        return 0
    from node.program import run_node

    run_node(config, _announcing(session), options)
    return 0


def _announcing(session: Session) -> "Callable[[NodeView], None]":
    console = session.console
    return partial(console.data, is_streamed=True) if console.as_json else lambda _: None


def _read_token(session: Session, token: str | None, token_file: str | None) -> str:
    """The token, from the one place where it was given."""
    import sys
    from getpass import getpass

    from orca.errors import InvalidRequestError
    from orca.model.join_token import TOKEN_ENV

    if token is not None and token_file is not None:
        raise InvalidRequestError("give the token once: by --token or by --token-file")
    if token is not None:
        return token
    if token_file is not None:
        try:
            return Path(token_file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequestError(f"{token_file} cannot be read: {error}") from error
    found = session.console.environ.get(TOKEN_ENV, "")
    if found:
        return found
    if sys.stdin.isatty():
        return getpass("join token (not shown): ")
    raise InvalidRequestError(
        f"no join token was given: set ${TOKEN_ENV} or name a file with --token-file",
        hint="`orca token create` on a node of the cluster makes one",
    )


def _checked(token: str) -> str:
    from orca.errors import InvalidRequestError
    from orca.model.join_token import parse_join_token

    try:
        return parse_join_token(token).text()
    except ValueError as error:
        raise InvalidRequestError(str(error)) from error


def node_config(config_file: str | None, values: dict[str, Any]) -> "NodeConfig":
    """The settings of `config_file` with the options of the command line over them.

    Raises InvalidConfigError for the file, InvalidRequestError for the options.
    """
    import msgspec

    from orca.config import LogFormat, NodeConfig, decode_config
    from orca.errors import InvalidConfigError, InvalidRequestError

    config = NodeConfig()
    if config_file is not None:
        try:
            text = Path(config_file).read_bytes()
        except OSError as error:
            raise InvalidConfigError(f"{config_file} cannot be read: {error.strerror}") from error
        config = decode_config(text, filename=config_file)
    changes: dict[str, Any] = {
        key: values[key]
        for key in ("data_dir", "name", "port_offset", "mesh_port", "https_port", "listen", "advertise")
        if values[key] is not None
    }
    if values["api"] is not None:
        changes["api_host"], changes["api_port"] = parse_listener(values["api"], "--api", config.api_host)
    if values["http"] is not None:
        changes["http_host"], changes["http_port"] = parse_listener(values["http"], "--http", config.http_host)
    if values["labels"]:
        changes["labels"] = {**config.labels, **parse_labels(values["labels"])}
    if values["log_format"] is not None:
        changes["log_format"] = LogFormat(values["log_format"])
    if values["without_docker"]:
        changes["docker"] = False
    try:
        changes["gossip"] = _gossip_section(config.gossip, values)
        return msgspec.structs.replace(config, **changes)
    except ValueError as error:
        raise InvalidRequestError(str(error)) from error


def _gossip_section(section: "GossipSection", values: dict[str, Any]) -> "GossipSection":
    """The section with the options over it. Raises InvalidRequestError, ValueError."""
    import msgspec

    from orca.config import GossipBackend
    from orca.errors import InvalidRequestError

    changes: dict[str, Any] = {}
    if values["gossip"] is not None:
        changes["host"], changes["port"] = parse_listener(values["gossip"], "--gossip", section.host)
    if values["seeds"]:
        changes["seeds"] = tuple(values["seeds"])
    for name in ("rpc", "agent"):
        place, key_file = values[name], values[f"{name}_key_file"]
        part: dict[str, Any] = {}
        if place is not None:
            part["host"], part["port"] = parse_listener(place, f"--{name}", getattr(section, name).host)
        if key_file is not None:
            part["key"] = _key_in(key_file, f"--{name}-key-file")
        if name == "rpc" and place is not None and not (section.rpc.key or key_file):
            raise InvalidRequestError(
                "--rpc needs a key: whoever reaches that port can make this node leave", hint="--rpc-key-file FILE"
            )
        if part:
            changes[name] = msgspec.structs.replace(getattr(section, name), **part)
    if values["agent"] is not None:
        changes["backend"] = GossipBackend.SERF
    return msgspec.structs.replace(section, **changes)


def _key_in(path: str, name: str) -> str:
    from orca.errors import InvalidRequestError

    try:
        key = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"{name}: {path} cannot be read: {error}") from error
    if not key:
        raise InvalidRequestError(f"{name}: {path} is empty; it has to hold the key")
    return key


def parse_listener(text: str, name: str, default_host: str) -> tuple[str, int]:
    """`HOST:PORT`, `[V6]:PORT` or `PORT` as host and port. Raises InvalidRequestError."""
    from orca.errors import InvalidRequestError

    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or default_host
    if not (port.isdecimal() and int(port) <= 65535):
        raise InvalidRequestError(f"{name} {text!r} is no address; write HOST:PORT or PORT, a port is 0 to 65535")
    return host, int(port)


def parse_labels(texts: tuple[str, ...]) -> dict[str, str]:
    """`KEY=VALUE` texts as a dict. Raises InvalidRequestError."""
    from orca.errors import InvalidRequestError

    labels = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not (separator and key):
            raise InvalidRequestError(f"--label {text!r} is no label; write KEY=VALUE, for example zone=a")
        labels[key] = value
    return labels
