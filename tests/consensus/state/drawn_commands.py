"""Any command, drawn by hypothesis from few names, so that they meet each other; wrong values too."""

import hashlib
from typing import Any

import msgspec
from hypothesis import strategies as st

from consensus.state.cluster import CertificateRecord, ClusterState
from consensus.state.commands import (
    AcknowledgeAlerts,
    AcquireLease,
    AcquireLock,
    AdmitNode,
    BeginEpoch,
    ChangeSettings,
    ClaimNotices,
    Command,
    CommitPlan,
    CordonNode,
    CreateApiToken,
    CreateJoinToken,
    CreateWebhook,
    DeleteSecrets,
    DrainNode,
    DropAuthority,
    DropDataKey,
    EndSilence,
    ExpireLeases,
    LabelNode,
    LeaseRef,
    LeaveNode,
    NoticeEntry,
    PauseService,
    PromoteService,
    PutAuthority,
    PutChannel,
    PutDataKey,
    PutIngressAuthority,
    PutSecrets,
    PutServices,
    RaiseSchema,
    RecordCertificate,
    RecordDeed,
    RedeemJoinToken,
    ReleaseLeases,
    ReleaseLock,
    RemoveChannel,
    RemoveNode,
    RemoveService,
    RemoveWebhook,
    RenewLeases,
    ResealSecrets,
    ResolveAlerts,
    RestartService,
    ResumeService,
    RevokeApiToken,
    RevokeJoinToken,
    RollbackService,
    RolloutUpdate,
    ScaleService,
    SealedEntry,
    SettleNotices,
    SignBy,
    SilenceAlerts,
    SpecEntry,
    StartService,
    StopService,
    UndrainNode,
    WrapDataKey,
)
from orca.model.allocation import Allocation
from orca.model.event import Severity
from orca.model.ids import (
    AllocationId,
    ChannelName,
    LeaseEpoch,
    LeaseName,
    NodeId,
    ProjectName,
    RequestId,
    SecretId,
    ServiceId,
    SilenceId,
    SpecRevision,
    StateRevision,
    TokenId,
    WebhookId,
)
from orca.model.node import NodeAddresses
from orca.model.spec import DeployStrategy, RouteSpec
from orca.model.trust import ApiRole, NodeRole
from orca.model.units import WallMs
from orca.model.view import RolloutState
from tests.consensus.intent import make_spec, template

Drawn = st.SearchStrategy[Any]


def few(one: Drawn) -> Drawn:
    return st.lists(one, max_size=3).map(tuple)


def mostly(good: Drawn, *bad: object) -> Drawn:
    """`good`, and now and then one of `bad`: most commands must do something."""
    # Not by a repeated branch, which hypothesis would take for one.
    return st.integers(0, 30).flatmap(lambda number: st.sampled_from(bad) if number == 17 else good)


NAMES = st.sampled_from(["web", "db"])
SERVICES = NAMES.map(lambda name: ServiceId(f"default/{name}"))
COPIES = st.integers(0, 6).map(lambda number: AllocationId(f"c{number}"))
REVISIONS = st.integers(1, 6).map(SpecRevision)
ROUTES = st.sampled_from([(), (), (RouteSpec(domain="a.example"),), (RouteSpec(path="/x"),)])
TIMES = mostly(st.integers(0, 1000), -(2**63), -1, 2**53, 2**53 + 1, 2**64 - 1).map(WallMs)
ENDS = st.integers(0, 5000).map(WallMs)
REQUESTS = st.integers(0, 60).map(lambda number: RequestId(f"r{number}"))
NODES = st.sampled_from(["n-1", "n-2", "n-3"]).map(NodeId)
TEXTS = mostly(st.sampled_from(["a", "ä b"]), "", "x" * 300)
HASHES = mostly(st.just(b"h" * 32), b"i" * 32, b"short")
TOKENS = st.sampled_from(["t1", "t2"]).map(TokenId)
SECRETS = mostly(st.sampled_from(["shop/db", "/all"]), "nonsense").map(SecretId)
AUTHORITIES = {hashlib.sha256(name).hexdigest(): name for name in (b"ca 1", b"ca 2", b"ca 3")}
CERTIFICATES = st.builds(
    CertificateRecord,
    serial=mostly(st.sampled_from(["1", "2"]), ""),
    fingerprint=st.just("f"),
    not_after_ms=TIMES,
    authority=st.sampled_from([*AUTHORITIES, ""]),
)
WRAP_KEYS = mostly(st.sampled_from([b"", b"x" * 32]), b"y" * 32, b"short")
WRAPPED = st.dictionaries(NODES, mostly(st.just(b"w"), b""), max_size=2)
KEYS = st.integers(0, 3)

