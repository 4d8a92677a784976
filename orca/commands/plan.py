"""`orca plan`: what a deploy would change."""

from orca.client import NodeClient
from orca.commands.deploy import DeployInput
from orca.commands.progress import Report, SpecWarning
from orca.errors import InvalidRequestError
from orca.model.view import ChangeAction, DeployRequest, PlanReply


async def plan_services(client: NodeClient, given: DeployInput, report: Report, *, prune: bool = False) -> PlanReply:
    """Ask the node what it would do with `given`; no service is changed and nothing is built.

    Raises InvalidRequestError for nothing to plan, and the node's refusals.
    """
    if not given.specs:
        raise InvalidRequestError("there is no service to plan", hint="a service file has one [[service]] or more")
    for warning in given.warnings:
        report(SpecWarning(text=warning))
    names = dict.fromkeys(given.secrets, b"")  # the values are of no use to a plan, so they stay here
    return await client.plan(DeployRequest(specs=given.specs, prune=prune, secrets=names))


def has_changes(reply: PlanReply) -> bool:
    """Whether a deploy would do anything."""
    return any(plan.action is not ChangeAction.NOTHING for plan in reply.services)
