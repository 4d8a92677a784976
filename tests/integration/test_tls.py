"""HTTPS of a real node by OpenSSL's client: the CA that a person is given, names, and the ports that are said."""

import http.client
import re
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from tests.certificates import TestAuthority
from tests.integration.node import Node, running_node, until
from tests.integration.services import HELLO_WAT
from tests.ports import free_port

SERVICE = """
[[service]]
name = "secure"
runtime = "wasm"
module = "hello.wat"
port = 80
domains = ["secure.internal", "*.wild.internal"]
"""


def https_port(node: Node) -> int:
    return int(next(one["port"] for one in own_view(node)["ingress"] if one["scheme"] == "https"))


def own_view(node: Node) -> Any:
    views = node.get("/v1/status").json()["nodes"]
    return next(view for view in views if view.get("ingress"))


@pytest.fixture(scope="module")
def secure() -> Iterator[Node]:
    """A node that serves HTTPS at a port of its own, with a service behind it."""
    with running_node("--https", str(free_port()), needs_docker=False) as node:
        node.file("hello.wat", HELLO_WAT)
        node.cli("deploy", node.file("service.toml", SERVICE)).good()
        yield node


def trusting(node: Node) -> ssl.SSLContext:
    """What somebody has who was given the CA of the ingress, and no other."""
    shown = until(lambda: node.cli("ca", "show", "--ingress").out, "the ingress has its CA")
    return ssl.create_default_context(cadata=shown)


