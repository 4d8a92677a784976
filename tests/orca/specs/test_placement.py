"""Where copies go: what a file may say of it, and what it may not."""

import pytest

from orca.errors import InvalidSpecError
from orca.model.spec import (
    DisconnectSpec,
    PlacementSpec,
    PlacementStrategy,
    Preference,
    ServiceMode,
    ServiceSpec,
)
from orca.specs.load import load_text

HEAD = '[[service]]\nname = "web"\nimage = "web:1"\n'


def load_one(text: str) -> ServiceSpec:
    def read_file(path: str) -> bytes:
        raise FileNotFoundError(path)

    (spec,) = load_text(text, filename="service.toml", read_file=read_file, directory="/srv").specs
    return spec


def test_the_whole_placement_table_is_read() -> None:
    spec = load_one(
        HEAD
        + """mode = "global"
priority = 80
disconnect = { replace_after = "1m" }
[service.placement]
constraints = ["zone in (a, b)", "cores >= 4"]
prefer = ["disk == ssd", { match = "arch == arm64", weight = -20 }]
strategy = "bin-pack"
beside = ["db"]
apart_from = "cache"
copies_per_node_max = 2
"""
    )
    assert (spec.mode, spec.priority) == (ServiceMode.GLOBAL, 80)
    assert spec.disconnect == DisconnectSpec(replace_after_s=60.0)
    assert spec.placement == PlacementSpec(
        constraints=("zone in (a, b)", "cores >= 4"),
        prefer=(Preference(match="disk == ssd"), Preference(match="arch == arm64", weight=-20)),
        strategy=PlacementStrategy.BIN_PACK,
        beside=("db",),  # type: ignore[arg-type] # a name
        apart_from=("cache",),  # type: ignore[arg-type] # a name
        copies_per_node_max=2,
    )
    assert load_one(HEAD + "disconnect = { keep = true }").disconnect.replace_after_s is None
    both = load_one(HEAD + 'disconnect = { keep = true, stop_after = "1m" }').disconnect
    assert both == DisconnectSpec(replace_after_s=None, stop_after_s=60.0)


@pytest.mark.parametrize(
    ("line", "key", "said"),
    [
        ('placement = { constraints = ["disk = ssd"] }', "placement", "it is no expression about a node"),
        ('placement = { constraints = ["cores > x"] }', "placement", "is no number and no version"),
        ('placement = { prefer = { match = "gpu", weight = 0 } }', "placement", "the weight 0 is out of range"),
        ('placement = { apart_from = ["web"] }', "placement", "copies_per_node_max = 1"),
        ('placement = { beside = ["a"], apart_from = ["a"] }', "placement", "in beside and in apart_from"),
        ("placement = { copies_per_node_max = 0 }", "placement", "out of range"),
        ('placement = { strategy = "pack" }', "placement", "bin-pack"),
        ('mode = "everywhere"', "mode", "global"),
        ("priority = 101", "priority", "0 to 100"),
        ('disconnect = { keep = true, replace_after = "1s" }', "disconnect", "not both"),
        ('disconnect = { replace_after = "9d" }', "disconnect", "out of range"),
        ('disconnect = { stop_after = "1s" }', "disconnect", "5 to "),
        ('disconnect = { stop_after = "1m" }\nrestart = "never"', "disconnect", "no stop_after for a job"),
    ],
)
def test_a_wrong_value_is_refused_with_what_would_be_right(line: str, key: str, said: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        load_one(HEAD + line)
    (problem,) = caught.value.problems
    assert problem.key.startswith(f"service[0].{key}") or problem.key.startswith(key), problem
    assert said in f"{problem.message} {problem.allowed}"
    assert problem.line == 4
