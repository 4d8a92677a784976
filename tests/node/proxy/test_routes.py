"""The route table: which request goes where."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.proxy.balancer import pick_target
from node.proxy.drain import InFlight
from node.proxy.routes import RoutedService, RouteTable, Target, build_route_table, normalize_host, normalize_prefix
from node.proxy.shares import turns_of
from orca.model.ids import AllocationId, ServiceId, SpecRevision
from orca.model.spec import RouteSpec
from orca.model.units import Instant


def target(name: str, port: int = 80) -> Target:
    return Target(allocation=AllocationId(name), port=port, host="127.0.0.1", host_port=30000 + port)


def service(name: str, *routes: RouteSpec, port: int | None = 80, targets: tuple[Target, ...] = ()) -> RoutedService:
    return RoutedService(service=ServiceId(f"default/{name}"), routes=routes, main_port=port, targets=targets)


def found(table: RouteTable, host: str, path: str) -> str | None:
    route = table.match(host, path)
    return None if route is None else route.service.removeprefix("default/")


TABLE = build_route_table(
    [
        service("any", RouteSpec()),
        service("web", RouteSpec(domain="Example.com.")),
        service("api", RouteSpec(domain="example.com", path="/api/*")),
        service("v2", RouteSpec(domain="example.com", path="/api/v2/")),
        service("six", RouteSpec(domain="::1")),
        service("deep", RouteSpec(domain="deep.example.com", path="/only/here")),
        service("static", RouteSpec(path="/static")),
    ],
    revision=7,
)


@pytest.mark.parametrize(
    ("host", "path", "expected"),
    [
        ("example.com", "/", "web"),
        ("EXAMPLE.com", "/x", "web"),
        ("example.com:8080", "/", "web"),
        ("example.com.", "/", "web"),
        ("example.com.:443", "/", "web"),
        ("example.com", "/api", "api"),
        ("example.com", "/api/", "api"),
        ("example.com", "/api/x", "api"),
        ("example.com", "/apix", "web"),
        ("example.com", "/API", "web"),
        ("example.com", "/api/v2", "v2"),
        ("example.com", "/api/v2/y/z", "v2"),
        ("example.com", "/api/v22", "api"),
        ("example.com", "//api", "web"),
        ("www.example.com", "/", "any"),
        ("[::1]", "/", "six"),
        ("[::1]:8080", "/", "six"),
        ("[0:0:0:0:0:0:0:1]", "/", "six"),
        ("deep.example.com", "/only/here/and/there", "deep"),
        ("deep.example.com", "/only", "any"),
        ("deep.example.com", "/static/x.css", "static"),
        ("example.com", "/static/x.css", "web"),
        ("", "/", "any"),
    ],
)
def test_the_domain_decides_first_and_then_the_longest_prefix(host: str, path: str, expected: str) -> None:
    assert found(TABLE, host, path) == expected


def test_the_table_carries_its_revision_and_an_empty_one_matches_nothing() -> None:
    assert TABLE.revision == 7
    assert build_route_table([]).match("example.com", "/") is None


def test_a_service_without_ready_targets_is_known_but_has_nobody() -> None:
    route = build_route_table([service("web", RouteSpec())]).match("x", "/")
    assert route is not None
    assert route.targets == ()


def test_a_route_takes_only_the_targets_of_its_port() -> None:
    targets = (target("a", 80), target("a", 9000), target("b", 80), target("b", 9000))
    table = build_route_table(
        [service("web", RouteSpec(), RouteSpec(path="/metrics", port=9000), port=80, targets=targets)]
    )
    main, metrics = table.match("x", "/"), table.match("x", "/metrics")
    assert main is not None
    assert metrics is not None
    assert {t.port for t in main.targets} == {80}
    assert {t.port for t in metrics.targets} == {9000}
    assert len(table.targets()) == 4


def test_a_service_without_ports_has_no_targets() -> None:
    route = build_route_table([service("web", RouteSpec(), port=None, targets=(target("a"),))]).match("x", "/")
    assert route is not None
    assert route.targets == ()


def test_two_services_on_one_route_are_decided_by_id_whatever_their_order() -> None:
    rivals = [service("b", RouteSpec(domain="x.org")), service("a", RouteSpec(domain="X.org", path="/*"))]
    assert found(build_route_table(rivals), "x.org", "/") == "a"
    assert found(build_route_table(reversed(rivals)), "x.org", "/") == "a"


@pytest.mark.parametrize(
    ("path", "forwarded"),
    [("/api", "/"), ("/api/x?y=1", "/x?y=1"), ("/api?y=1", "/?y=1"), ("/api/", "/"), ("/api/api", "/api")],
)
def test_strip_path_cuts_the_prefix_and_leaves_a_path(path: str, forwarded: str) -> None:
    route = build_route_table([service("a", RouteSpec(path="/api", strip_path=True))]).match(
        "x", path.partition("?")[0]
    )
    assert route is not None
    assert route.forwarded_target(path) == forwarded


def test_hosts_and_prefixes_have_one_spelling() -> None:
    assert normalize_host(" WWW.Example.COM.:80") == "www.example.com"
    assert normalize_host("2001:DB8::0:1") == "[2001:db8::1]"
    assert [normalize_prefix(p) for p in ("/", "", "/*", "*", "/a/", "a/b/*")] == ["", "", "", "", "/a", "/a/b"]


SEGMENT = st.sampled_from(["a", "b", "ab", "c"])
PATH = st.lists(SEGMENT, max_size=4).map(lambda parts: "/" + "/".join(parts))
DOMAIN = st.none() | st.sampled_from(["a.org", "b.org"])


def by_definition(specs: list[tuple[str | None, str]], host: str, path: str) -> str | None:
    """The rule in words: own domain first, longest prefix on segment borders."""
    for wanted in (host, None):
        fits = [p for d, p in specs if d == wanted and (p in ("/", path) or path.startswith(p + "/"))]
        if fits:
            return f"{wanted}{max(fits, key=len)}"
    return None


@settings(max_examples=300, deadline=None)
@given(
    specs=st.lists(st.tuples(DOMAIN, PATH), max_size=8, unique=True),
    host=st.sampled_from(["a.org", "b.org", "c.org"]),
    path=PATH,
)
def test_the_tree_finds_what_the_rule_says(specs: list[tuple[str | None, str]], host: str, path: str) -> None:
    table = build_route_table([service(f"{d}{p}", RouteSpec(domain=d, path=p)) for d, p in specs])
    assert found(table, host, path) == by_definition(specs, host, path)
    assert len(table.routes()) == len(specs)


def test_the_balancer_prefers_the_less_loaded_of_two() -> None:
    targets = [target("a"), target("b")]
    load = {AllocationId("a"): 5, AllocationId("b"): 1}
    rng = random.Random(1)
    picks = [pick_target(targets, load.__getitem__, rng) for _ in range(50)]
    assert {p.allocation for p in picks if p is not None} == {"b"}


def test_the_balancer_spreads_equal_load_over_all() -> None:
    targets = [target(name) for name in "abcde"]
    rng = random.Random(2)
    counts = dict.fromkeys("abcde", 0)
    for _ in range(5000):
        picked = pick_target(targets, lambda _: 0, rng)
        assert picked is not None
        counts[picked.allocation] += 1
    assert min(counts.values()) > 800, counts


def test_the_balancer_leaves_out_what_was_tried() -> None:
    targets = [target("a"), target("b")]
    rng = random.Random(3)
    only = {pick_target(targets, lambda _: 0, rng, (AllocationId("a"),)) for _ in range(20)}
    assert only == {targets[1]}
    assert pick_target(targets, lambda _: 0, rng, (AllocationId("a"), AllocationId("b"))) is None
    assert pick_target([], lambda _: 0, rng) is None


def test_a_drain_is_over_when_nothing_is_in_flight_or_the_time_is_up() -> None:
    one = AllocationId("a")
    flight = InFlight()
    flight.started(one)
    flight.started(one)
    flight.begin(one, Instant(10.0), 5.0)
    assert flight.is_draining(one)
    assert not flight.is_over(one, Instant(14.9))
    assert flight.is_over(one, Instant(15.0))
    flight.ended(one)
    assert not flight.is_over(one, Instant(11.0))
    flight.ended(one)
    assert flight.is_over(one, Instant(11.0))
    assert flight.finish(one) == 0
    assert not flight.is_draining(one)
    flight.check_invariants()


def test_a_second_drain_may_only_shorten_the_wait_and_the_rest_is_counted() -> None:
    one = AllocationId("a")
    flight = InFlight()
    flight.started(one)
    flight.begin(one, Instant(0.0), 5.0)
    flight.begin(one, Instant(1.0), 60.0)
    assert flight.deadline(one) == 5.0
    flight.begin(one, Instant(1.0), 1.0)
    assert flight.deadline(one) == 2.0
    assert flight.finish(one) == 1
    assert flight.total() == 1


def test_ending_what_never_started_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="never started"):
        InFlight().ended(AllocationId("a"))


@settings(max_examples=60, deadline=None)
@given(weights=st.dictionaries(st.integers(1, 9), st.integers(0, 40), min_size=1, max_size=4), start=st.integers(0, 99))
def test_every_run_of_as_many_requests_as_there_are_weights_is_shared_out_exactly(
    weights: dict[int, int], start: int
) -> None:
    turns = turns_of({SpecRevision(revision): weight for revision, weight in weights.items()})
    run = [turns[(start + number) % len(turns)] for number in range(len(turns))]
    assert {revision: run.count(SpecRevision(revision)) for revision in weights} == weights


def test_turns_of_a_small_share_are_spread_out() -> None:
    turns = turns_of({SpecRevision(1): 90, SpecRevision(2): 10})
    assert all(turns[number : number + 10].count(SpecRevision(2)) == 1 for number in range(0, 100, 10))


def test_only_revisions_with_a_weight_and_a_copy_take_turns() -> None:
    old, new = target("a"), msgspec.structs.replace(target("b"), revision=SpecRevision(2))
    shared = msgspec.structs.replace(
        service("web", RouteSpec(), targets=(old, new)), weights={SpecRevision(2): 100, SpecRevision(3): 5}
    )
    route = build_route_table([shared]).match("x", "/")
    assert route is not None
    assert set(route.turns) == {SpecRevision(2)}
    assert route.of_revision == {SpecRevision(2): (new,)}
    equal = build_route_table([msgspec.structs.replace(shared, weights={})]).match("x", "/")
    assert equal is not None
    assert equal.turns == ()


def test_a_wildcard_domain_takes_what_no_domain_of_its_own_and_no_closer_one_does() -> None:
    table = build_route_table(
        [
            service("exact", RouteSpec(domain="www.a.org")),
            service("near", RouteSpec(domain="*.b.a.org", path="/api")),
            service("far", RouteSpec(domain="*.a.org")),
            service("any", RouteSpec()),
        ]
    )
    assert found(table, "www.a.org", "/") == "exact"
    assert found(table, "x.a.org", "/") == "far"
    assert found(table, "x.b.a.org", "/api/1") == "near"
    assert found(table, "x.b.a.org", "/") == "far"
    assert found(table, "a.org", "/") == "any"
    assert found(table, "*.a.org", "/") == "far"
