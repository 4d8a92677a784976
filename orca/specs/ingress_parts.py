"""The `[service.ingress]` table of a service file."""

from typing import Final

from orca.model.ids import ServiceName
from orca.model.ingress import HttpsMode, IngressSpec, TlsSpec
from orca.model.secrets import SECRET_NAME, named_in
from orca.specs.findings import shown
from orca.specs.reading import Context
from orca.specs.section import Item, Section

_ALLOWED: Final = 'certificate = "${secrets.web_crt}" and key = "${secrets.web_key}", or the paths of two files'


def read_ingress(item: Item | None, origins: dict[str, Item], service: ServiceName, context: Context) -> IngressSpec:
    """`{ queue_timeout, queue_max, https, tls }`."""
    default = IngressSpec()
    if item is None:
        return default
    table = Section(item, ("queue_timeout", "queue_max", "https", "tls"))
    for field, key in (("queue_timeout_s", "queue_timeout"), ("queue_max", "queue_max"), ("tls", "tls")):
        if (entry := table.get(key)) is not None:
            origins[f"ingress.{field}"] = entry
    return IngressSpec(
        queue_timeout_s=table.read("queue_timeout", Item.duration, default.queue_timeout_s),
        queue_max=table.read("queue_max", Item.integer, default.queue_max),
        https=table.read("https", lambda one: one.choice({mode.value: mode for mode in HttpsMode}), default.https),
        tls=table.read("tls", lambda one: _read_tls(one, service, context), None),
    )


def _read_tls(item: Item, service: ServiceName, context: Context) -> TlsSpec | None:
    """`{ certificate, key }`, each a secret or a file; what a file holds becomes a secret of the service."""
    if not item.is_table:
        item.refuse("tls is no table", _ALLOWED)
        return None
    table = Section(item, ("certificate", "key"))
    found: dict[str, str] = {}
    for key in ("certificate", "key"):
        entry = table.get(key)
        if entry is None:
            item.refuse(f"the {key} is missing", _ALLOWED)
            continue
        name = _secret_of(entry, f"{service}-tls-{key}", context)
        if name is not None:
            found[key] = name
    return TlsSpec(**found) if len(found) == 2 else None


def _secret_of(entry: Item, own: str, context: Context) -> str | None:
    """The name of the secret that `entry` means: the one that it names, or `own` with the content of a file."""
    text = entry.filled_text()
    if text is None:
        return None
    names = named_in(text)
    if not names:
        content = context.files.load(entry, text)
        if content is None:
            return None
        context.files.secrets[own] = content
        return own
    if text != f"${{secrets.{names[0]}}}" or not SECRET_NAME.fullmatch(names[0]):
        entry.refuse(f"{shown(text)} is not one secret and nothing else", _ALLOWED)
        return None
    return names[0]