SPECS = st.builds(
    make_spec,
    NAMES,
    st.sampled_from(["i:1", "i:2", "i:3"]),
    replicas=mostly(st.integers(0, 3), -1, 2**40),
    routes=ROUTES,
    deploy=mostly(
        st.sampled_from([{}, {"strategy": DeployStrategy.CANARY}, {"auto_rollback": True}]),
        {"deadline_s": float("inf")},
        {"deadline_s": float("nan")},
    ),
)
ENTRIES = st.lists(SPECS, max_size=3).map(
    lambda specs: tuple(SpecEntry(spec=spec, template=template(spec)) for spec in specs)
)
ALLOCATIONS = st.builds(
    Allocation,
    id=COPIES,
    service=SERVICES,
    revision=REVISIONS,
    template=st.sampled_from(["t", "u"]),
    slot=st.integers(0, 3),
    node=NODES,
)
ROLLOUTS = st.builds(
    RolloutUpdate,
    service=SERVICES,
    revision=REVISIONS,
    state=st.sampled_from(RolloutState),
    healthy=st.integers(0, 3),
    deadline_at_ms=TIMES,
)
SEALED = st.builds(
    SealedEntry,
    secret=SECRETS,
    key_version=KEYS,
    ciphertext=mostly(st.sampled_from([bytes(40), bytes(41)]), b"clear"),
    expected=st.one_of(st.none(), st.integers(0, 20).map(StateRevision)),
)
LEASES = mostly(st.sampled_from(["a", "b"]), "").map(LeaseName)
REFS = st.builds(LeaseRef, lease=LEASES, epoch=st.integers(0, 30).map(LeaseEpoch))
CLOCKS = mostly(st.integers(0, 5000), -1, 2**63)
STAMP: dict[str, Drawn] = {
    "request_id": REQUESTS, "at_ms": TIMES, "actor": st.sampled_from(["ann", ""]), "origin": TEXTS
}  # fmt: skip

