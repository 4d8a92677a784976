"""What people mean by a name."""

import pytest

from orca.commands.names import OneCopy, WholeService, parse_scale, resolve_copy, resolve_service, resolve_target
from orca.errors import AmbiguousNameError, InvalidRequestError, NotFoundError
from orca.model.allocation import DesiredStatus, Phase
from tests.orca.commands.views import copy, service

WEB = service("web", copy("web", 0, id="abcdefghijkl"), copy("web", 1, ready=True, id="abxyzxyzxyz2"))
SHOP_API = service("shop/api", copy("shop/api", 0, ready=True, id="cccccccccccc"))
BLOG_API = service("blog/api")
ALL = (WEB, SHOP_API, BLOG_API)


def test_a_plain_name_finds_the_only_service_of_that_name() -> None:
    assert resolve_service("web", ALL) is WEB
    assert resolve_service("api", (WEB, SHOP_API)) is SHOP_API


def test_a_name_with_its_project_is_exact() -> None:
    assert resolve_service("shop/api", ALL) is SHOP_API
    with pytest.raises(NotFoundError):
        resolve_service("shop/web", ALL)


def test_a_plain_name_prefers_the_default_project_as_tables_write_it() -> None:
    shop_web = service("shop/web")
    assert resolve_service("web", (shop_web, WEB)) is WEB


def test_a_name_of_two_projects_is_refused_with_both() -> None:
    with pytest.raises(AmbiguousNameError) as caught:
        resolve_service("api", ALL)
    assert "blog/api, shop/api" in caught.value.message


def test_an_unknown_name_is_answered_with_similar_ones() -> None:
    with pytest.raises(NotFoundError) as caught:
        resolve_service("wbe", ALL)
    assert caught.value.hint == "did you mean web?"
    with pytest.raises(NotFoundError) as caught:
        resolve_service("zzzzz", ())
    assert "orca deploy" in caught.value.hint


def test_slots_count_from_one() -> None:
    target = resolve_target("web.2", ALL)
    assert isinstance(target, OneCopy)
    assert target.copy.slot == 1
    with pytest.raises(NotFoundError, match="slot 3"):
        resolve_target("web.3", ALL)


def test_a_slot_means_the_copy_that_is_meant_to_run_there() -> None:
    old = copy("web", 0, 1, ready=True, desired=DesiredStatus.STOPPED, id="oldoldoldold")
    new = copy("web", 0, 2, id="newnewnewnew")
    target = resolve_target("web.1", (service("web", old, new, revision=2),))
    assert isinstance(target, OneCopy)
    assert target.copy is new


def test_the_unique_start_of_an_id_is_enough() -> None:
    target = resolve_target("abc", ALL)
    assert isinstance(target, OneCopy)
    assert target.copy.id == "abcdefghijkl"
    with pytest.raises(AmbiguousNameError, match=r"web\.1.*web\.2"):
        resolve_target("ab", ALL)


def test_a_service_is_preferred_to_an_id_that_begins_like_it() -> None:
    named = service("abc")
    assert resolve_target("abc", (*ALL, named)) == WholeService(service=named)


def test_work_inside_a_service_goes_to_its_first_ready_copy() -> None:
    assert resolve_copy("web", ALL).slot == 1
    with pytest.raises(NotFoundError, match="no copy that runs"):
        resolve_copy("blog/api", ALL)


@pytest.mark.parametrize("text", ["web", "web=", "=3", "web=-1", "web=1.5", "web=x", "web=1234567"])
def test_a_scale_that_cannot_be_read_says_how_to_write_it(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="SERVICE=COPIES"):
        parse_scale(text)


def test_a_scale_is_a_name_and_a_number() -> None:
    assert parse_scale("shop/web=0") == ("shop/web", 0)


def test_a_copy_that_ended_can_still_be_named_by_its_slot() -> None:
    ended = copy("web", 0, phase=Phase.FAILED, desired=DesiredStatus.STOPPED)
    target = resolve_target("web.1", (service("web", ended),))
    assert isinstance(target, OneCopy)
    assert target.copy is ended
