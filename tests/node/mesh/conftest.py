"""A cluster's authority for each test of the mesh."""

from collections.abc import Iterator

import pytest

from tests.node.mesh.credentials import TrustedCluster


@pytest.fixture
def cluster() -> Iterator[TrustedCluster]:
    made = TrustedCluster()
    yield made
    made.close()
