"""How a cluster begins: made and kept by its founder first, then put into the state, as often as it takes."""

import os
from typing import Final

import structlog
import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from consensus.driver import ReplicaDriver
from consensus.state.commands import AdmitNode, Command, PutDataKey
from node.trust.authority import (
    Authority,
    encode_key,
    fingerprint_of,
    key_fingerprint,
    make_authority,
    make_request,
    sign_request,
)
from node.trust.data_keys import DataKeys
from node.trust.issuing import listing_of
from node.trust.kept import Founding, KeptTrust, NodeKeys, OwnTrust
from node.trust.sealing import DATA_KEY_BYTES
from orca.errors import OrcaError
from orca.model.ids import ClusterId, RequestId
from orca.sources import Clock

_log = structlog.get_logger("orca.trust")
RETRY_S: Final = 1.0
FOUNDER: Final = "founder"


def found_locally(kept: KeptTrust, cluster: ClusterId, keys: NodeKeys, clock: Clock) -> OwnTrust:
    """Make the CA, the data key and the founder's own certificate, and keep them. Blocks; once made they stay."""
    at_ms = clock.wall()
    key = encode_key(ec.generate_private_key(ec.SECP256R1()))
    authority = make_authority(cluster, key, serial=x509.random_serial_number(), at_ms=at_ms)
    request = make_request(cluster, keys.node, keys.tls_key)
    certificate = sign_request(authority, keys.node, request, serial=x509.random_serial_number(), at_ms=at_ms)
    own = OwnTrust(certificate=certificate, authorities=(authority.certificate,), gossip_key_version=1)
    made = Founding(authority_key=key, data_key=os.urandom(DATA_KEY_BYTES), made_at_ms=at_ms)
    kept.start_founding(made, own)
    found = kept.own()
    assert found is not None, "it was kept just now"
    return found


async def found(
    kept: KeptTrust,
    own: OwnTrust,
    keys: NodeKeys,
    data_keys: DataKeys,
    replica: ReplicaDriver,
    clock: Clock,
    introduction: AdmitNode,
) -> None:
    """Put into the state what is not there yet, until all is; `introduction` is what the node says of itself."""
    founding = kept.founding()
    if founding is None:
        return
    cluster = data_keys.cluster
    authority = Authority(cluster=cluster, certificate=own.authorities[0], key=founding.authority_key)
    while True:
        command = _next_step(replica, own, keys, data_keys, founding, authority, introduction)
        if command is None:
            break
        try:
            outcome = await replica.propose(command)
            if outcome.error:
                _log.warning("a step of the founding was refused", reason=outcome.message)
                await trio.sleep(RETRY_S)
        except OrcaError as error:
            _log.debug("the founding waits", reason=error.message)
            await trio.sleep(RETRY_S)
    await kept.forget_founding()
    _log.info("the cluster has its CA", fingerprint=fingerprint_of(own.authorities[0]), cluster=cluster)


def _next_step(
    replica: ReplicaDriver,
    own: OwnTrust,
    keys: NodeKeys,
    data_keys: DataKeys,
    founding: Founding,
    authority: Authority,
    introduction: AdmitNode,
) -> Command | None:
    """What the state lacks first; None when it has all."""
    state = replica.state
    record = state.nodes.get(keys.node)
    listing = listing_of(own.certificate, authority.fingerprint)
    if record is None or not record.key or not record.certificates:
        return AdmitNode(
            node=keys.node,
            name=introduction.name,
            at_ms=introduction.at_ms,
            addresses=introduction.addresses,
            schema=introduction.schema,
            release=introduction.release,
            key=key_fingerprint(keys.tls_key),
            wrap_key=keys.wrap_public,
            certificate=listing,
        )
    if not state.data_keys:
        wrapped = data_keys.wrap(founding.data_key, keys.wrap_public, keys.node, 1)
        return PutDataKey(
            request_id=RequestId(f"found/{keys.node}/data-key"),
            at_ms=founding.made_at_ms,
            actor=FOUNDER,
            version=1,
            wrapped={keys.node: wrapped},
        )
    if not state.authorities:
        request_id = RequestId(f"found/{keys.node}/authority")
        return data_keys.put_authority(
            authority, at_ms=founding.made_at_ms, actor=FOUNDER, request_id=request_id, founding=founding
        )
    return None
