"""Who this node is, for as long as its store exists."""

import msgspec

from node.store.environment import Environment
from node.store.records import seal, unseal
from node.store.views import Database, ReadView, WriteView
from orca.errors import StoreCorruptError
from orca.model.ids import ClusterId, NodeId
from orca.sources import IdSource

_KEY = b"identity"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The node, its cluster, its name for people, and how often it was started (from 1).

    `is_founder`: it made its cluster; any other begins with an empty log and is taken in by others.
    """

    node: NodeId
    cluster: ClusterId
    name: str
    incarnation: int
    is_founder: bool = True


def start_identity(
    environment: Environment, ids: IdSource, name: str | None = None, *, node: NodeId | None = None
) -> Identity:
    """Begin an incarnation: make the identity where there is none, count it up where there is. Blocks.

    The ids are made once and never change; `node` is the one of its keys, made here when there is none yet.
    A new identity founds a cluster; who joins one has adopted an identity before. `name` replaces the kept one;
    without any the node is called by its id. On disk when it returns. Raises `StoreCorruptError` when
    there is an identity that cannot be read, rather than become somebody else.
    """
    made = Identity(
        node=node or NodeId(f"n-{ids.fresh()}"),
        cluster=ClusterId(f"c-{ids.fresh()}"),
        name="",
        incarnation=0,
    )

    def start(view: WriteView) -> Identity:
        kept = _read(view, environment) or made
        identity = msgspec.structs.replace(
            kept, name=name or kept.name or str(kept.node), incarnation=kept.incarnation + 1
        )
        view.put(Database.LOCAL, _KEY, seal(msgspec.msgpack.encode(identity), salt=_KEY))
        return identity

    return environment.write_blocking(start)


def adopt_identity(view: WriteView, environment: Environment, node: NodeId, cluster: ClusterId) -> None:
    """Be `node` of `cluster` from the next start on, as part of a larger write; what is kept already stays."""
    if _read(view, environment) is None:
        made = Identity(node=node, cluster=cluster, name="", incarnation=0, is_founder=False)
        view.put(Database.LOCAL, _KEY, seal(msgspec.msgpack.encode(made), salt=_KEY))


def give_up_founding(environment: Environment) -> None:
    """From now on the node waits to be taken in, like one that joined. Blocks; on disk when it returns."""

    def give_up(view: WriteView) -> None:
        kept = _read(view, environment)
        if kept is not None and kept.is_founder:
            identity = msgspec.structs.replace(kept, is_founder=False)
            view.put(Database.LOCAL, _KEY, seal(msgspec.msgpack.encode(identity), salt=_KEY))

    environment.write_blocking(give_up)


def read_identity(environment: Environment) -> Identity | None:
    """The identity as it is, None in a new store. Raises `StoreCorruptError`."""
    return environment.read(lambda view: _read(view, environment))


def _read(view: ReadView, environment: Environment) -> Identity | None:
    record = view.get(Database.LOCAL, _KEY)
    if record is None:
        return None
    what = f"the identity in {environment.data_path}"
    try:
        return msgspec.msgpack.decode(unseal(record, what, salt=_KEY), type=Identity)
    except msgspec.DecodeError as error:
        raise StoreCorruptError(f"{what} cannot be read: {error}") from error
