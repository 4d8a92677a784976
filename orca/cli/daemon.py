"""`orca up`: run a node in this process. The only door from the command line into `node`."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncclick as click

from orca.cli.program import Session, option, verb

if TYPE_CHECKING:
    from orca.config import GossipSection, NodeConfig


@verb(
    "up",
    option(
        "--data-dir",
        metavar="DIR",
        help="Where state lives [$ORCA_DATA_DIR, /var/lib/orca for root, ~/.local/share/orca].",
    ),
    option("--name", metavar="NAME", help="What people call this node [the host name]."),
    option("--api", metavar="HOST:PORT", help="Where the API listens [127.0.0.1:6880]."),
    option("--http", metavar="[HOST:]PORT", help="Where the proxy listens [80, or 8080 when that may not be bound]."),
    option("--gossip", metavar="[HOST:]PORT", help="Where members find each other, UDP and TCP [127.0.0.1:7946]."),
    option("--rpc", metavar="[HOST:]PORT", help="Serve Serf's RPC, so that `serf` works here; needs a key [off]."),
    option("--rpc-key-file", metavar="FILE", help="The key that clients of --rpc have to show [gossip.rpc.key]."),
    option("--agent", metavar="[HOST:]PORT", help="Leave gossip to the Serf agent whose RPC is there [own gossip]."),
    option("--agent-key-file", metavar="FILE", help="The key of that agent (rpc_auth) [gossip.agent.key]."),
    option("--mesh", "mesh_port", type=click.IntRange(0, 65535), metavar="PORT", help="For the other nodes [6881]."),
    option("--join", multiple=True, metavar="HOST[:PORT]", help="A peer to find the cluster by; repeatable."),
    option("--port-offset", type=int, metavar="N", help="Added to every port: several nodes on one computer."),
    option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Label of this node; repeatable."),
    option("--config", "config_file", metavar="FILE", help="Settings in TOML; options here win over it."),
    option("--log-format", type=click.Choice(["human", "json"]), help="How the node writes its log."),
    option("--no-docker", "without_docker", is_flag=True, help="Run WebAssembly only."),
    more="Runs until it gets SIGTERM or Ctrl-C. What it runs stays running, and is taken over by the next start. With "
    "--json it describes itself on standard output once it answers; its log goes to standard error.",
)
def up_command(session: Session, config_file: str | None, **values: Any) -> int:
    """Run a node."""
    config = node_config(config_file, values)
    from node.agent import run_node

    console = session.console
    if console.as_json:
        run_node(config, partial(console.data, is_streamed=True))
    else:
        run_node(config)
    return 0


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
        key: values[key] for key in ("data_dir", "name", "port_offset", "mesh_port") if values[key] is not None
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
    if values["join"]:
        changes["join"] = tuple(values["join"])
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
