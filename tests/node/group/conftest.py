"""A cluster's authority for tests that run a mesh."""

from tests.node.mesh.conftest import cluster

__all__ = ["cluster"]
