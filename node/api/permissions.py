"""Who may call what: one table with every route. What is not in it is refused to everybody. Pure.

A rule says which role a route needs, and how the projects that a call touches are found.
Roles contain each other: an admin may what a deployer may, a deployer what a viewer may.
A token that is limited to projects gets of a list only what is theirs, is refused whatever
names another project, and is refused what belongs to all projects together.
"""

import enum
from collections.abc import Mapping
from typing import Final

import msgspec

from node.api.caller import Caller
from orca.errors import ForbiddenError, UnauthorizedError
from orca.model.ids import ProjectName, ServiceId, split_service_id
from orca.model.trust import ApiRole

_A: Final = {ApiRole.VIEWER: "a viewer", ApiRole.DEPLOYER: "a deployer", ApiRole.ADMIN: "an admin"}
VIEWER, DEPLOYER, ADMIN = ApiRole.VIEWER, ApiRole.DEPLOYER, ApiRole.ADMIN


class Scope(enum.Enum):
    """How the projects of a call are found.

    `SHARED`: it is of no project, and the same for all. `CLUSTER`: it is of all projects, so a
    limited token is refused. `PATH`: the path names it. `LIST`: the answer is cut down to the
    caller's projects, and a project or service in the query must be one of them. `COPY`: that of the
    copy or silence that is named, found by the handler. `SPECS`: those of all specs in the body, or of all secrets
    or alerts that are named, checked by the handler before anything is stored.
    """

    SHARED = "shared"
    CLUSTER = "cluster"
    PATH = "path"
    LIST = "list"
    COPY = "copy"
    SPECS = "specs"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What one route needs. `role` None: open to everybody who can connect.

    `action`: what it is called in the audit when it is refused; empty for what changes nothing.
    `is_deed`: no command of the log says that it happened, so the API tells the audit itself.
    """

    role: ApiRole | None
    scope: Scope = Scope.SHARED
    action: str = ""
    is_deed: bool = False


def _may(role: ApiRole | None, scope: Scope = Scope.SHARED) -> Rule:
    return Rule(role=role, scope=scope)


def _change(role: ApiRole, scope: Scope, action: str) -> Rule:
    return Rule(role=role, scope=scope, action=action)


def _deed(role: ApiRole, scope: Scope, action: str) -> Rule:
    return Rule(role=role, scope=scope, action=action, is_deed=True)


_SERVICE: Final = "/v1/services/{project}/{name}"
RULES: Final[Mapping[str, Rule]] = {
    "GET /healthz": _may(None),
    "GET /": _may(None),
    "GET /metrics": _may(VIEWER, Scope.CLUSTER),
    "GET /v1/openapi.json": _may(None),
    "GET /v1/status": _may(VIEWER, Scope.LIST),
    "GET /v1/node": _may(VIEWER),
    "GET /v1/nodes": _may(VIEWER),
    "GET /v1/quorum": _may(VIEWER),
    "POST /v1/quorum/recover": _deed(ADMIN, Scope.CLUSTER, "recover_quorum"),
    "GET /v1/doctor": _may(VIEWER, Scope.CLUSTER),
    "GET /v1/alerts": _may(VIEWER, Scope.LIST),
    "GET /v1/alerts/rules": _may(VIEWER),
    "POST /v1/alerts/ack": _change(DEPLOYER, Scope.SPECS, "acknowledge_alerts"),
    "POST /v1/alerts/resolve": _change(DEPLOYER, Scope.SPECS, "resolve_alerts"),
    "GET /v1/silences": _may(VIEWER, Scope.LIST),
    "POST /v1/silences": _change(DEPLOYER, Scope.SPECS, "silence_alerts"),
    "DELETE /v1/silences/{silence}": _change(DEPLOYER, Scope.COPY, "end_silence"),
    "GET /v1/channels": _may(VIEWER, Scope.CLUSTER),
    "PUT /v1/channels/{channel}": _change(ADMIN, Scope.CLUSTER, "put_channel"),
    "DELETE /v1/channels/{channel}": _change(ADMIN, Scope.CLUSTER, "remove_channel"),
    "POST /v1/channels/{channel}/test": _deed(ADMIN, Scope.CLUSTER, "test_channel"),
    "GET /v1/events": _may(VIEWER, Scope.LIST),
    "GET /v1/gossip": _may(VIEWER),
    "POST /v1/gossip/pause": _deed(ADMIN, Scope.CLUSTER, "pause_gossip"),
    "POST /v1/gossip/resume": _deed(ADMIN, Scope.CLUSTER, "resume_gossip"),
    "POST /v1/gossip/events": _deed(ADMIN, Scope.CLUSTER, "send_event"),
    "GET /v1/gossip/keys": _may(ADMIN, Scope.CLUSTER),
    "GET /v1/gossip/key": _deed(ADMIN, Scope.CLUSTER, "show_gossip_key"),
    "POST /v1/gossip/keys/rotate": _deed(ADMIN, Scope.CLUSTER, "rotate_gossip_keys"),
    "GET /v1/services": _may(VIEWER, Scope.LIST),
    f"GET {_SERVICE}": _may(VIEWER, Scope.PATH),
    f"GET {_SERVICE}/history": _may(VIEWER, Scope.PATH),
    f"GET {_SERVICE}/why": _may(VIEWER, Scope.PATH),
    f"DELETE {_SERVICE}": _change(DEPLOYER, Scope.PATH, "remove_service"),
    f"POST {_SERVICE}/scale": _change(DEPLOYER, Scope.PATH, "scale_service"),
    f"POST {_SERVICE}/stop": _change(DEPLOYER, Scope.PATH, "stop_service"),
    f"POST {_SERVICE}/start": _change(DEPLOYER, Scope.PATH, "start_service"),
    f"POST {_SERVICE}/restart": _change(DEPLOYER, Scope.PATH, "restart_service"),
    f"POST {_SERVICE}/promote": _change(DEPLOYER, Scope.PATH, "promote_service"),
    f"POST {_SERVICE}/pause": _change(DEPLOYER, Scope.PATH, "pause_service"),
    f"POST {_SERVICE}/resume": _change(DEPLOYER, Scope.PATH, "resume_service"),
    f"POST {_SERVICE}/rollback": _change(DEPLOYER, Scope.PATH, "rollback_service"),
    "GET /v1/watch": _may(VIEWER, Scope.LIST),
    "GET /v1/ready": _may(VIEWER, Scope.LIST),
    "POST /v1/deploys": _change(DEPLOYER, Scope.SPECS, "put_services"),
    "GET /v1/locks": _may(VIEWER, Scope.LIST),
    "POST /v1/locks": _change(DEPLOYER, Scope.SPECS, "acquire_lock"),
    "DELETE /v1/locks/{project}": _change(DEPLOYER, Scope.PATH, "release_lock"),
    "POST /v1/plan": _may(VIEWER, Scope.SPECS),
    "PUT /v1/blobs/{digest}": _change(DEPLOYER, Scope.SHARED, "put_blob"),
    "HEAD /v1/blobs/{digest}": _may(DEPLOYER),
    # An image's name is the same for all projects of a node: who builds may replace what others run.
    "POST /v1/builds": _deed(DEPLOYER, Scope.CLUSTER, "build_image"),
    "GET /v1/secrets": _may(VIEWER, Scope.LIST),
    "PUT /v1/secrets": _change(DEPLOYER, Scope.SPECS, "put_secrets"),
    "DELETE /v1/secrets": _change(DEPLOYER, Scope.SPECS, "delete_secrets"),
    "POST /v1/secrets/rotate": _change(ADMIN, Scope.CLUSTER, "put_data_key"),
    "GET /v1/allocations": _may(VIEWER, Scope.LIST),
    "GET /v1/logs": _may(VIEWER, Scope.LIST),
    "GET /v1/series": _may(VIEWER, Scope.LIST),
    "GET /v1/stats": _may(VIEWER, Scope.LIST),
    "GET /v1/tokens": _may(ADMIN, Scope.CLUSTER),
    "POST /v1/tokens": _change(ADMIN, Scope.CLUSTER, "create_join_token"),
    "DELETE /v1/tokens/{token}": _change(ADMIN, Scope.CLUSTER, "revoke_join_token"),
    "GET /v1/nodes/{node}": _may(VIEWER, Scope.CLUSTER),
    "POST /v1/nodes/{node}/label": _change(ADMIN, Scope.CLUSTER, "label_node"),
    "POST /v1/nodes/{node}/cordon": _change(ADMIN, Scope.CLUSTER, "cordon_node"),
    "POST /v1/nodes/{node}/drain": _change(ADMIN, Scope.CLUSTER, "drain_node"),
    "POST /v1/nodes/{node}/undrain": _change(ADMIN, Scope.CLUSTER, "undrain_node"),
    "DELETE /v1/nodes/{node}": _change(ADMIN, Scope.CLUSTER, "remove_node"),
    "POST /v1/leave": _deed(ADMIN, Scope.CLUSTER, "leave"),
    "GET /v1/ca": _may(VIEWER),
    "POST /v1/ca/rotate": _change(ADMIN, Scope.CLUSTER, "put_authority"),
    "GET /v1/api-tokens": _may(ADMIN, Scope.CLUSTER),
    "POST /v1/api-tokens": _change(ADMIN, Scope.CLUSTER, "create_api_token"),
    "DELETE /v1/api-tokens/{id}": _change(ADMIN, Scope.CLUSTER, "revoke_api_token"),
    "GET /v1/audit": _may(ADMIN, Scope.CLUSTER),
    "GET /v1/allocations/{id}/exec": _deed(DEPLOYER, Scope.COPY, "exec"),
}


def authorize(caller: Caller, rule: Rule | None, path: Mapping[str, str], query: msgspec.Struct) -> None:
    """Raise ForbiddenError unless `caller` may make this call; `rule` None is a route that nobody listed."""
    if rule is None:
        raise ForbiddenError("nobody may call this: the node's table of permissions does not have it")
    if rule.role is None:
        return
    if caller.role is None:
        raise UnauthorizedError("a token is needed here")
    if not caller.may(rule.role):
        raise ForbiddenError(f"{caller.actor} is {_A[caller.role]}, and this takes {_A[rule.role]}")
    if not caller.projects:
        return
    if rule.scope is Scope.CLUSTER:
        raise ForbiddenError(
            f"{caller.actor} is limited to {', '.join(caller.projects)}, and this is about all projects together"
        )
    for project in projects_named(rule, path, query):
        caller.check_project(project)


def projects_named(rule: Rule, path: Mapping[str, str], query: msgspec.Struct) -> tuple[ProjectName, ...]:
    """The projects that the path and the query name."""
    if rule.scope is Scope.PATH:
        return (ProjectName(path["project"]),)
    if rule.scope not in {Scope.LIST, Scope.SPECS}:
        return ()
    project: ProjectName | None = getattr(query, "project", None)
    services: ServiceId | tuple[ServiceId, ...] | None = getattr(query, "service", None)
    named = () if services is None else (services,) if isinstance(services, str) else services
    found = [split_service_id(service)[0] for service in named]
    return (*found, project) if project is not None else tuple(found)


def subject_of(path: Mapping[str, str], query: msgspec.Struct) -> str:
    """What a call is about, for the audit, as far as its path and query say."""
    if "project" in path and "name" in path:
        return f"{path['project']}/{path['name']}"
    named = getattr(query, "service", None) or getattr(query, "project", None) or getattr(query, "tag", None)
    return " ".join(path.values()) or (named if isinstance(named, str) else "")
