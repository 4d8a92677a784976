"""A node that joined by the token of a worker, as a process: it runs copies and decides nothing."""

from pathlib import Path

import pytest

from tests.cluster.cluster import SETTLE_S, Peer, running_cluster
from tests.cluster.test_join import join, known_nodes, newcomer
from tests.integration.node import until

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
