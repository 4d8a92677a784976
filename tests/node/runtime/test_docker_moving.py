"""Images out of a real engine and into it again, as they come from another node."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from orca.errors import ImageNotFoundError
from orca.model.spec import PullPolicy
from tests.contracts.runtime import ignore_progress, running
from tests.images import docker, ensure_image, why_no_docker
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


async def test_an_image_that_is_not_here_and_never_pulled_comes_from_elsewhere(
    subject: DockerSubject,
) -> None:
    tag = f"orca-test-{subject.project}:moved"
    docker("tag", ensure_image(), tag)
    workload = subject.workload(source={"image": tag, "pull": PullPolicy.NEVER})
    runtime = subject.make()
    asked: list[str] = []

    async def refuse(image: str, _: Any) -> str:
        asked.append(image)
        return "n-2: it does not have it"

    try:
        async with running(runtime):
            images = runtime.movable_images
            assert await images.find(tag) == await images.platform()
            async with images.save(tag) as pieces:
                saved = [piece async for piece in pieces]
            docker("rmi", tag)
            assert await images.find(tag) is None
            runtime.borrow_images(refuse)
            with pytest.raises(ImageNotFoundError, match=r"never to pull it; no other node gave it \(n-2: it does not"):
                await runtime.prepare(workload, ignore_progress)

            async def borrow(image: str, _: Any) -> None:
                async def pieces() -> AsyncIterator[bytes]:
                    for piece in saved:
                        yield piece

                await images.load(image, pieces())

            runtime.borrow_images(borrow)
            await runtime.prepare(workload, ignore_progress)
            assert await images.find(tag) is not None
        assert asked == [tag]
    finally:
        docker("rmi", "-f", tag)
