"""A vault with one key, and a state with secrets in it."""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from consensus.state.apply import apply
from consensus.state.cluster import Outcome
from consensus.state.commands import Command, PutDataKey
from orca.errors import NotAvailableError, StoreCorruptError
from orca.model.ids import LogIndex, NodeId, SecretId
from tests.consensus.intent import Cluster
from tests.consensus.state.asking import admit, done

HERE = NodeId("n-1")


class OneKeyVault:
    """AES-256-GCM under one key, as data key 1; `is_shut`: this node has no key."""

    def __init__(self, *, is_shut: bool = False) -> None:
        self.is_shut = is_shut
        self._key = AESGCM(AESGCM.generate_key(256))

    def seal(self, secret: SecretId, value: bytes) -> tuple[int, bytes]:
        self._check()
        nonce = os.urandom(12)
        return 1, nonce + self._key.encrypt(nonce, value, secret.encode())

    def open(self, secret: SecretId, key_version: int, ciphertext: bytes) -> bytes:
        self._check()
        try:
            return self._key.decrypt(ciphertext[:12], ciphertext[12:], secret.encode())
        except InvalidTag as error:
            raise StoreCorruptError(f"{secret} was not sealed as this") from error

    def _check(self) -> None:
        if self.is_shut:
            raise NotAvailableError("this node has no data key")


class Group:
    """The part of a replica that secrets need: proposals are applied at once."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        admit(self.cluster, HERE)
        done(self.cluster, PutDataKey, version=1, wrapped={HERE: b"wrapped"})
        self.proposed: list[Command] = []
        self.state = self.cluster.state

    async def propose(self, command: Command) -> Outcome:
        self.proposed.append(command)
        self.cluster.index += 1
        return apply(self.state, LogIndex(self.cluster.index), command)
