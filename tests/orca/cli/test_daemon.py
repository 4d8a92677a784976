"""What `orca up` makes of its options."""

from pathlib import Path
from typing import Any

import pytest

from orca.cli.daemon import node_config
from orca.config import GossipBackend, LogFormat, NodeConfig
from orca.errors import InvalidConfigError, InvalidRequestError

NOTHING: dict[str, Any] = {
    "data_dir": None,
    "name": None,
    "api": None,
    "http": None,
    "https_port": None,
    "gossip": None,
    "seeds": (),
    "listen": None,
    "advertise": None,
    "rpc": None,
    "rpc_key_file": None,
    "agent": None,
    "agent_key_file": None,
    "mesh_port": None,
    "port_offset": None,
    "labels": (),
    "log_format": None,
    "without_docker": False,
}


def config_of(file: str | None = None, **values: Any) -> NodeConfig:
    return node_config(file, {**NOTHING, **values})


def test_without_options_the_defaults_hold() -> None:
    assert config_of() == NodeConfig()


def test_options_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "cluster.toml"
    file.write_text('name = "from-file"\napi_port = 7000\n[labels]\nzone = "a"\n')
    config = config_of(str(file), name="given", labels=("disk=ssd",), log_format="json", without_docker=True)
    assert (config.name, config.api_port, config.labels) == ("given", 7000, {"zone": "a", "disk": "ssd"})
    assert (config.log_format, config.docker) == (LogFormat.JSON, False)


def test_a_listener_may_be_a_port_or_an_address() -> None:
    config = config_of(api="[::1]:7001", http="8080")
    assert (config.api_host, config.api_port) == ("::1", 7001)
    assert (config.http_host, config.http_port) == (NodeConfig().http_host, 8080)
    config = config_of(gossip="7000", seeds=("a", "b:1"), listen="10.0.0.1")
    assert (config.gossip.host, config.gossip.port, config.gossip.seeds) == ("", 7000, ("a", "b:1"))
    assert config.listen == "10.0.0.1"
    assert config_of(gossip="127.0.0.1:7000").gossip.host == "127.0.0.1"


@pytest.mark.parametrize(
    "values",
    [
        {"api": "localhost"},
        {"http": "80x"},
        {"http": "1:70000"},
        {"listen": "a-name"},
        {"advertise": "1.2.3"},
        {"gossip": "name:1"},
        {"rpc": "0.0.0.0:7373"},
        {"agent": "name:7373"},
        {"agent": "0"},
        {"rpc_key_file": "/nowhere"},
        {"labels": ("zone",)},
        {"labels": ("orca.x=1",)},
    ],
)
def test_options_that_cannot_be_read_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        config_of(**values)


def test_ports_that_leave_their_range_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="a port is 0 to 65535"):
        config_of(port_offset=70_000)


def test_a_file_that_is_missing_or_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigError, match=r"nowhere.toml cannot be read"):
        config_of(str(tmp_path / "nowhere.toml"))
    file = tmp_path / "cluster.toml"
    file.write_text("api_prt = 1\n")
    with pytest.raises(InvalidConfigError, match="api_prt"):
        config_of(str(file))


def test_trusted_proxies_are_addresses_or_networks(tmp_path: Path) -> None:
    file = tmp_path / "cluster.toml"
    file.write_text('[proxy]\ntrusted_proxies = ["10.0.0.5", "192.168.0.0/16", "fd00::/8"]\n')
    assert config_of(str(file)).proxy.trusted_proxies == ("10.0.0.5", "192.168.0.0/16", "fd00::/8")
    for wrong, why in (("10.0.0.1/8", "has host bits set"), ("lb.example.com", "does not appear to be")):
        file.write_text(f'[proxy]\ntrusted_proxies = ["10.0.0.5", "{wrong}"]\n')
        with pytest.raises(InvalidConfigError, match=rf"proxy\.trusted_proxies\[1\] is '{wrong}': .*{why}.*is right"):
            config_of(str(file))


def test_serfs_rpc_needs_a_key_and_an_agent_takes_gossip_over(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret\n")
    section = config_of(rpc="7000", rpc_key_file=str(key)).gossip
    assert (section.rpc.host, section.rpc.port, section.rpc.key) == ("127.0.0.1", 7000, "secret")
    section = config_of(agent="7373", agent_key_file=str(key)).gossip
    assert (section.backend, section.agent.port, section.agent.key) == (GossipBackend.SERF, 7373, "secret")
    file = tmp_path / "cluster.toml"
    file.write_text('[gossip.rpc]\nhost = "0.0.0.0"\n')
    with pytest.raises(InvalidConfigError, match=r"0\.0\.0\.0:7373 has no key.*set gossip.rpc.key"):
        config_of(str(file))
    with pytest.raises(InvalidRequestError, match="--rpc needs a key"):
        config_of(rpc="7373")
    with pytest.raises(InvalidRequestError, match="the agent has that port itself"):
        config_of(agent="7373", rpc="7000", rpc_key_file=str(key))
    key.write_text(" ")
    with pytest.raises(InvalidRequestError, match="is empty"):
        config_of(rpc="7000", rpc_key_file=str(key))