OF_SERVICES: list[Drawn] = [
    st.builds(PutServices, entries=ENTRIES, prune_projects=st.sampled_from([(), (ProjectName("default"),)]), **STAMP),
    st.builds(ScaleService, service=SERVICES, replicas=mostly(st.integers(0, 4), -1, 2**62), **STAMP),
    st.builds(StopService, service=SERVICES, **STAMP),
    st.builds(StartService, service=SERVICES, **STAMP),
    st.builds(RestartService, service=SERVICES, template=st.sampled_from(["t+1", "t+2"]), **STAMP),
    st.builds(PromoteService, service=SERVICES, **STAMP),
    st.builds(PauseService, service=SERVICES, **STAMP),
    st.builds(ResumeService, service=SERVICES, **STAMP),
    st.builds(RollbackService, service=SERVICES, to=REVISIONS, **STAMP),
    st.builds(RemoveService, service=SERVICES, **STAMP),
    st.builds(
        CommitPlan,
        base=st.integers(0, 30).map(StateRevision),
        at_ms=TIMES,
        placements=few(ALLOCATIONS),
        stops=few(COPIES),
        forgets=few(COPIES),
        rollouts=few(ROLLOUTS),
    ),
]
OF_NODES: list[Drawn] = [
    st.builds(
        AdmitNode,
        node=NODES,
        name=mostly(st.sampled_from(["a", "b", "c"]), ""),
        at_ms=TIMES,
        request_id=st.one_of(st.none(), REQUESTS),
        key=st.sampled_from(["", "k1", "k2"]),
        wrap_key=WRAP_KEYS,
        certificate=st.one_of(st.none(), CERTIFICATES),
        schema=mostly(st.just(1), -1, 0, 3),
    ),
    st.builds(
        RedeemJoinToken,
        token=TOKENS,
        secret_hash=HASHES,
        node=NODES,
        name=st.sampled_from(["a", "b", "c"]),
        key=mostly(st.just("k1"), "k2", ""),
        addresses=st.builds(NodeAddresses, mesh=TEXTS),
        certificate=CERTIFICATES,
        schema=mostly(st.just(1), -1, 0, 3),
        wrap_key=WRAP_KEYS,
        **STAMP,
    ),
    st.builds(RecordCertificate, node=NODES, certificate=CERTIFICATES, retires_others=st.booleans(), **STAMP),
    st.builds(LabelNode, node=NODES, labels=st.dictionaries(TEXTS, TEXTS, max_size=2), remove=few(TEXTS), **STAMP),
    st.builds(CordonNode, node=NODES, reason=TEXTS, **STAMP),
    st.builds(DrainNode, node=NODES, deadline_at_ms=st.one_of(st.none(), TIMES), **STAMP),
    st.builds(UndrainNode, node=NODES, **STAMP),
    st.builds(LeaveNode, node=NODES, is_forced=st.booleans(), **STAMP),
    st.builds(RemoveNode, node=NODES, is_forced=st.booleans(), **STAMP),
]
OF_TRUST: list[Drawn] = [
    st.builds(
        CreateJoinToken,
        token=TOKENS,
        secret_hash=HASHES,
        expires_at_ms=ENDS,
        uses=st.integers(0, 3),
        role=st.sampled_from(NodeRole),
        **STAMP,
    ),
    st.builds(RevokeJoinToken, token=TOKENS, **STAMP),
    st.builds(
        CreateApiToken,
        token=TOKENS,
        name=TEXTS,
        secret_hash=HASHES,
        role=st.sampled_from(ApiRole),
        projects=few(TEXTS.map(ProjectName)),
        expires_at_ms=st.one_of(st.none(), ENDS),
        **STAMP,
    ),
    st.builds(RevokeApiToken, token=TOKENS, **STAMP),
    st.builds(
        RecordDeed,
        action=st.sampled_from(("exec", "")),
        result=st.sampled_from(("ok", "forbidden")),
        count=st.integers(0, 2),
        **STAMP,
    ),
    st.sampled_from(sorted(AUTHORITIES)).flatmap(
        lambda authority: st.builds(
            PutAuthority,
            authority=mostly(st.just(authority), "other"),
            certificate=st.just(AUTHORITIES[authority]),
            sealed_key=mostly(st.just(bytes(40)), b"clear"),
            key_version=KEYS,
            **STAMP,
        )
    ),
    st.sampled_from(sorted(AUTHORITIES)).flatmap(
        lambda authority: st.builds(
            PutIngressAuthority,
            authority=mostly(st.just(authority), "other"),
            certificate=st.just(AUTHORITIES[authority]),
            sealed_key=mostly(st.just(bytes(40)), b"clear"),
            key_version=KEYS,
            **STAMP,
        )
    ),
    st.builds(SignBy, authority=st.sampled_from(sorted(AUTHORITIES)), **STAMP),
    st.builds(DropAuthority, authority=st.sampled_from(sorted(AUTHORITIES)), is_forced=st.booleans(), **STAMP),
    st.builds(PutDataKey, version=KEYS, wrapped=WRAPPED, **STAMP),
    st.builds(WrapDataKey, version=KEYS, wrapped=WRAPPED, unwrap=few(NODES), **STAMP),
    st.builds(DropDataKey, version=KEYS, **STAMP),
    st.builds(PutSecrets, entries=few(SEALED), **STAMP),
    st.builds(ResealSecrets, entries=few(SEALED), **STAMP),
    st.builds(DeleteSecrets, secrets=few(SECRETS), **STAMP),
    st.builds(
        CreateWebhook,
        webhook=st.sampled_from(["h1", "h2"]).map(WebhookId),
        service=SERVICES,
        secret_hash=HASHES,
        **STAMP,
    ),
    st.builds(RemoveWebhook, webhook=st.sampled_from(["h1", "h2"]).map(WebhookId), **STAMP),
]
ALERTS = few(mostly(st.sampled_from(["crash-loop:default/web", "node-failed:b"]), "", "x" * 1001))
SILENCES = mostly(st.sampled_from(["q1", "q2"]), "").map(SilenceId)
CHANNELS = mostly(st.sampled_from(["ops", "web"]), "", "a b").map(ChannelName)
OF_ALERTS: list[Drawn] = [
    st.builds(AcknowledgeAlerts, alerts=ALERTS, reason=TEXTS, ends_at_ms=st.one_of(st.none(), ENDS), **STAMP),
    st.builds(ResolveAlerts, alerts=ALERTS, reason=TEXTS, **STAMP),
    st.builds(
        SilenceAlerts,
        silence=SILENCES,
        ends_at_ms=ENDS,
        reason=TEXTS,
        service=st.one_of(st.none(), SERVICES),
        node=st.one_of(st.none(), NODES),
        rule=st.sampled_from(["", "crash-loop"]),
        **STAMP,
    ),
    st.builds(EndSilence, silence=SILENCES, **STAMP),
    st.builds(PutChannel, channel=CHANNELS, secret=SECRETS, **STAMP),
    st.builds(RemoveChannel, channel=CHANNELS, **STAMP),
    st.builds(
        ClaimNotices,
        channel=CHANNELS,
        node=NODES,
        entries=few(
            st.builds(
                NoticeEntry,
                alert=st.sampled_from(["a", "b", ""]),
                is_firing=st.booleans(),
                severity=st.sampled_from(Severity),
                since_ms=TIMES,
            )
        ),
        at_ms=TIMES,
    ),
    st.builds(SettleNotices, channel=CHANNELS, node=NODES, alerts=few(st.sampled_from(["a", "b"])), at_ms=TIMES),
]
OF_GROUP: list[Drawn] = [
    st.builds(
        AcquireLock,
        projects=few(st.sampled_from(["other", "shop", "other", "shop", "default", ""]).map(ProjectName)),
        note=TEXTS,
        expires_at_ms=st.one_of(st.none(), TIMES),
        **STAMP,
    ),
    st.builds(
        ReleaseLock,
        project=st.sampled_from(["other", "shop", "default"]).map(ProjectName),
        lock=st.sampled_from(["", "", "r1"]),
        **STAMP,
    ),
    st.builds(
        AcquireLease,
        lease=LEASES,
        node=NODES,
        holder=mostly(st.sampled_from(["x", "y"]), ""),
        ttl_ms=mostly(st.sampled_from([1000, 2000]), 0, 2**63),
        clock_ms=CLOCKS,
        at_ms=TIMES,
    ),
    st.builds(RenewLeases, node=NODES, leases=few(REFS), clock_ms=CLOCKS, at_ms=TIMES),
    st.builds(ReleaseLeases, node=NODES, leases=few(REFS), at_ms=TIMES),
    st.builds(ExpireLeases, leases=few(REFS), clock_ms=CLOCKS, at_ms=TIMES),
    st.builds(
        ChangeSettings,
        name=st.one_of(st.just(msgspec.UNSET), TEXTS),
        voters=st.one_of(st.just(msgspec.UNSET), st.none(), st.integers(-1, 9)),
        gossip_key_version=st.one_of(st.just(msgspec.UNSET), st.integers(-1, 3)),
        gossip_key_removals=st.one_of(st.just(msgspec.UNSET), st.integers(-1, 2)),
        **STAMP,
    ),
    # To the newest at most: a release stops reading at what is above.
    st.builds(RaiseSchema, to=st.integers(-1, 1), **STAMP),
    st.builds(BeginEpoch, epoch=st.sampled_from([-1, 0, 1, 2, 2**40]), **STAMP),
]

