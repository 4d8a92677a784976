"""The short pages that the proxy answers itself: pure."""

import re
from http import HTTPStatus
from typing import Final

_HTML_WANTED: Final = re.compile(rb"\btext/html\b|\bapplication/xhtml\+xml\b", re.IGNORECASE)
_SENTENCES: Final = {
    308: "This address is served in HTTPS only.",
    400: "This request is malformed.",
    404: "There is no service at this address.",
    405: "This method is not served here.",
    408: "The request took too long to arrive.",
    414: "The address of this request is too long.",
    417: "This expectation cannot be met.",
    431: "The header fields of this request are too large.",
    501: "This request uses something that is not supported.",
    502: "The service did not answer properly.",
    503: "The service is not ready at the moment. Please try again shortly.",
    504: "The service did not answer in time.",
    505: "This version of HTTP is not supported.",
}


def error_page(status: int, accept: bytes, request_id: bytes, reason: str = "") -> tuple[bytes, bytes]:
    """Content type and body of the page for `status`.

    HTML when `accept`, the request's Accept field, names it, else plain text. It says what
    the client needs and nothing about the cluster; the request id leads to the rest.
    """
    phrase = HTTPStatus(status).phrase
    sentence = reason or _SENTENCES.get(status, phrase)
    reference = request_id.decode("ascii", "replace")
    if not _HTML_WANTED.search(accept):
        tail = f"Request id: {reference}\n" if reference else ""
        return b"text/plain; charset=utf-8", f"{status} {phrase}\n{sentence}\n{tail}".encode()
    import html  # its table of entities takes more memory than many a connection

    tail = f"<p><small>Request id: {html.escape(reference)}</small></p>" if reference else ""
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{status} {phrase}</title>'
        '<meta name="viewport" content="width=device-width"><style>body{font:16px/1.5 system-ui,sans-serif;'
        "max-width:34rem;margin:15vh auto;padding:0 1rem;color-scheme:light dark}</style></head>"
        f"<body><h1>{status} {phrase}</h1><p>{html.escape(sentence)}</p>{tail}</body></html>\n"
    )
    return b"text/html; charset=utf-8", page.encode()
