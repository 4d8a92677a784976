"""Every node of a real cluster gives the same answers, also about copies of others, and while one of them is dead."""

import json
import os
import signal
from typing import Any

import pytest

from tests.cluster.cluster import SETTLE_S, Cluster, Peer, running_cluster
from tests.integration.node import ROOT, fetch, until

pytestmark = pytest.mark.integration
HELLO = str(ROOT / "orca" / "examples" / "hello")


def spread_out(cluster: Cluster) -> dict[str, Peer]:
    """Deploy a service with a copy on each node; the node of each copy."""
    first = cluster.nodes[0]
    first.cli("deploy", HELLO).good()
    first.cli("scale", "hello=3").good()
    copies = first.wait_ready("default/hello", 3)
    placed = {one["id"]: cluster.by_id(one["node"]) for one in copies}
    assert len({node.name for node in placed.values()}) == 3, "a copy on each node"
    return placed


def figures(node: Peer) -> dict[str, str]:
    """Each copy and its problem, as `orca stats` has it."""
    return {one["allocation"]: one.get("problem", "") for one in node.cli("stats", "--json").good().json()["stats"]}


def lines(node: Peer, *options: str) -> list[Any]:
    return [json.loads(line) for line in node.cli("logs", "hello", "--json", *options).good().out.splitlines()]


def messages(node: Peer) -> list[str]:
    found: list[Any] = node.cli("events", "-n", "1000", "--json").good().json()["events"]
    return sorted(one["message"] for one in found)


def test_every_node_answers_for_the_copies_of_all_and_names_the_one_that_is_dead() -> None:
    with running_cluster(3) as cluster:
        cluster.wait_settled()
        placed = spread_out(cluster)
        for node in cluster.nodes:
            assert set(figures(node)) == set(placed)
            assert not any(figures(node).values())
        until(lambda: len({tuple(messages(node)) for node in cluster.nodes}) == 1, "one history")
        told = [one for one in messages(cluster.nodes[0]) if one.startswith("hello was deployed by")]
        assert len(told) == 1, "what all decided is told once"

        leader = cluster.wait_leader()
        dead = next(node for node in cluster.nodes if node is not leader)
        (lost,) = [copy for copy, node in placed.items() if node is dead]
        os.kill(dead.pid, signal.SIGKILL)
        assert dead.process is not None
        dead.process.wait(10)
        for node in cluster.living:
            problems = figures(node)
            assert f"{dead.name} ({dead.id}) does not answer" in problems[lost]
            assert not any(problem for copy, problem in problems.items() if copy != lost)
            silent = [one for one in lines(node) if one["stream"] == "orca"]
            assert [one["allocation"] for one in silent] == [lost], "the only line there is: hello writes nothing"
            assert "was last heard of" in silent[0]["text"]
            reply = node.cli("events", "-n", "5", "--json").good().json()
            assert [one["name"] for one in reply["silent"]] == [dead.name]

        def is_marked() -> bool:
            views = [one for node in cluster.living for one in node.copies("default/hello") if one["id"] == lost]
            return all(one["silent_ms"] > 0 for one in views if one["silent_ms"] is not None) and all(
                one["silent_ms"] is not None for one in views
            )

        until(is_marked, "what is shown of its copy is shown as old", SETTLE_S)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_a_token_made_on_one_node_is_good_on_all_and_what_it_does_is_in_the_audit_of_all() -> None:
    with running_cluster(3) as cluster:
        cluster.wait_settled()
        first, second, third = cluster.nodes
        socket = f"unix:{first.data / 'api.sock'}"
        made = (
            first.cli(
                "token", "create", "--api", "ci", "--role", "deployer", "--project", "shop", "--json", "--node", socket
            )
            .good()
            .json()
        )
        token = made["token"]

        def is_known(node: Peer) -> bool:
            return node.get("/v1/services", headers=bearer(token)).status == 200

        for node in cluster.nodes:
            until(lambda node=node: is_known(node), f"{node.name} knows the token")  # type: ignore[misc]
        body = b'[[service]]\nname = "web"\nimage = "web:1"\nreplicas = 0\n'
        headers = {"content-type": "application/toml", **bearer(token)}
        assert fetch(third.api, "POST", "/v1/deploys?project=shop", body=body, headers=headers).status == 202
        assert fetch(second.api, "POST", "/v1/deploys?project=bank", body=body, headers=headers).status == 403
        wrong = bearer("orca-api-nope-" + "a" * 52)
        assert fetch(second.api, "DELETE", "/v1/services/shop/web", headers=wrong).status == 401

        def audit() -> dict[tuple[str, str, str], str]:
            records = first.cli("audit", "-n", "100", "--json").good().json()["records"]
            return {(one["actor"], one["action"], one["result"]): one["origin"] for one in records}

        wanted = {
            ("token:ci", "put_services", "ok"),
            ("token:ci", "put_services", "forbidden"),
            ("", "remove_service", "unauthorized"),
        }
        until(lambda: wanted <= set(audit()), "the audit has what was done and what was refused")
        assert audit()["token:ci", "put_services", "ok"].startswith("tcp:127.0.0.1:")
        assert audit()[f"unix:{os.getuid()}", "create_api_token", "ok"] == "local"
        first.cli("token", "revoke", "ci").good()
        for node in cluster.nodes:
            until(
                lambda node=node: node.get("/v1/services", headers=bearer(token)).status == 401,  # type: ignore[misc]
                f"{node.name} lets nobody in by it",
            )
