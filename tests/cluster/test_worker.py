"""A node that joined by the token of a worker, as a process: it runs copies and decides nothing."""

import ssl
from pathlib import Path

import pytest

from tests.certificates import TestAuthority
from tests.cluster.cluster import SETTLE_S, Peer, running_cluster
from tests.cluster.test_join import join, known_nodes, newcomer
from tests.integration.node import until
from tests.integration.test_tls import get
from tests.ports import free_port

pytestmark = pytest.mark.integration
SAY_ENVIRONMENT = """(module
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 16) "content-type: text/plain\\n\\n")
  (func (export "_start")
    (drop (call $sizes (i32.const 0) (i32.const 4)))
    (drop (call $get (i32.const 4096) (i32.const 16384)))
    (i32.store (i32.const 64) (i32.const 16))
    (i32.store (i32.const 68) (i32.const 26))
    (i32.store (i32.const 72) (i32.const 16384))
    (i32.store (i32.const 76) (i32.load (i32.const 4)))
    (drop (call $write (i32.const 1) (i32.const 64) (i32.const 2) (i32.const 80)))))
"""
SERVICE = """[[service]]
name = "told"
runtime = "wasm"
module = "told.wat"
port = 80
path = "/told"
[service.env]
PASSWORD = "${secrets.password}"
[service.placement]
labels = { zone = "worker" }
"""


def test_a_worker_gets_the_secrets_of_its_copies_decides_nothing_and_lets_nobody_in(tmp_path: Path) -> None:
    with running_cluster(1) as cluster:
        (founder,) = cluster.nodes
        (tmp_path / "w1").mkdir()
        worker = Peer(tmp_path / "w1", name="w1", options=("--label", "zone=worker"))
        worker.peers, worker.token = (founder.address,), founder.make_token(role="worker")
        try:
            worker.start()
            until(lambda: "w1" in known_nodes(founder), "the worker is known", SETTLE_S)
            worker.cli("secrets", "set", "password", stdin=b"hunter2").good()
            (tmp_path / "told.wat").write_text(SAY_ENVIRONMENT)
            (tmp_path / "service.toml").write_text(SERVICE)
            founder.cli("deploy", str(tmp_path / "service.toml")).good()
            for node in (worker, founder):
                assert "PASSWORD=hunter2" in node.through_proxy("/told").text, node.name
            assert cluster.voters(worker) == ["n1"]
            refused = join(newcomer(tmp_path), founder.make_token(), worker)
            assert refused.returncode == 7, refused.stderr
            assert "w1 is a worker, which cannot sign certificates" in refused.stderr
            assert founder.address in refused.stderr, "who can is named"
            assert known_nodes(founder) == {"n1", "w1"}
        finally:
            worker.kill()


SERVED = """[[service]]
name = "told"
runtime = "wasm"
module = "told.wat"
port = 80
domain = "{domain}"
{more}
"""


def test_a_worker_serves_https_by_the_clusters_ca_and_by_a_certificate_that_people_brought(tmp_path: Path) -> None:
    with running_cluster(1) as cluster:
        (founder,) = cluster.nodes
        (tmp_path / "w1").mkdir()
        port = free_port()
        worker = Peer(tmp_path / "w1", name="w1", options=("--https", str(port)))
        worker.peers, worker.token = (founder.address,), founder.make_token(role="worker")
        try:
            worker.start()
            (tmp_path / "told.wat").write_text(SAY_ENVIRONMENT)
            (tmp_path / "one.toml").write_text(SERVED.format(domain="one.internal", more=""))
            founder.cli("deploy", str(tmp_path / "one.toml")).good()
            ours = ssl.create_default_context(cadata=founder.cli("ca", "show", "--ingress").good().out)
            until(lambda: serves(port, ours, "one.internal"), "the worker has a certificate", SETTLE_S)
            theirs = TestAuthority()
            certificate, key = theirs.certify("two.example")
            (tmp_path / "web.crt").write_bytes(certificate)
            (tmp_path / "web.key").write_bytes(key)
            more = '[service.ingress]\ntls = { certificate = "web.crt", key = "web.key" }'
            (tmp_path / "two.toml").write_text(SERVED.format(domain="two.example", more=more).replace("told", "two", 1))
            founder.cli("deploy", str(tmp_path / "two.toml")).good()
            until(lambda: serves(port, theirs.client_context(), "two.example"), "the worker has that too", SETTLE_S)
            worker.stop()
            worker.start()
            until(lambda: serves(port, ours, "one.internal"), "it is certified anew after a restart", SETTLE_S)
        finally:
            worker.kill()


def serves(port: int, context: ssl.SSLContext, name: str) -> bool:
    try:
        return bool(get(port, context, name))
    except OSError:
        return False
