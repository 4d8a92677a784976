"""Certificates that people bring, as a node shows them: read when they change, replaced by the CA's where they fail."""

from datetime import timedelta
from typing import Any

import pytest

from consensus.state.commands import PutSecrets, SealedEntry
from node.sources import SystemClock
from node.trust.authority import DAY_MS
from orca.errors import NotAvailableError
from orca.model.event import EventKind, Severity
from orca.model.ids import SecretId
from orca.model.ingress import IngressSpec, TlsSpec
from orca.model.spec import RouteSpec
from tests.certificates import TestAuthority
from tests.consensus.intent import make_spec
from tests.consensus.state.asking import done
from tests.node.certificates.test_keeper import Shown

AUTHORITY = TestAuthority()
TLS = IngressSpec(tls=TlsSpec(certificate="crt", key="key"))
CRT, KEY = SecretId("default/crt"), SecretId("default/key")


def world() -> Shown:
    """A member whose clock is the real one's, as the certificates of the tests are made by that."""
    shown = Shown()
    shown.member.clock.wall_ms = SystemClock().wall()
    return shown


def bring(shown: Shown, pair: tuple[bytes, bytes], *secrets: SecretId) -> None:
    """Set the secrets to a certificate and its key, or only those of `secrets`."""
    for secret, value in ((CRT, pair[0]), (KEY, pair[1])):
        if not secrets or secret in secrets:
            shown.secrets[secret] = value
            entry = SealedEntry(secret=secret, key_version=1, ciphertext=bytes(40))
            done(shown.member.state_machine, PutSecrets, entries=(entry,))


def serve(shown: Shown, *domains: str, ingress: IngressSpec = TLS) -> None:
    routes = tuple(RouteSpec(domain=domain) for domain in domains)
    outcome = shown.member.state_machine.put(make_spec("web", routes=routes, ingress=ingress))
    assert not outcome.error, outcome.message


def is_brought(shown: Shown, name: str) -> bool:
    leaf = shown.leaf(name)
    assert leaf is not None
    return leaf.issuer == AUTHORITY.name


async def test_a_brought_certificate_is_shown_for_its_service_and_for_no_other() -> None:
    shown = world()
    bring(shown, AUTHORITY.certify("*.example"))
    serve(shown, "a.example")
    shown.serve("other", "b.example")
    await shown.keeper.look()
    assert is_brought(shown, "a.example")
    assert not is_brought(shown, "b.example"), "it would fit, and is not meant"
    serve(shown, "a.example", ingress=IngressSpec())
    await shown.keeper.look()
    assert not is_brought(shown, "a.example")
    assert shown.told == []


async def test_a_changed_secret_is_shown_at_the_next_look_and_halves_that_do_not_fit_change_nothing() -> None:
    shown = world()
    bring(shown, AUTHORITY.certify("a.example"))
    serve(shown, "a.example")
    await shown.keeper.look()
    before = shown.serial("a.example")
    newer = AUTHORITY.certify("a.example")
    bring(shown, newer, CRT)
    await shown.keeper.look()
    assert shown.serial("a.example") == before
    ((kind, message, severity),) = shown.told
    assert (kind, severity) == (EventKind.CERTIFICATE_REFUSED, Severity.ERROR)
    assert "web: its own certificate cannot be shown: the certificate for a.example is not for this key" in message
    assert message.endswith("the one before it is shown on")
    await shown.keeper.look()
    assert len(shown.told) == 1, "it is told once"
    bring(shown, newer, KEY)
    await shown.keeper.look()
    assert shown.serial("a.example") != before
    assert is_brought(shown, "a.example")


async def test_what_never_could_be_shown_leaves_the_domain_to_the_ca() -> None:
    shown = world()
    bring(shown, AUTHORITY.certify("b.example"))
    serve(shown, "a.example")
    await shown.keeper.look()
    assert not is_brought(shown, "a.example")
    assert "is for b.example and not for a.example; the cluster's own CA stands in" in shown.told[0][1]


async def test_a_certificate_that_does_not_cover_all_domains_is_not_shown_for_some() -> None:
    shown = world()
    bring(shown, AUTHORITY.certify("a.example"))
    serve(shown, "a.example")
    await shown.keeper.look()
    serve(shown, "a.example", "b.example")
    await shown.keeper.look()
    assert not is_brought(shown, "a.example")
    assert not is_brought(shown, "b.example")
    assert "and not for b.example" in shown.told[0][1]


async def test_an_end_that_is_near_is_told_twice_and_after_it_the_ca_stands_in() -> None:
    shown = world()
    bring(shown, AUTHORITY.certify("a.example", ends=timedelta(days=30)))
    serve(shown, "a.example")
    began = shown.member.clock.wall_ms
    heard: dict[int, list[str]] = {}
    for day in (0, 15, 17, 18, 26, 28, 29, 31, 32):
        shown.pass_until(began + day * DAY_MS)
        shown.told.clear()
        await shown.keeper.look()
        heard[day] = [kind.value for kind, _, _ in shown.told]
    assert [day for day, kinds in heard.items() if kinds == ["certificate.expires"]] == [17, 28]
    assert [day for day, kinds in heard.items() if kinds == ["certificate.refused"]] == [31]
    assert not is_brought(shown, "a.example")


async def test_a_secret_that_cannot_be_had_is_asked_for_again_and_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = world()
    bring(shown, AUTHORITY.certify("a.example"))
    serve(shown, "a.example")
    shown.serve("other", "b.example")

    async def refuse(*_: Any) -> tuple[bytes, ...]:
        raise NotAvailableError("no member is known to live")

    with monkeypatch.context() as patched:
        patched.setattr(shown.brought, "_read", refuse)
        assert await shown.keeper.look() <= 1
    assert shown.leaf("b.example") is not None
    assert not is_brought(shown, "a.example"), "until then the CA's is better than none"
    shown.pass_until(shown.member.clock.wall_ms + 1000)
    await shown.keeper.look()
    assert is_brought(shown, "a.example")
    assert shown.told == []


async def test_what_goes_with_its_service_is_forgotten() -> None:
    shown = world()
    bring(shown, AUTHORITY.certify("a.example"))
    serve(shown, "a.example")
    await shown.keeper.look()
    shown.member.state_machine.remove("default/web")
    await shown.keeper.look()
    assert shown.leaf("a.example") is None
