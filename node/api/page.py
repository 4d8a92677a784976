"""The page at `/`: renders the OpenAPI document in the browser, with nothing from elsewhere."""

import functools
from pathlib import Path
from typing import Final

from orca.http import Headers

PAGE_HEADERS: Final[Headers] = (
    ("content-type", "text/html; charset=utf-8"),
    (
        "content-security-policy",
        (
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
)


@functools.cache
def page() -> bytes:
    """The page's bytes; read once, a few kilobytes."""
    return (Path(__file__).parent / "page.html").read_bytes()
