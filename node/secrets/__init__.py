"""Secrets on a node: set, sealed, and opened for the copies that use them.

**Where a value is in clear.** In the request that sets it, until it is sealed; in the process of the node
that runs a copy which uses it; in that copy's environment (which Docker keeps with the container and shows
to whoever may ask the engine) or in a file in memory that only the copy sees. Nowhere else: the log, the
snapshots and every answer of the API have the sealed form or none.

**Sealed** means AES-256-GCM under the cluster's data key, bound to the secret's id, so that no two can be exchanged
(`Vault`). The data key is wrapped for each member. A worker has none: it asks a member over the mesh, and is given the
values that its own copies use, and certificates for the ingress, and no others (`SecretSharing`). A member seals what
people set on a worker.

**A value is read when a copy starts.** Each change of a secret makes a new revision of every service that uses it, so
copies are replaced by the rules of the service's deploy section; until then a running copy keeps what it was started
with. Certificates of the ingress are no matter of copies: every node reads them at once. A copy whose secrets cannot be
had does not start: it says so and tries again.
"""

from node.secrets.control import SecretControl
from node.secrets.parts import Secrets
from node.secrets.sharing import SecretSharing
from node.secrets.values import SecretValues
from node.secrets.vault import Vault

__all__ = ["SecretControl", "SecretSharing", "SecretValues", "Secrets", "Vault"]
