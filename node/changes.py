"""From requests of people to commands of the log: the last check before a change.

Pure: times and ids are given. What is refused here changes nothing.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator

from consensus.scheduler.fleet import Fleet
from consensus.scheduler.plan import preview
from consensus.state.apply import is_settled_by
from consensus.state.applying.locks import lock_refusal
from consensus.state.cluster import ClusterState, Outcome, ServiceRecord
from consensus.state.commands import PutServices, RollbackService, SpecEntry
from node.differences import field_changes
from orca.errors import (
    ConflictError,
    InvalidRequestError,
    InvalidSpecError,
    NotFoundError,
    OrcaError,
    Problem,
    error_classes,
)
from orca.model.ids import BlobDigest, RequestId, SecretId, ServiceId, SpecRevision, display_name
from orca.model.secrets import find_secret, ingress_secrets_of, missing_secret, secrets_of, split_secret_id
from orca.model.spec import ServiceSpec, WasmModule, template_of
from orca.model.trust import Author
from orca.model.units import WallMs
from orca.model.view import ChangeAction, DeployRequest, RollbackRequest, RolloutState, ServicePlan
from orca.specs.rules import check_services

TEMPLATE_DIGITS = 16
SERVICES_MAX = 1000


def template_hash(spec: ServiceSpec) -> str:
    """What a running copy of `spec` depends on, in 16 hex digits."""
    return hashlib.sha256(template_of(spec)).hexdigest()[:TEMPLATE_DIGITS]


def existing(state: ClusterState, service: ServiceId) -> ServiceRecord:
    """The record of `service`. Raises NotFoundError naming those that there are."""
    record = state.services.get(service)
    if record is None:
        known = ", ".join(display_name(one) for one in sorted(state.services)[:10]) or "none"
        raise NotFoundError(f"there is no service {display_name(service)}; there are: {known}")
    return record


def check_specs(
    state: ClusterState,
    specs: tuple[ServiceSpec, ...],
    has_blob: Callable[[BlobDigest], bool],
    secrets: Collection[SecretId] = (),
) -> None:
    """Raise InvalidSpecError listing everything that speaks against putting `specs`.

    `secrets` are those that will exist beside the ones in `state`.
    """
    if not specs:
        raise InvalidRequestError("the request names no service; `specs` needs at least one")
    if len(specs) > SERVICES_MAX:
        raise InvalidRequestError(f"the request names {len(specs)} services; at most {SERVICES_MAX} go into one")
    arriving = {spec.id for spec in specs}
    others = [record.spec for name, record in state.services.items() if name not in arriving]
    problems = (*check_services(specs, others), *_missing_secrets(state, specs, secrets))
    if problems:
        raise InvalidSpecError(
            f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in the service specs; nothing was changed",
            problems=problems,
        )
    missing = [
        f"{display_name(spec.id)}: {digest}" for spec in specs for digest in blobs_of(spec) if not has_blob(digest)
    ]
    if missing:
        raise InvalidRequestError(
            "this node does not have the content of " + "; ".join(missing) + ". Send it first by PUT /v1/blobs/<digest>"
        )


def _missing_secrets(
    state: ClusterState, specs: tuple[ServiceSpec, ...], secrets: Collection[SecretId]
) -> Iterator[Problem]:
    for index, spec in enumerate(specs):
        for name in (*secrets_of(spec), *ingress_secrets_of(spec)):
            if find_secret(spec.project, name, lambda one: one in state.secrets or one in secrets) is None:
                known = ", ".join(sorted(split_secret_id(one)[1] for one in state.secrets if _is_for(one, spec))[:10])
                yield Problem(
                    key=f"services[{index}]",
                    message=missing_secret(spec, name),
                    allowed=known or "a secret that is set",
                )


def _is_for(secret: SecretId, spec: ServiceSpec) -> bool:
    return split_secret_id(secret)[0] in {None, spec.project}


def blobs_of(spec: ServiceSpec) -> tuple[BlobDigest, ...]:
    """The contents that `spec` names by digest."""
    files = tuple(file.content for file in spec.files if file.content is not None)
    return (spec.source.module, *files) if isinstance(spec.source, WasmModule) else files


def blobs_kept(state: ClusterState) -> frozenset[BlobDigest]:
    """The contents that kept revisions name, those of removed services too."""
    kept = [one.spec for record in state.services.values() for one in record.revisions]
    kept += [one.spec for removed in state.removed.values() for one in removed.revisions]
    return frozenset(digest for spec in kept for digest in blobs_of(spec))


def check_locks(state: ClusterState, request: DeployRequest, now_ms: WallMs) -> None:
    """Raise ConflictError when somebody else has locked a project of `request`: before its secrets are set."""
    refused = lock_refusal(state, sorted({spec.project for spec in request.specs}), request.lock, now_ms)
    if refused:
        raise ConflictError(refused)


def put_command(request: DeployRequest, request_id: RequestId, by: Author, at_ms: WallMs) -> PutServices:
    """The command for a deploy."""
    entries = tuple(SpecEntry(spec=spec, template=template_hash(spec)) for spec in request.specs)
    projects = tuple(sorted({spec.project for spec in request.specs})) if request.prune else ()
    return PutServices(
        request_id=request_id,
        at_ms=at_ms,
        actor=by.actor,
        origin=by.origin,
        entries=entries,
        prune_projects=projects,
        note=request.note,
        lock=request.lock,
    )


def rollback_command(
    record: ServiceRecord, request: RollbackRequest, request_id: RequestId, by: Author, at_ms: WallMs
) -> RollbackService:
    """The command for a rollback.

    Without a number it goes to the newest revision before the present one that asked for
    something else: a restart made a revision too, and going back to it would change nothing.
    """
    to = request.revision
    if to is None:
        earlier = (one.revision for one in reversed(record.revisions[:-1]) if one.spec != record.spec)
        to = next(earlier, None)
        if to is None:
            raise NotFoundError(f"{display_name(record.id)} has no earlier revision to go back to")
    return RollbackService(
        request_id=request_id,
        at_ms=at_ms,
        actor=by.actor,
        origin=by.origin,
        service=record.id,
        to=SpecRevision(to),
    )


def plan_services(state: ClusterState, fleet: Fleet, request: DeployRequest) -> tuple[ServicePlan, ...]:
    """What a deploy of `request` would do, service by service; each uses up room of `fleet` for the next."""
    plans = [_plan_one(state, fleet, spec) for spec in request.specs]
    if request.prune:
        named = {spec.id for spec in request.specs}
        projects = {spec.project for spec in request.specs}
        plans += [
            ServicePlan(service=name, action=ChangeAction.REMOVE, fields=field_changes(record.spec, None))
            for name, record in sorted(state.services.items())
            if record.spec.project in projects and name not in named
        ]
    return tuple(plans)


def _plan_one(state: ClusterState, fleet: Fleet, spec: ServiceSpec) -> ServicePlan:
    record = state.services.get(spec.id)
    if record is None:
        return ServicePlan(
            service=spec.id,
            action=ChangeAction.CREATE,
            fields=field_changes(None, spec),
            replaces_copies=False,
            placements=preview(state, fleet, spec, spec.replicas),
        )
    if is_settled_by(record, spec):
        return ServicePlan(service=spec.id, action=ChangeAction.NOTHING)
    is_other = record.current.template.partition("+")[0] != template_hash(spec)
    replaces = (is_other or record.rollout.state is RolloutState.FAILED) and not record.is_stopped
    running = 0 if replaces else record.replicas
    if replaces or spec.is_global:
        fleet.vacate(spec.id)
    return ServicePlan(
        service=spec.id,
        action=ChangeAction.UPDATE,
        fields=field_changes(record.spec, spec),
        replaces_copies=replaces,
        placements=preview(state, fleet, spec, max(0, spec.replicas - running)),
    )


def raise_refusal(outcome: Outcome) -> None:
    """Raise the error that `outcome` carries, if it carries one."""
    if outcome.error:
        error = error_classes().get(outcome.error, OrcaError)(outcome.message)
        error.is_recorded = True  # by `apply`
        raise error
