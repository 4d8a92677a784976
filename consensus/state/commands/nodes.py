"""Commands about nodes: admission, certificates, labels, drains, removal."""

from typing import TypeAlias

import msgspec

from consensus.state.commands.base import Change, CommandStruct
from consensus.state.records import CertificateRecord
from orca.model.ids import NodeId, RequestId, TokenId
from orca.model.node import NodeAddresses
from orca.model.units import WallMs


class AdmitNode(CommandStruct, frozen=True, kw_only=True, tag="admit_node"):
    """Make a node part of the cluster, or note what is new about it.

    For the node that founds the cluster, and for each node about itself when it starts;
    strangers come with `RedeemJoinToken`. None, 0 and empty mean: as it was. `key` is the SHA-256
    of the node's public key in hex, `wrap_key` its X25519 key; each can be set once. `schema` is the newest
    that its release knows, `release` that release's name.
    """

    node: NodeId
    name: str
    request_id: RequestId | None = None
    actor: str = ""
    origin: str = ""
    addresses: NodeAddresses | None = None
    key: str = ""
    wrap_key: bytes = b""
    certificate: CertificateRecord | None = None
    schema: int = 0
    release: str = ""


class RedeemJoinToken(Change, frozen=True, kw_only=True, tag="redeem_join_token"):
    """Admit a node that proved the secret of `token`; each node takes one of the token's uses.

    `secret_hash` is the SHA-256 of what the node showed. The same node with the same key may
    come again (it was cut off before it had the answer) and takes no second use.
    """

    token: TokenId
    secret_hash: bytes
    node: NodeId
    name: str
    key: str
    addresses: NodeAddresses
    certificate: CertificateRecord
    schema: int
    release: str = ""
    wrap_key: bytes = b""


class RecordCertificate(Change, frozen=True, kw_only=True, tag="record_certificate"):
    """A new certificate of an admitted node; with `retires_others` it is the only one from now on."""

    node: NodeId
    certificate: CertificateRecord
    retires_others: bool = False


class LabelNode(Change, frozen=True, kw_only=True, tag="label_node"):
    """Set and remove labels of a node."""

    node: NodeId
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    remove: tuple[str, ...] = ()


class CordonNode(Change, frozen=True, kw_only=True, tag="cordon_node"):
    """No new work for the node; what it has stays."""

    node: NodeId
    reason: str = ""


class DrainNode(Change, frozen=True, kw_only=True, tag="drain_node"):
    """No new work for the node, and what it has moves away, by `deadline_at_ms` if given."""

    node: NodeId
    reason: str = ""
    deadline_at_ms: WallMs | None = None


class UndrainNode(Change, frozen=True, kw_only=True, tag="undrain_node"):
    """The node takes work again, whether it was cordoned or drained."""

    node: NodeId


class LeaveNode(Change, frozen=True, kw_only=True, tag="leave_node"):
    """The node goes of its own will: its certificates are void, and a new token lets it come back.

    Refused while copies are to run there, unless `is_forced`.
    """

    node: NodeId
    is_forced: bool = False


class RemoveNode(Change, frozen=True, kw_only=True, tag="remove_node"):
    """The node is out for ever: its certificates and its identity are void.

    Refused while copies are to run there, unless `is_forced`.
    """

    node: NodeId
    reason: str = ""
    is_forced: bool = False


NodeCommand: TypeAlias = (
    AdmitNode
    | RedeemJoinToken
    | RecordCertificate
    | LabelNode
    | CordonNode
    | DrainNode
    | UndrainNode
    | LeaveNode
    | RemoveNode
)
