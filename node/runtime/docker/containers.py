"""What is done to one container in one visit to a worker thread.

Functions of an SDK client: several requests that belong together run without going
back to the loop, so a cancellation of their caller never leaves half of them undone.
"""

import time
from typing import TYPE_CHECKING, Any, Final

from node.runtime.base import Workload
from node.runtime.docker.request import (
    LABEL_ALLOCATION,
    LABEL_PROJECT,
    LABEL_SERVICE,
    container_name,
    endpoint_body,
    instance_filter,
    owner_labels,
)
from orca.model.ids import ClusterId, ProjectName, ServiceId, split_service_id

if TYPE_CHECKING:
    import docker

REMOVAL_POLL_S: Final = 0.1
REMOVAL_POLLS_MAX: Final = 250


def create(client: "docker.APIClient", workload: Workload, body: dict[str, Any], networks: tuple[str, ...]) -> str:
    """Make the container on all its networks; its id.

    An earlier creation for the same allocation that nobody waited for shows as a taken
    name; its container is found by label and taken over. A name that somebody else uses
    is simply not used: it is only for people.
    """
    import docker.errors

    try:
        made = _post(client, body, container_name(workload))
    except docker.errors.APIError as error:
        if error.status_code != 409:
            raise
        labels = [*instance_filter(workload.cluster, workload.node), f"{LABEL_ALLOCATION}={workload.allocation}"]
        found = client.containers(all=True, filters={"label": labels})
        if found:
            return str(found[0]["Id"])
        made = _post(client, body, None)
    container = str(made["Id"])
    try:
        for network in networks[1:]:
            aliases = endpoint_body(workload.spec)["Aliases"]
            client.connect_container_to_network(container, network, aliases=aliases)
    except docker.errors.APIError:
        client.remove_container(container, v=True, force=True)
        raise
    return container


def remove(client: "docker.APIClient", known: str | None, labels: list[str]) -> None:
    """Kill and remove the container `known`, else all that `labels` select; none is fine."""
    import docker.errors

    names = [known] if known else [str(entry["Id"]) for entry in client.containers(all=True, filters={"label": labels})]
    for name in names:
        for _ in range(REMOVAL_POLLS_MAX):
            try:
                client.remove_container(name, v=True, force=True)
            except docker.errors.APIError as error:
                if error.status_code == 404:
                    break
                if error.status_code != 409 or "in progress" not in str(error.explanation):
                    raise
                time.sleep(REMOVAL_POLL_S)  # somebody else is removing it; in a thread, so nothing is blocked
            else:
                break


def reconnect(client: "docker.APIClient", container: str, networks: tuple[str, ...], cluster: ClusterId) -> None:
    """Make removed networks of a stopped container again, and connect it to them."""
    import docker.errors

    labels = client.inspect_container(container)["Config"]["Labels"]
    project = ProjectName(labels.get(LABEL_PROJECT, ""))
    _, service = split_service_id(ServiceId(labels.get(LABEL_SERVICE, "")))
    for network in networks:
        if not [found for found in client.networks(names=[network]) if found.get("Name") == network]:
            client.create_network(network, driver="bridge", check_duplicate=True, labels=owner_labels(cluster, project))
        try:
            client.disconnect_container_from_network(container, network, force=True)
        except docker.errors.APIError as error:
            if error.status_code not in (403, 404, 500):
                raise
        client.connect_container_to_network(container, network, aliases=[str(service)])


def measure(client: "docker.APIClient", container: str) -> dict[str, Any]:
    """One sample of its statistics, without the second one that the engine would wait a second for."""
    can_one_shot = tuple(map(int, client.api_version.split("."))) >= (1, 41)
    reply: dict[str, Any] = client.stats(container, stream=False, one_shot=True if can_one_shot else None)
    return reply


def _post(client: Any, body: dict[str, Any], name: str | None) -> dict[str, Any]:
    reply: dict[str, Any] = client.create_container_from_config(body, name)
    return reply
