"""What tells people of alerts, joined with the node around it."""

from collections.abc import Callable

from consensus.driver import ReplicaDriver
from node.alert_feed import AlertFeed
from node.api.far import Connector
from node.bell import Bell
from node.control import Control
from node.notices.driver import Notifier
from node.notices.sending import send_message
from node.notices.words import Message
from node.secrets import SecretValues
from orca.errors import NotAvailableError
from orca.model.event import EventKind, Severity
from orca.model.ids import NodeId, SecretId
from orca.model.view import MemberView
from orca.sources import Clock, Rng

Record = Callable[[EventKind, str, Severity], None]


class Surroundings:
    """As `node.notices.driver` needs them."""

    def __init__(self, control: Control, connect: Connector, secrets: SecretValues, record: Record) -> None:
        self._control = control
        self._connect = connect
        self._secrets = secrets
        self.record = record
        control.channels.address, control.channels.send = self.address, self.send

    def open_feed(self) -> AlertFeed:
        """A feed that nobody follows yet."""
        return AlertFeed(self._control, self._connect)

    def members(self) -> tuple[MemberView, ...]:
        """Who is there, as gossip knows."""
        return self._control.membership.members()

    def cluster_name(self) -> str:
        """What the cluster is called in messages."""
        return self._control.channels.cluster_name()

    def address(self, secret: SecretId) -> str:
        """The value of a secret. Raises NotAvailableError."""
        try:
            return self._secrets.open(secret).decode().strip()
        except UnicodeDecodeError as error:
            raise NotAvailableError(f"the secret {secret} is no text, and so no address") from error

    async def send(self, address: str, message: Message) -> None:
        """Send it. Raises NotDeliveredError."""
        await send_message(address, message)


def make_notifier(  # noqa: PLR0913 - it joins them
    node: NodeId,
    clock: Clock,
    rng: Rng,
    replica: ReplicaDriver,
    control: Control,
    secrets: SecretValues,
    *,
    connect: Connector,
    record: Record,
    changed: Bell,
) -> Notifier:
    """Tells channels while `node` leads."""
    around = Surroundings(control, connect, secrets, record)
    return Notifier(node, clock, rng, replica, control.alerts, around, changed=changed)
