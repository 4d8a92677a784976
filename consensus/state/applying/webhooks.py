"""Webhooks: calls from outside that deploy a service."""

from typing import Final, assert_never

from consensus.state.applying.results import NOTHING, Done, Refusal, check_hash, check_room, check_text, touch
from consensus.state.cluster import ClusterState
from consensus.state.commands import CreateWebhook, RemoveWebhook, WebhookCommand
from consensus.state.records import WebhookRecord
from orca.model.ids import StateRevision, display_name

WEBHOOKS_MAX: Final = 1_000


def apply_webhook(state: ClusterState, at: StateRevision, command: WebhookCommand) -> Done:
    """Carry out a command about webhooks."""
    match command:
        case CreateWebhook():
            _create(state, command)
        case RemoveWebhook():
            if state.webhooks.pop(command.webhook, None) is None:
                raise Refusal("not_found", f"there is no webhook {command.webhook}")
        case _:
            assert_never(command)
    touch(state, at)
    return NOTHING


def _create(state: ClusterState, command: CreateWebhook) -> None:
    check_text("the webhook's id", command.webhook)
    check_text("the branch", command.branch, may_be_empty=True)
    check_hash(f"webhook {command.webhook}", command.secret_hash)
    if command.service not in state.services:
        raise Refusal("not_found", f"there is no service {display_name(command.service)}")
    if command.webhook in state.webhooks:
        raise Refusal("conflict", f"there is a webhook {command.webhook} already")
    check_room("webhooks", len(state.webhooks), WEBHOOKS_MAX, "remove some")
    state.webhooks[command.webhook] = WebhookRecord(
        id=command.webhook,
        service=command.service,
        secret_hash=command.secret_hash,
        created_at_ms=command.at_ms,
        created_by=command.actor,
        branch=command.branch,
    )
