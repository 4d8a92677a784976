"""The `singleton` key: what it says, and what does not go with it."""

import pytest

from orca.errors import InvalidSpecError
from orca.model.spec import FileSpec, SingletonSpec, UpdateOrder
from tests.orca.specs.test_placement import HEAD, load_one


def test_true_is_a_lease_of_fifteen_seconds_and_updates_stop_the_old_copy_first() -> None:
    spec = load_one(HEAD + "singleton = true")
    assert spec.singleton == SingletonSpec(lease_s=15.0)
    assert spec.deploy.order is UpdateOrder.STOP_FIRST
    assert load_one(HEAD + 'singleton = { lease = "1m" }').singleton == SingletonSpec(lease_s=60.0)


def test_false_is_as_if_it_were_not_there() -> None:
    assert load_one(HEAD + "singleton = false") == load_one(HEAD)


def test_the_fence_is_had_as_a_file() -> None:
    spec = load_one(HEAD + 'singleton = true\nfiles = { "/run/fence" = { fence = true } }')
    assert spec.files == (FileSpec(target="/run/fence", is_fence=True),)


@pytest.mark.parametrize(
    ("line", "key", "said"),
    [
        ("singleton = true\nreplicas = 3", "replicas", "one copy at most, and 3 are wanted: 1, or 0"),
        ('singleton = true\nmode = "global"', "singleton", 'mode = "replicated"'),
        ('singleton = true\nrestart = "never"', "singleton", "it is a job"),
        ('singleton = { lease = "1s" }', "singleton", "5 to 3600 s"),
        ('singleton = true\ndeploy = { strategy = "canary" }', "deploy", "two copies at once"),
        ('singleton = true\ndeploy = { order = "start-first" }', "deploy", "stop-first"),
        ("singleton = 3", "singleton", "true or false"),
        ('files = { "/run/fence" = { fence = true } }', "files", "only a singleton has a fence: singleton = true"),
    ],
)
def test_what_does_not_go_with_one_copy_is_refused_with_what_would(line: str, key: str, said: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        load_one(HEAD + line)
    problem = caught.value.problems[0]
    assert problem.key.removeprefix("service[0].").startswith(key), problem
    assert said in f"{problem.message}: {problem.allowed}"
