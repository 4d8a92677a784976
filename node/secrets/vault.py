"""What seals and opens values on this node."""

from typing import Protocol

from orca.model.ids import SecretId


class Vault(Protocol):
    """Seals and opens under the cluster's data key; every ciphertext is bound to its secret's id."""

    def seal(self, secret: SecretId, value: bytes) -> tuple[int, bytes]:
        """The version of the data key that is used, and the sealed value.

        Raises NotAvailableError on a node that has no data key.
        """
        ...

    def open(self, secret: SecretId, key_version: int, ciphertext: bytes) -> bytes:
        """The value.

        Raises NotAvailableError when this node cannot open that data key, StoreCorruptError when the
        ciphertext is not what was sealed for this secret.
        """
        ...
