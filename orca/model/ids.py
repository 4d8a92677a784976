"""Names and counters, one type each, so that one is never passed for another."""

from typing import NewType

NodeId = NewType("NodeId", str)
"""A computer running the agent: `n-` and 12 characters of its identity; stable over restarts."""

ClusterId = NewType("ClusterId", str)
"""One cluster: `c-` and 12 characters, made by the first `orca up`."""

ProjectName = NewType("ProjectName", str)
"""A group of services with a network of its own, for example `shop`."""

ServiceName = NewType("ServiceName", str)
"""A service's name inside its project, for example `web`."""

ServiceId = NewType("ServiceId", str)
"""`<project>/<service>`, for example `shop/web`: unique in the cluster."""

AllocationId = NewType("AllocationId", str)
"""One placed copy of a service: 12 lower-case base-32 characters, made by the proposer."""

SpecRevision = NewType("SpecRevision", int)
"""The n-th accepted version of one service's spec; starts at 1."""

StateRevision = NewType("StateRevision", int)
"""The log index of the last command that changed the replicated state."""

Term = NewType("Term", int)
LogIndex = NewType("LogIndex", int)

RequestId = NewType("RequestId", str)
"""Made by the caller; a command that comes twice under one id is applied once."""

BlobDigest = NewType("BlobDigest", str)
"""`sha256:` and 64 hex digits: content kept by a node under its own hash."""

TokenId = NewType("TokenId", str)
"""The public part of a join or API token."""

WebhookId = NewType("WebhookId", str)
"""The public part of a webhook's address."""

ChannelName = NewType("ChannelName", str)
"""Where people are told of alerts."""

SilenceId = NewType("SilenceId", str)
"""A time for which nobody is told of some alerts."""

SecretId = NewType("SecretId", str)
"""`<project>/<name>` of a sealed secret; the project may be empty: one for the whole cluster."""

LeaseName = NewType("LeaseName", str)
"""What is leased, for example `service/shop/worker`: one holder at a time."""

LeaseEpoch = NewType("LeaseEpoch", int)
"""A fencing number: each new holder of a lease gets a larger one than anybody before."""

DEFAULT_PROJECT = ProjectName("default")


def service_id(project: ProjectName, name: ServiceName) -> ServiceId:
    """The cluster-wide id of service `name` in `project`."""
    return ServiceId(f"{project}/{name}")


def split_service_id(service: ServiceId) -> tuple[ProjectName, ServiceName]:
    """The project and the name that `service` was made of."""
    project, _, name = service.partition("/")
    return ProjectName(project), ServiceName(name)


def display_name(service: ServiceId) -> str:
    """How people write `service`: the default project is left out."""
    project, name = split_service_id(service)
    return str(name) if project == DEFAULT_PROJECT else str(service)


def singleton_lease(service: ServiceId) -> LeaseName:
    """The lease that the one copy of a singleton holds."""
    return LeaseName(f"singleton/{service}")
