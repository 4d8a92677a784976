"""Words from elsewhere, made safe to be shown: one short line without what looks like a secret. Pure."""

import re
import unicodedata
from typing import Final

QUOTE_CHARACTERS_MAX: Final = 240
READ_CHARACTERS_MAX: Final = 4_000
"""What is looked at of a text at all: a line of a megabyte costs no more than one of four thousand characters."""
REDACTED: Final = "[redacted]"

_PATTERNS: Final = (
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,20}://)[^/\s@]{1,200}@"), rf"\1{REDACTED}@"),
    (re.compile(r"(?i)\b(authorization\s*[:=]\s*)(?:(?:bearer|basic)\s+)?\S+"), rf"\1{REDACTED}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}"), rf"\1 {REDACTED}"),
    (
        re.compile(
            r"(?i)([\w-]{0,40}(?:password|passwd|pwd|secret|token|api[_-]?key|private[_-]?key|credential)s?[\w-]{0,40}"
            r"[\"']?\s{0,3}[:=]\s{0,3})(\"[^\"]*\"?|'[^']*'?|[^\s,;&]+)"
        ),
        rf"\1{REDACTED}",
    ),
    (re.compile(r"\borca-(?:api-)?[\w-]{4,}-[\w-]{16,}"), REDACTED),
    (
        re.compile(r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_\w{20,}|xox[abprs]-[\w-]{10,}|eyJ[\w-]{10,}\.[\w.-]{10,})"),
        REDACTED,
    ),
)


def quotable(text: str) -> str:
    """`text` on one short line that may be shown to anybody who may see the event."""
    head = text[:READ_CHARACTERS_MAX]
    plain = "".join(one if one.isprintable() and unicodedata.category(one) != "Cf" else " " for one in head)
    plain = " ".join(plain.split())
    for pattern, put in _PATTERNS:
        plain = pattern.sub(put, plain)
    if len(plain) > QUOTE_CHARACTERS_MAX or len(text) > READ_CHARACTERS_MAX:
        plain = plain[: QUOTE_CHARACTERS_MAX - 1] + "…"
    return plain
