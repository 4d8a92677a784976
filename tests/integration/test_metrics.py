"""What a scrape of a node tells, read by the parser of Prometheus' own library."""

import http.client

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.node import Node
from tests.integration.services import HELLO_WAT, module

ASKED = 25


@pytest.fixture(scope="module")
def node(wasm_node: Node) -> Node:
    wasm_node.file("hello.wat", HELLO_WAT)
    wasm_node.cli("deploy", wasm_node.file("hello.toml", module("hello", replicas=2))).good()
    for _ in range(ASKED):
        assert wasm_node.through_proxy("/hello").text == "module\n"
    assert wasm_node.through_proxy("/nothing").status == 404
    return wasm_node


def scrape(node: Node) -> dict[str, Metric]:
    reply = node.get("/metrics")
    assert reply.status == 200
    return {family.name: family for family in text_string_to_metric_families(reply.text)}


def value(found: dict[str, Metric], name: str, sample: str = "", **labels: str) -> float:
    (match,) = [
        one.value
        for one in found[name].samples
        if one.name == (sample or name) and {**one.labels, **labels} == one.labels
    ]
    return float(match)


def test_what_the_parts_have_counted_is_there_by_name_and_label(node: Node) -> None:
    found = scrape(node)
    assert value(found, "orca_service_copies_wanted", service="hello") == 2
    assert value(found, "orca_service_copies_ready", service="hello") == 2
    assert value(found, "orca_service_rollout", service="hello", state="completed") == 1
    assert value(found, "orca_service_answers", "orca_service_answers_total", service="hello", code="2xx") == ASKED
    assert value(found, "orca_service_answer_seconds", "orca_service_answer_seconds_count", service="hello") == ASKED
    assert value(found, "orca_service_answer_seconds", "orca_service_answer_seconds_bucket", le="+Inf") == ASKED
    assert value(found, "orca_proxy_responses", "orca_proxy_responses_total", code="4xx") >= 1
    assert value(found, "orca_raft_leader") == 1
    assert value(found, "orca_raft_has_quorum") == 1
    assert value(found, "orca_members", state="alive") == 1
    assert value(found, "process_resident_memory_bytes") > 2**20


def test_names_and_units_follow_the_rules_and_every_family_says_what_it_is(node: Node) -> None:
    for name, family in scrape(node).items():
        assert name.startswith(("orca_", "process_")), name
        assert family.documentation, name
        assert family.type in {"gauge", "counter", "histogram"}, name
        assert not name.endswith(("_ms", "_mb", "_kb", "_total")), name
        assert (family.type == "counter") == any(
            one.name.endswith("_total") for one in family.samples
        ) or not family.samples


def test_what_only_grows_grows(node: Node) -> None:
    before = scrape(node)
    node.through_proxy("/hello")
    after = scrape(node)
    name, total = "orca_proxy_requests", "orca_proxy_requests_total"
    assert value(after, name, total) == value(before, name, total) + 1


def test_the_media_type_is_that_of_the_format(node: Node) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", node.api, timeout=10)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    assert (answer.getheader("content-type") or "").startswith("text/plain; version=")
    answer.read()
    connection.close()
