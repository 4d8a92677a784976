"""The process that sends one message and ends: `python -m node.notices.child`, with the message on its stdin.

apprise is imported here and nowhere else. What goes wrong is told on stdout, never with the address in it.
"""

import logging
import sys
from typing import Final

import msgspec

from node.notices.errand import Answer, Errand

_WEBHOOKS: Final = frozenset({"json", "jsons", "xml", "xmls", "form", "forms"})
_REASONS_MAX: Final = 3


class _Reasons(logging.Handler):
    """What apprise says about a failure."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.said.append(record.getMessage())


def send(errand: Errand) -> Answer:
    """Send it."""
    import apprise

    reasons = _Reasons()
    logger = logging.getLogger("apprise")
    logger.handlers[:] = [reasons]
    logger.propagate = False
    address = errand.address
    scheme, mark, rest = address.partition("://")
    if mark and scheme.lower() in _WEBHOOKS:
        address += f"{'&' if '?' in rest else '?'}+X-Orca-Notice={_quoted(errand.identity)}"  # a field of HTTP
    target = apprise.Apprise.instantiate(address)
    if target is None:
        return Answer(problem="the address is none that can be sent to; https://appriseit.com lists their forms")
    to = apprise.Apprise(services=[target])
    try:
        is_taken = to.notify(body=errand.body, title=errand.title, notify_type=apprise.NotifyType(errand.kind))
    except TypeError as error:
        return Answer(problem=str(error))
    if is_taken:
        return Answer()
    said = "; ".join(dict.fromkeys(reasons.said[-_REASONS_MAX:])) or "it was not taken"
    return Answer(problem=said.replace(rest, "…"))


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text.encode("ascii", "backslashreplace"), safe="")


def main() -> None:
    """One errand from stdin, one answer to stdout."""
    errand = msgspec.json.decode(sys.stdin.buffer.read(), type=Errand)
    answer = send(errand)
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
