"""One method an endpoint."""

import contextlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from orca.client.alerts import AlertCalls
from orca.client.answers import decode_error, decoded
from orca.client.channel import ExecChannel
from orca.client.credentials import NO_CREDENTIALS, Credentials
from orca.client.discover import NodeAddress
from orca.client.flow import Guarded, build_lines, events, log_records, sse_items
from orca.client.reads import NodeReads, Query, service_path, target_of
from orca.client.wire import Caller
from orca.http import Connect, Headers, HttpStream
from orca.model.access import ApiTokenView, CreateApiTokenRequest
from orca.model.doctor import DoctorReply
from orca.model.event import NodeEvent
from orca.model.ids import AllocationId, BlobDigest, ProjectName, RequestId, SecretId, ServiceId, SpecRevision, TokenId
from orca.model.lock_view import LockRequest, LocksReply
from orca.model.placement_view import CordonRequest, DrainRequest, LabelRequest, NodeCareReply, UndrainRequest
from orca.model.quorum_view import QuorumReply, RecoverRequest
from orca.model.secret_view import DataKeyReply, SecretsChangeReply, SetSecretsRequest
from orca.model.trust_view import (
    AuthoritiesReply,
    CreateTokenRequest,
    LeaveNodeRequest,
    LeaveReply,
    NodeRemoval,
    TokenReply,
)
from orca.model.units import WallMs
from orca.model.view import (
    ChangeReply,
    ChangeRequest,
    DeployRequest,
    GossipReply,
    ImageBuild,
    KeysReply,
    LogRecord,
    NodeSilence,
    PlanReply,
    RollbackRequest,
    RotateRequest,
    ScaleRequest,
    ServicesReply,
    UserEventRequest,
)

T = TypeVar("T")

ERROR_BYTES_MAX: Final = 2**20
BLOB_TIMEOUT_S: Final = 300.0
ROTATION_TIMEOUT_S: Final = 90.0
RECOVERY_TIMEOUT_S: Final = 60.0
LEAVE_TIMEOUT_S: Final = 120.0
DOCTOR_TIMEOUT_S: Final = 30.0
_JSON: Final[Headers] = (("content-type", "application/json"),)


def fresh_request_id() -> RequestId:
    """An id that nobody else makes (80 random bits)."""
    return RequestId(secrets.token_hex(10))


@contextlib.asynccontextmanager
async def open_client(
    address: NodeAddress,
    *,
    timeout_s: float = 30.0,
    new_request_id: Callable[[], RequestId] = fresh_request_id,
    credentials: Credentials = NO_CREDENTIALS,
) -> AsyncGenerator["NodeClient", None]:
    """A client of the node at `address`; connects with the first call, so opening never fails."""
    client = NodeClient(address, timeout_s=timeout_s, new_request_id=new_request_id, credentials=credentials)
    try:
        yield client
    finally:
        await client.aclose()