def get(port: int, context: ssl.SSLContext, name: str) -> bytes:
    """One request to `name` at a port of this computer, on a connection of its own."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as bare,
        context.wrap_socket(bare, server_hostname=name) as tls,
    ):
        tls.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        answer = http.client.HTTPResponse(tls)
        answer.begin()
        assert answer.status == 200, answer.read()
        return answer.read()


def is_shown(node: Node, context: ssl.SSLContext, name: str) -> bool:
    try:
        return get(https_port(node), context, name) == b"module\n"
    except ssl.SSLError:
        return False


@pytest.mark.parametrize("name", ["secure.internal", "any.wild.internal"])
def test_a_deployed_domain_is_served_in_tls_to_whoever_trusts_the_ca_of_the_ingress(secure: Node, name: str) -> None:
    context = trusting(secure)
    until(lambda: is_shown(secure, context, name), "its certificate is there")


def test_the_cas_of_nodes_and_of_names_are_not_the_same(secure: Node) -> None:
    of_nodes = secure.get("/v1/ca").json()["authorities"][0]["certificate"]
    with pytest.raises(ssl.SSLCertVerificationError):
        get(https_port(secure), ssl.create_default_context(cadata=of_nodes), "secure.internal")


def test_a_name_that_nobody_serves_is_refused_and_an_address_is_the_nodes_own(secure: Node) -> None:
    context = trusting(secure)
    until(lambda: is_shown(secure, context, "secure.internal"), "certificates are there")
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        get(https_port(secure), context, "bank.example")
    with (
        socket.create_connection(("127.0.0.1", https_port(secure)), timeout=30) as bare,
        context.wrap_socket(bare, server_hostname="127.0.0.1") as tls,
    ):
        shown = tls.getpeercert()
    assert shown is not None
    assert ("DNS", "localhost") in shown["subjectAltName"]


def test_a_domain_that_is_deployed_later_is_served_and_one_that_is_removed_no_more(secure: Node) -> None:
    context = trusting(secure)
    later = SERVICE.replace('"secure"', '"later"').replace("secure.internal", "later.internal")
    text = re.sub(r", .\*\.wild.internal.", "", later)
    secure.cli("deploy", secure.file("later.toml", text)).good()
    until(lambda: is_shown(secure, context, "later.internal"), "the later domain has a certificate")
    secure.cli("rm", "later", "--yes").good()
    until(lambda: not is_shown(secure, context, "later.internal"), "the removed domain is refused")
    assert is_shown(secure, context, "secure.internal")


def test_the_ca_is_replaced_at_once(secure: Node) -> None:
    before = trusting(secure)
    shown = secure.cli("ca", "rotate", "--ingress").good().out
    after = ssl.create_default_context(cadata=shown)
    until(lambda: is_shown(secure, after, "secure.internal"), "certificates of the new CA are shown")
    assert not is_shown(secure, before, "secure.internal")
    assert secure.cli("ca", "show", "--ingress").good().out == shown


def test_certificates_come_back_after_a_restart(secure: Node) -> None:
    context = trusting(secure)
    secure.stop()
    secure.start()
    until(lambda: is_shown(secure, context, "secure.internal"), "it serves again, by the same CA")


BROUGHT = """
[[service]]
name = "brought"
runtime = "wasm"
module = "hello.wat"
port = 80
domain = "brought.example"
[service.ingress]
tls = {{ certificate = "{certificate}", key = "{key}" }}
"""


def test_a_certificate_of_ones_own_comes_from_files_and_is_exchanged_as_secrets(secure: Node) -> None:
    theirs, later = TestAuthority("theirs"), TestAuthority("theirs later")
    certificate, key = theirs.certify("brought.example")
    secure.file("own.crt", certificate)
    secure.file("own.key", key)
    file = secure.file("brought.toml", BROUGHT.format(certificate="own.crt", key="own.key"))
    secure.cli("deploy", file).good()
    until(lambda: is_shown(secure, theirs.client_context(), "brought.example"), "their certificate is shown")
    assert b"PRIVATE KEY" not in secure.get("/v1/services/default/brought").body
    copies = secure.service("default/brought")["allocations"]
    newer, its_key = later.certify("brought.example")
    secure.cli("secrets", "set", "brought-tls-certificate", stdin=newer).good()
    until(lambda: "certificate.refused" in secure.cli("events", "--json").out, "a half that does not fit is an event")
    assert is_shown(secure, theirs.client_context(), "brought.example"), "what was there is shown on"
    secure.cli("secrets", "set", "brought-tls-key", stdin=its_key).good()
    until(lambda: is_shown(secure, later.client_context(), "brought.example"), "the next certificate is shown")
    after = secure.service("default/brought")["allocations"]
    assert [one["id"] for one in after] == [one["id"] for one in copies], "no copy was replaced for it"


def test_a_certificate_that_could_not_be_shown_is_refused_before_anything_changes(secure: Node) -> None:
    certificate, key = TestAuthority().certify("other.example")
    secure.file("wrong.crt", certificate)
    secure.file("wrong.key", key)
    text = BROUGHT.format(certificate="wrong.crt", key="wrong.key").replace('"brought', '"wrong')
    refused = secure.cli("deploy", secure.file("wrong.toml", text))
    assert refused.code != 0
    assert "wrong: the certificate is for other.example and not for wrong.example" in refused.err
    assert secure.get("/v1/services/default/wrong").status == 404
    assert "wrong-tls-key" not in secure.cli("secrets", "ls").good().out


def test_handshakes_are_counted(secure: Node) -> None:
    context = trusting(secure)
    until(lambda: is_shown(secure, context, "secure.internal"), "certificates are there")
    assert not is_shown(secure, context, "bank.example")
    text = secure.get("/metrics").text
    assert re.search(r"^orca_proxy_tls_handshakes_total [1-9]", text, re.MULTILINE)
    assert re.search(r"^orca_proxy_tls_handshakes_failed_total [1-9]", text, re.MULTILINE)


def test_a_port_that_was_asked_for_and_is_taken_is_an_error_and_tls_may_be_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, running_node(needs_docker=False, start=False) as node:
        port = taken.getsockname()[1]
        done = node.cli("up", "--data-dir", str(node.data), "--http", f"127.0.0.1:{node.ingress}", "--https", str(port))
        assert done.code != 0
        assert f"port {port}" in done.err
        node.config = "[proxy]\ntls = false\n"
        node.start()
        assert [one["scheme"] for one in own_view(node)["ingress"]] == ["http"]
