"""The Docker runtime on a real engine: the contract first, then what only containers have."""

from collections.abc import Iterator

import pytest

from tests.contracts.runtime import RuntimeContract
from tests.images import ensure_image, why_no_docker
from tests.node.runtime.docker_subject import DockerSubject, docker_subject

pytestmark = [
    pytest.mark.integration,
    pytest.mark.docker,
    pytest.mark.skipif(bool(why_no_docker()), reason=why_no_docker() or "an engine answers"),
]


@pytest.fixture
def subject() -> Iterator[DockerSubject]:
    ensure_image()
    with docker_subject() as made:
        yield made


class TestDockerRuntime(RuntimeContract):
    pass
