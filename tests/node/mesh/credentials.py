"""Credentials for tests that run a mesh: an authority that signs for all, and a list of who was revoked."""

import tempfile
from pathlib import Path

from orca.errors import RemovedError
from orca.model.ids import ClusterId, NodeId
from simulations.bench.authority import Authority, IssuedCredentials

CLUSTER = ClusterId("c-1")


class TrustedCluster:
    """One cluster's authority; `revoke` takes effect for all whose credentials it made."""

    __test__ = False

    def __init__(self, folder: Path | None = None, cluster: ClusterId = CLUSTER) -> None:
        self._kept = None if folder else tempfile.TemporaryDirectory(prefix="orca-ca-", ignore_cleanup_errors=True)
        self.authority = Authority(folder or Path(self._kept.name if self._kept else ""), cluster)
        self.revoked: set[NodeId] = set()

    def credentials(self, node: NodeId, *, days: float = 90) -> "RevocableCredentials":
        """Those of `node`; with `days` below zero its certificate has expired."""
        return RevocableCredentials(self, self.authority.issue(node, days=days))

    def revoke(self, node: NodeId) -> None:
        """Nobody believes `node` any more."""
        self.revoked.add(node)

    def close(self) -> None:
        """Remove the keys."""
        if self._kept is not None:
            self._kept.cleanup()


class RevocableCredentials(IssuedCredentials):
    """Those of a node of `cluster`."""

    def __init__(self, cluster: TrustedCluster, file: Path) -> None:
        super().__init__(cluster.authority, file)
        self._trusted = cluster

    def authorize(self, certificate: bytes) -> NodeId:
        node = super().authorize(certificate)
        if node in self._trusted.revoked:
            raise RemovedError(f"the certificate of {node} was revoked")
        return node