class NodeClient(NodeReads):
    """A node's whole API. Methods raise the node's own errors by class, and `NodeUnreachableError`.

    `timeout_s` bounds one try of one call. `connect` opens connections in place of the address's own
    way. Any number of tasks may share a client.
    """

    def __init__(
        self,
        address: NodeAddress,
        *,
        timeout_s: float = 30.0,
        new_request_id: Callable[[], RequestId] = fresh_request_id,
        credentials: Credentials = NO_CREDENTIALS,
        connect: Connect | None = None,
    ) -> None:
        self._connect = connect or credentials.connector(address)
        self._headers = credentials.headers
        self._caller = Caller(address, timeout_s, connect=self._connect, headers=self._headers)
        super().__init__(address, self._caller)
        self._new_request_id = new_request_id
        self.about_alerts = AlertCalls(self._caller, self._new_request_id)

    async def aclose(self) -> None:
        """Close kept connections."""
        await self._caller.aclose()

    # Changes

    async def deploy(self, request: DeployRequest) -> ChangeReply:
        """Put specs; a missing `request_id` is filled in."""
        if request.request_id is None:
            request = msgspec.structs.replace(request, request_id=self._new_request_id())
        return await self._post("/v1/deploys", request, ChangeReply)

    async def plan(self, request: DeployRequest) -> PlanReply:
        """What `deploy` would do; changes nothing."""
        return await self._post("/v1/plan", request, PlanReply)

    async def scale(self, service: ServiceId, replicas: int) -> ChangeReply:
        """Want `replicas` copies."""
        request = ScaleRequest(replicas=replicas, request_id=self._new_request_id())
        return await self._post(service_path(service, "/scale"), request, ChangeReply)

    async def stop(self, service: ServiceId) -> ChangeReply:
        """Stop all copies, keep the service."""
        return await self._change(service, "/stop")

    async def start(self, service: ServiceId) -> ChangeReply:
        """Start a stopped service."""
        return await self._change(service, "/start")

    async def restart(self, service: ServiceId) -> ChangeReply:
        """Replace all copies by new ones of the same revision."""
        return await self._change(service, "/restart")

    async def promote(self, service: ServiceId) -> ChangeReply:
        """Let the new revision replace the one that it stands beside."""
        return await self._change(service, "/promote")

    async def pause(self, service: ServiceId) -> ChangeReply:
        """Leave its rollout where it is."""
        return await self._change(service, "/pause")

    async def resume(self, service: ServiceId) -> ChangeReply:
        """Go on with its rollout."""
        return await self._change(service, "/resume")

    async def rollback(self, service: ServiceId, revision: SpecRevision | None = None) -> ChangeReply:
        """Go back to `revision`; None: the one before the present one."""
        request = RollbackRequest(revision=revision, request_id=self._new_request_id())
        return await self._post(service_path(service, "/rollback"), request, ChangeReply)

    async def remove(self, service: ServiceId) -> ChangeReply:
        """Remove the service and its copies."""
        target = target_of(service_path(service), (("request_id", self._new_request_id()),))
        reply = await self._caller.call("DELETE", target, is_write=True)
        return decoded(reply.body, ChangeReply, f"DELETE {target}")

    async def set_secrets(
        self, values: Mapping[SecretId, bytes], *, request_id: RequestId | None = None
    ) -> SecretsChangeReply:
        """Set secrets, all or none; a value that a secret has already changes nothing."""
        request = SetSecretsRequest(values=dict(values), request_id=request_id or self._new_request_id())
        return await self._send("PUT", "/v1/secrets", request, SecretsChangeReply)

    async def remove_secret(self, secret: SecretId) -> SecretsChangeReply:
        """Forget a secret that no service uses."""
        target = target_of("/v1/secrets", (("id", secret), ("request_id", self._new_request_id())))
        reply = await self._caller.call("DELETE", target, is_write=True)
        return decoded(reply.body, SecretsChangeReply, f"DELETE {target}")

    async def acquire_lock(self, request: LockRequest) -> LocksReply:
        """Hold back deploys that do not name the lock; a missing `request_id` is filled in."""
        if request.request_id is None:
            request = msgspec.structs.replace(request, request_id=self._new_request_id())
        return await self._send("POST", "/v1/locks", request, LocksReply)

    async def release_lock(self, project: ProjectName, lock: str = "") -> LocksReply:
        """Let everybody deploy to `project` again; with `lock` only if that one is held."""
        query = (("id", lock or None), ("request_id", self._new_request_id()))
        target = target_of(f"/v1/locks/{quote(project, safe='')}", query)
        reply = await self._caller.call("DELETE", target, is_write=True)
        return decoded(reply.body, LocksReply, f"DELETE {target}")

    async def rotate_data_key(self) -> DataKeyReply:
        """Seal all secrets with a new data key; takes as long as there are secrets."""
        got = await self._caller.call("POST", "/v1/secrets/rotate", timeout_s=ROTATION_TIMEOUT_S)
        return decoded(got.body, DataKeyReply, "POST /v1/secrets/rotate")

    async def doctor(self) -> DoctorReply:
        """Examine all nodes; takes as long as the slowest of them, at most some seconds."""
        got = await self._caller.call("GET", "/v1/doctor", timeout_s=DOCTOR_TIMEOUT_S)
        return decoded(got.body, DoctorReply, "GET /v1/doctor")

    async def pause_gossip(self, *, is_paused: bool) -> GossipReply:
        """Stop or resume the exchange of facts of the node that answers."""
        target = f"/v1/gossip/{'pause' if is_paused else 'resume'}"
        got = await self._caller.call("POST", target)
        return decoded(got.body, GossipReply, f"POST {target}")

    # Who belongs to the cluster

    async def create_token(self, request: CreateTokenRequest) -> TokenReply:
        """A new join token; never tried twice, because each try makes another one."""
        return await self._post("/v1/tokens", request, TokenReply)

    async def revoke_token(self, token: TokenId) -> None:
        """Nobody joins by it any more."""
        await self._caller.call("DELETE", f"/v1/tokens/{quote(token, safe='')}")

    async def remove_node(self, node: str, *, force: bool) -> NodeRemoval:
        """The node called `node`, or with that id, is out for ever."""
        target = target_of(f"/v1/nodes/{quote(node, safe='')}", (("force", force or None),))
        reply = await self._caller.call("DELETE", target)
        return decoded(reply.body, NodeRemoval, f"DELETE {target}")

    async def care_for(
        self, node: str, verb: str, request: LabelRequest | CordonRequest | DrainRequest | UndrainRequest
    ) -> NodeCareReply:
        """`label`, `cordon`, `drain` or `undrain` a node; a missing `request_id` is filled in."""
        if request.request_id is None:
            request = msgspec.structs.replace(request, request_id=self._new_request_id())
        return await self._post(f"/v1/nodes/{quote(node, safe='')}/{verb}", request, NodeCareReply)

    async def leave(self, *, force: bool) -> LeaveReply:
        """The node that is asked leaves its cluster; takes as long as it needs to hand over its seat."""
        return await self._post("/v1/leave", LeaveNodeRequest(force=force), LeaveReply, timeout_s=LEAVE_TIMEOUT_S)

    async def rotate_authority(self, *, of_ingress: bool = False) -> AuthoritiesReply:
        """Begin a change of the CA, or of that of served names."""
        got = await self._caller.call("POST", "/v1/ca/rotate" + ("?ingress=true" if of_ingress else ""))
        return decoded(got.body, AuthoritiesReply, "POST /v1/ca/rotate")

    # Gossip

    async def rotate_gossip_keys(self, request: RotateRequest) -> KeysReply:
        """Replace the keys of all members; takes as long as they need."""
        return await self._post("/v1/gossip/keys/rotate", request, KeysReply, timeout_s=ROTATION_TIMEOUT_S)

    async def recover_quorum(self, *, force: bool = False) -> QuorumReply:
        """Start the group anew from the node that is asked."""
        return await self._post(
            "/v1/quorum/recover", RecoverRequest(force=force), QuorumReply, timeout_s=RECOVERY_TIMEOUT_S
        )

    async def send_event(self, request: UserEventRequest) -> None:
        """Tell every member."""
        await self._caller.call("POST", "/v1/gossip/events", headers=_JSON, body=msgspec.json.encode(request))

    async def create_api_token(self, request: CreateApiTokenRequest) -> ApiTokenView:
        """Make a token known; a missing `request_id` is filled in."""
        if request.request_id is None:
            request = msgspec.structs.replace(request, request_id=self._new_request_id())
        return await self._post("/v1/api-tokens", request, ApiTokenView)

    async def revoke_api_token(self, token: TokenId) -> None:
        """Let nobody in by it any more."""
        target = target_of(f"/v1/api-tokens/{quote(token, safe='')}", (("request_id", self._new_request_id()),))
        await self._caller.call("DELETE", target, is_write=True)

    async def put_blob(self, digest: BlobDigest, content: bytes) -> bool:
        """Give the node content under its own hash; False when it had it already."""
        headers = (("content-type", "application/octet-stream"),)
        reply = await self._caller.call(
            "PUT", f"/v1/blobs/{quote(digest, safe=':')}", headers=headers, body=content, timeout_s=BLOB_TIMEOUT_S
        )
        return reply.status == 201

    # Streams

    @contextlib.asynccontextmanager
    async def watch_services(
        self, services: tuple[ServiceId, ...] = ()
    ) -> AsyncGenerator[AsyncIterator[ServicesReply], None]:
        """The named services (none: all) now and after each change, at most about ten times a second."""
        target = target_of("/v1/watch", tuple(("service", service) for service in services))
        async with (
            self._open(target, "text/event-stream") as stream,
            aclosing(sse_items(stream, ServicesReply)) as items,
        ):
            yield self._guarded(items)

    @contextlib.asynccontextmanager
    async def follow_events(
        self,
        *,
        after: int | None = None,
        service: ServiceId | None = None,
        allocation: AllocationId | None = None,
        is_of_cluster: bool = False,
        later: str | None = None,
        told: Callable[[NodeSilence], None] = lambda _: None,
    ) -> AsyncGenerator[AsyncIterator[NodeEvent], None]:
        """Events after `after` (None: some recent ones first), then each as it happens.

        With `later`, of a page of all nodes, those of all nodes; `told` hears of each that stops to answer.
        """
        query: Query = (
            ("after", after),
            ("everywhere", None if later is None else True),
            ("later", later or None),
            ("service", service),
            ("allocation", allocation),
            ("cluster", is_of_cluster or None),
            ("follow", True),
        )
        target = target_of("/v1/events", query)
        async with self._open(target, "text/event-stream") as stream, aclosing(events(stream, told)) as items:
            yield self._guarded(items)

    @contextlib.asynccontextmanager
    async def logs(
        self,
        *,
        service: ServiceId | None = None,
        allocation: AllocationId | None = None,
        follow: bool = False,
        tail: int | None = None,
        since_ms: WallMs | None = None,
    ) -> AsyncGenerator[AsyncIterator[LogRecord], None]:
        """Lines of all copies, by time; with `follow` also those still to come."""
        query: Query = (
            ("service", service),
            ("allocation", allocation),
            ("follow", follow or None),
            ("tail", tail),
            ("since_ms", since_ms),
        )
        async with (
            self._open(target_of("/v1/logs", query), "application/x-ndjson") as stream,
            aclosing(log_records(stream)) as items,
        ):
            yield self._guarded(items)

    @contextlib.asynccontextmanager
    async def build(self, tar: AsyncIterator[bytes], request: ImageBuild) -> AsyncGenerator[AsyncIterator[str], None]:
        """Build an image from a tar; gives the builder's lines. Its failure is raised by the iterator."""
        query: Query = (
            ("tag", request.tag),
            ("dockerfile", request.dockerfile),
            ("target", request.target),
            *(("arg", f"{key}={value}") for key, value in request.args.items()),
        )
        headers: Headers = (("content-type", "application/x-tar"),)
        async with (
            self._open(
                target_of("/v1/builds", query), "application/x-ndjson", method="POST", headers=headers, body=tar
            ) as stream,
            aclosing(build_lines(stream)) as items,
        ):
            yield self._guarded(items)

    def exec(  # noqa: PLR0913 - what a session can be told
        self,
        allocation: AllocationId,
        command: tuple[str, ...],
        *,
        tty: bool = False,
        stdin: bool = False,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        rows: int = 24,
        columns: int = 80,
    ) -> AbstractAsyncContextManager[ExecChannel]:
        """Run `command` inside a copy; leaving the context ends the session."""
        from orca.client.exec import open_exec  # trio-websocket costs 40 ms of import

        query: Query = (
            *(("command", part) for part in command),
            ("tty", tty or None),
            ("stdin", stdin or None),
            ("user", user),
            *(("env", f"{key}={value}") for key, value in (env or {}).items()),
            ("rows", rows),
            ("columns", columns),
        )
        target = target_of(f"/v1/allocations/{quote(allocation, safe='')}/exec", query)
        return open_exec(self.address, target, connect=self._connect, headers=self._headers)

    # How

    async def _post(self, target: str, body: msgspec.Struct, reply: type[T], *, timeout_s: float | None = None) -> T:
        return await self._send("POST", target, body, reply, timeout_s=timeout_s)

    async def _send(
        self, method: str, target: str, body: msgspec.Struct, reply: type[T], *, timeout_s: float | None = None
    ) -> T:
        got = await self._caller.call(
            method,
            target,
            headers=_JSON,
            body=msgspec.json.encode(body),
            is_write=target != "/v1/plan",
            timeout_s=timeout_s,
        )
        return decoded(got.body, reply, f"{method} {target}")

    async def _change(self, service: ServiceId, verb: str) -> ChangeReply:
        request = ChangeRequest(request_id=self._new_request_id())
        return await self._post(service_path(service, verb), request, ChangeReply)

    @contextlib.asynccontextmanager
    async def _open(
        self,
        target: str,
        accept: str,
        *,
        method: str = "GET",
        headers: Headers = (),
        body: bytes | AsyncIterator[bytes] = b"",
    ) -> AsyncGenerator[HttpStream, None]:
        async with self._caller.open(method, target, headers=(("accept", accept), *headers), body=body) as stream:
            if stream.status >= 400:
                raise decode_error(stream.status, await stream.read(ERROR_BYTES_MAX), f"{method} {target}")
            yield stream

    def _guarded(self, items: AsyncIterator[T]) -> AsyncIterator[T]:
        return Guarded(items, self.address)
