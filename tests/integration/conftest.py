"""Nodes that several tests share."""

from collections.abc import Iterator

import pytest

from tests.images import ensure_image
from tests.integration.node import Node, running_node


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """A node with Docker for all tests of a file."""
    ensure_image()
    with running_node() as made:
        yield made


@pytest.fixture(scope="module")
def wasm_node() -> Iterator[Node]:
    """A node without Docker for all tests of a file."""
    with running_node(needs_docker=False) as made:
        yield made
