"""The `[service.ingress]` table of a service file."""

from orca.model.ingress import HttpsMode, IngressSpec
from orca.specs.section import Item, Section


def read_ingress(item: Item | None, origins: dict[str, Item]) -> IngressSpec:
    """`{ queue_timeout, queue_max, https }`."""
    default = IngressSpec()
    if item is None:
        return default
    table = Section(item, ("queue_timeout", "queue_max", "https"))
    for field, key in (("queue_timeout_s", "queue_timeout"), ("queue_max", "queue_max")):
        if (entry := table.get(key)) is not None:
            origins[f"ingress.{field}"] = entry
    return IngressSpec(
        queue_timeout_s=table.read("queue_timeout", Item.duration, default.queue_timeout_s),
        queue_max=table.read("queue_max", Item.integer, default.queue_max),
        https=table.read("https", lambda one: one.choice({mode.value: mode for mode in HttpsMode}), default.https),
    )
