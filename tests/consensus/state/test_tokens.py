"""Tokens are kept as hashes, end, and are revoked; webhooks too."""

from typing import Any

import pytest

from consensus.state.applying.tokens import EXPIRED_KEPT_MS, TOKENS_MAX, api_token_problem, join_token_problem
from consensus.state.cluster import ClusterState
from consensus.state.commands import (
    CreateApiToken,
    CreateJoinToken,
    CreateWebhook,
    RedeemJoinToken,
    RemoveWebhook,
    RevokeApiToken,
    RevokeJoinToken,
)
from orca.model.ids import ProjectName, ServiceId, TokenId, WebhookId
from orca.model.trust import ApiRole
from orca.model.units import WallMs
from tests.consensus.intent import Cluster, make_spec
from tests.consensus.state.asking import HOUR_MS, digest, done, make_join_token, redemption, refused

TOKEN = TokenId("t1")


def make_api_token(cluster: Cluster, **fields: Any) -> None:
    plain = {"token": TOKEN, "name": "ci", "secret_hash": digest("s"), "role": ApiRole.DEPLOYER}
    done(cluster, CreateApiToken, **{**plain, **fields})


def test_a_revoked_join_token_lets_nobody_in() -> None:
    cluster = Cluster()
    make_join_token(cluster)
    done(cluster, RevokeJoinToken, token=TOKEN)
    refused(cluster, "forbidden", RedeemJoinToken, **redemption())
    refused(cluster, "not_found", RevokeJoinToken, token=TOKEN)


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"token": TOKEN}, "conflict"),
        ({"token": TokenId("")}, "invalid_request"),
        ({"uses": 0}, "invalid_request"),
        ({"uses": 1_001}, "invalid_request"),
        ({"secret_hash": b"the secret itself"}, "invalid_request"),
        ({"expires_at_ms": WallMs(1_000_000)}, "invalid_request"),
        ({"expires_at_ms": WallMs(2**60)}, "invalid_request"),
        ({"note": "x" * 1_001}, "invalid_request"),
    ],
)
def test_a_join_token_that_cannot_be_is_refused(wrong: dict[str, Any], code: str) -> None:
    cluster = Cluster()
    make_join_token(cluster)
    plain = {"token": TokenId("t2"), "secret_hash": digest("s"), "expires_at_ms": WallMs(9_000_000)}
    refused(cluster, code, CreateJoinToken, **{**plain, **wrong})


def test_expired_join_tokens_are_named_for_a_while_and_then_forgotten() -> None:
    cluster = Cluster()
    make_join_token(cluster)
    cluster.at_ms += HOUR_MS + 1000
    assert "expired 1 s ago" in refused(cluster, "forbidden", RedeemJoinToken, **redemption())
    cluster.at_ms += EXPIRED_KEPT_MS
    make_join_token(cluster, "t2")
    assert list(cluster.state.join_tokens) == ["t2"]


def test_there_is_an_end_to_how_many_tokens_are_kept() -> None:
    cluster = Cluster()
    for number in range(TOKENS_MAX):
        make_api_token(cluster, token=TokenId(f"t{number}"), name=f"ci{number}")
    fields = {"token": TokenId("more"), "name": "more", "secret_hash": digest("s"), "role": ApiRole.VIEWER}
    assert "revoke some" in refused(cluster, "conflict", CreateApiToken, **fields)


def test_an_api_token_is_good_until_it_ends_or_is_revoked() -> None:
    cluster = Cluster()
    make_api_token(cluster, projects=(ProjectName("b"), ProjectName("a")), expires_at_ms=WallMs(cluster.at_ms + 1000))
    assert cluster.state.api_tokens[TOKEN].projects == ("a", "b")
    good, bad = digest("s"), digest("guess")
    at_ms = WallMs(cluster.at_ms)
    assert api_token_problem(cluster.state, TOKEN, good, at_ms) == ""
    assert "not valid" in api_token_problem(cluster.state, TOKEN, bad, at_ms)
    assert "expired" in api_token_problem(cluster.state, TOKEN, good, WallMs(at_ms + 1000))
    done(cluster, RevokeApiToken, token=TOKEN)
    assert "not valid" in api_token_problem(cluster.state, TOKEN, good, at_ms)
    refused(cluster, "not_found", RevokeApiToken, token=TOKEN)


def test_who_guesses_does_not_learn_which_tokens_there_are() -> None:
    cluster = Cluster()
    make_join_token(cluster)
    wrong = join_token_problem(cluster.state, TOKEN, digest("guess"), WallMs(0))
    assert wrong == join_token_problem(ClusterState(), TOKEN, digest("s"), WallMs(0))


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"name": "ci"}, "conflict"),
        ({"token": TOKEN}, "conflict"),
        ({"secret_hash": b""}, "invalid_request"),
        ({"role": ApiRole.ADMIN, "projects": (ProjectName("a"),)}, "invalid_request"),
        ({"projects": tuple(ProjectName(str(one)) for one in range(101))}, "invalid_request"),
        ({"expires_at_ms": WallMs(-1)}, "invalid_request"),
    ],
)
def test_an_api_token_that_cannot_be_is_refused(wrong: dict[str, Any], code: str) -> None:
    cluster = Cluster()
    make_api_token(cluster)
    plain = {"token": TokenId("t2"), "name": "other", "secret_hash": digest("s"), "role": ApiRole.VIEWER}
    refused(cluster, code, CreateApiToken, **{**plain, **wrong})


def test_a_webhook_lives_as_long_as_its_service() -> None:
    cluster = Cluster()
    hook = {"webhook": WebhookId("h1"), "service": ServiceId("default/web"), "secret_hash": digest("s")}
    refused(cluster, "not_found", CreateWebhook, **hook)
    cluster.put(make_spec())
    done(cluster, CreateWebhook, **hook, branch="main")
    refused(cluster, "conflict", CreateWebhook, **hook)
    refused(cluster, "invalid_request", CreateWebhook, **{**hook, "webhook": WebhookId("h2"), "secret_hash": b"clear"})
    done(cluster, RemoveWebhook, webhook=WebhookId("h1"))
    refused(cluster, "not_found", RemoveWebhook, webhook=WebhookId("h1"))
    done(cluster, CreateWebhook, **hook)
    cluster.remove("default/web")
    assert not cluster.state.webhooks