STARTED: tuple[Command, ...] = (
    AdmitNode(node=NodeId("n-1"), name="a", key="k1", at_ms=WallMs(1)),
    AdmitNode(node=NodeId("n-2"), name="b", key="k1", at_ms=WallMs(1)),
    PutDataKey(request_id=RequestId("k"), at_ms=WallMs(1), actor="ann", version=1, wrapped={NodeId("n-1"): b"w"}),
    CreateJoinToken(
        request_id=RequestId("j"),
        at_ms=WallMs(1),
        actor="ann",
        token=TokenId("t1"),
        secret_hash=b"h" * 32,
        expires_at_ms=WallMs(1000),
        uses=2,
    ),
    PutServices(
        request_id=RequestId("p"),
        at_ms=WallMs(1),
        actor="ann",
        entries=(SpecEntry(spec=make_spec("web", "i:1"), template="t"),),
    ),
)
"""What most clusters have: drawn commands have something to meet."""

COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.one_of(OF_SERVICES), st.one_of(OF_NODES), st.one_of(OF_TRUST), st.one_of(OF_GROUP), st.one_of(OF_ALERTS)
)


def logs(size_max: int) -> st.SearchStrategy[list[Command]]:
    """A log of drawn commands, most of them on a cluster that has begun."""
    long = st.lists(COMMANDS, min_size=size_max * 2 // 3, max_size=size_max)
    return st.builds(
        lambda begin, rest: [*(STARTED if begin else ()), *rest],
        mostly(st.just(True), False),
        # hypothesis alone makes short lists, and failing ones shorter still.
        st.one_of(long, long, st.lists(COMMANDS, max_size=size_max)),
    )


def on_present_state(command: Command, state: ClusterState, index: int) -> Command:
    """Most plans are made for the state as it is and of a revision that exists; some are not.

    So with leases and secrets: most are asked for at the epoch or version that there is.
    """
    if index % 5 == 0:
        return command
    match command:
        case CommitPlan():
            return _fitting_plan(command, state, index)
        case RenewLeases() | ReleaseLeases() | ExpireLeases():
            held = tuple(LeaseRef(lease=one.name, epoch=one.epoch) for one in state.leases.values())
            return msgspec.structs.replace(command, leases=held or command.leases)
        case ResealSecrets():
            entries = (
                msgspec.structs.replace(
                    one, expected=state.secrets[one.secret].version, key_version=max(state.data_keys)
                )
                for one in command.entries
                if one.secret in state.secrets
            )
            return msgspec.structs.replace(command, entries=tuple(entries))
        case PutDataKey():
            wrapped = {node: content for node, content in command.wrapped.items() if node in state.nodes}
            return msgspec.structs.replace(command, version=max(state.data_keys, default=0) + 1, wrapped=wrapped)
        case PutAuthority() | PutIngressAuthority():
            return msgspec.structs.replace(command, key_version=max(state.data_keys, default=0))
        case PutSecrets():
            newest = max(state.data_keys, default=0)
            entries = (msgspec.structs.replace(one, expected=None, key_version=newest) for one in command.entries)
            return msgspec.structs.replace(command, entries=tuple(entries))
        case _:
            return command


def _fitting_plan(command: CommitPlan, state: ClusterState, index: int) -> CommitPlan:
    placements = []
    for one in command.placements:
        record = state.services.get(one.service)
        if record is not None and one.id not in state.allocations and one.node not in state.revoked:
            current = record.revisions[-1 if index % 2 else 0]
            placements.append(msgspec.structs.replace(one, revision=current.revision, template=current.template))
    return msgspec.structs.replace(
        command,
        base=state.revision,
        placements=tuple({one.id: one for one in placements}.values()),
        stops=tuple(one for one in command.stops if one in state.allocations),
        forgets=tuple(one for one in command.forgets if one in state.allocations),
    )
