"""Where the client looks for its node."""

import socket
from pathlib import Path

import pytest

from orca.client import NodeAddress, discover_node, parse_address
from orca.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("node1", "http://node1:6880"),
        ("node1:7000", "http://node1:7000"),
        ("http://10.0.0.1/", "http://10.0.0.1:6880"),
        ("[::1]:7000", "http://[::1]:7000"),
        ("http://[fe80::1]", "http://[fe80::1]:6880"),
        ("unix:/run/api.sock", "unix:/run/api.sock"),
        ("unix:///run/api.sock", "unix:/run/api.sock"),
    ],
)
def test_an_address_is_read_in_each_of_its_forms(text: str, shown: str) -> None:
    assert str(parse_address(text)) == shown


@pytest.mark.parametrize(
    "text",
    ["", "ftp://n", "n:port", "n:99999", "http://", "unix:api.sock", "a b", "http://n/v1", "http://u@n", "[::1"],
)
def test_a_wrong_address_is_refused_with_the_right_forms(text: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_address(text)
    assert "unix:/path" in caught.value.hint


def test_the_argument_wins_over_the_environment_and_that_over_the_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "api.sock"))
    environ = {"ORCA_DATA_DIR": str(tmp_path)}
    assert discover_node(None, environ) == NodeAddress(socket_path=str(tmp_path / "api.sock"))
    environ["ORCA_NODE"] = "other:1"
    assert str(discover_node(None, environ)) == "http://other:1"
    assert str(discover_node("third:2", environ)) == "http://third:2"


def test_without_a_socket_the_node_is_looked_for_on_its_port(tmp_path: Path) -> None:
    (tmp_path / "api.sock").write_text("no socket")
    assert str(discover_node(None, {"ORCA_DATA_DIR": str(tmp_path)})) == "http://127.0.0.1:6880"
