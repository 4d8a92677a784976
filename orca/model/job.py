"""The job that one run of a service is."""

import msgspec

from orca.model.ids import ServiceName
from orca.model.ingress import IngressSpec
from orca.model.spec import (
    DeploySpec,
    DisconnectSpec,
    PlacementSpec,
    RestartPolicy,
    RestartSpec,
    ServiceMode,
    ServiceSpec,
)


def job_of(base: ServiceSpec, name: ServiceName, labels: dict[str, str]) -> ServiceSpec:
    """A job with the workload, files, variables, networks and limits of `base` that takes no requests.

    No second one starts while its node is not heard of: nobody knows how far the first came.
    """
    is_service = base.restart.policy is RestartPolicy.ALWAYS
    return msgspec.structs.replace(
        base,
        name=name,
        ports=(),
        routes=(),
        startup=None,
        readiness=None,
        liveness=None,
        aliases=(),
        internal=False,
        restart=RestartSpec(policy=RestartPolicy.NEVER) if is_service else base.restart,
        drain_timeout_s=0.0,
        ingress=IngressSpec(),
        labels={**base.labels, **labels},
        placement=PlacementSpec(
            labels=base.placement.labels,
            constraints=base.placement.constraints,
            node=base.placement.node,
            prefer=base.placement.prefer,
        ),
        mode=ServiceMode.REPLICATED,
        schedule=None,
        disconnect=DisconnectSpec(replace_after_s=None),
        deploy=DeploySpec(),
        depends_on=(),
    )
