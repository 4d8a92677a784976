"""Requests as environments, output as responses: pure rules."""

import pytest

from node.runtime.wasm.logs import LINE_BYTES_MAX, split_lines
from node.runtime.wasm.wagi import HEAD_BYTES_MAX, MalformedOutputError, Request, make_environment, parse_response


def request(target: bytes = b"/", headers: tuple[tuple[bytes, bytes], ...] = ()) -> Request:
    return Request(method="GET", target=target, http_version="1.1", headers=[(b"host", b"a:81"), *headers])


def test_proxy_header_never_becomes_http_proxy() -> None:
    """CVE-2016-5385, httpoxy."""
    env = make_environment(request(headers=((b"proxy", b"http://evil"), (b"x-a", b"1"))), {})
    assert "HTTP_PROXY" not in env
    assert env["HTTP_X_A"] == "1"


def test_name_with_underscore_cannot_pose_as_another_header() -> None:
    env = make_environment(request(headers=((b"x_real_ip", b"evil"), (b"x-real-ip", b"good"))), {})
    assert env["HTTP_X_REAL_IP"] == "good"


def test_path_is_decoded_and_the_raw_one_kept() -> None:
    env = make_environment(request(b"/a%20b%C3%A4?q=%20"), {"ORCA_NODE": "n", "PATH_INFO": "spec"})
    assert (env["PATH_INFO"], env["X_RAW_PATH_INFO"], env["QUERY_STRING"]) == ("/a bä", "/a%20b%C3%A4", "q=%20")
    assert (env["SERVER_NAME"], env["SERVER_PORT"], env["ORCA_NODE"]) == ("a", "81", "n")
    assert env["X_FULL_URL"] == "http://a:81/a%20b%C3%A4?q=%20"


def test_path_with_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        make_environment(request(b"/a%00b"), {})


def test_repeated_headers_are_joined() -> None:
    env = make_environment(
        request(headers=((b"x-a", b"1"), (b"x-a", b"2"), (b"cookie", b"a=1"), (b"cookie", b"b=2"))), {}
    )
    assert (env["HTTP_X_A"], env["HTTP_COOKIE"]) == ("1, 2", "a=1; b=2")


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_head_ends_at_the_first_empty_line(ending: bytes) -> None:
    output = b"content-type: a/b" + ending + b"x-y:  z " + ending * 2 + b"body\n\nmore"
    found = parse_response(output, is_whole=False)
    assert found is not None
    response, body = found
    assert (response.status, response.headers) == (200, [(b"content-type", b"a/b"), (b"x-y", b"z")])
    assert body == b"body\n\nmore"
    assert parse_response(output[:10], is_whole=False) is None


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"\n\nx",
        b"no colon\n\n",
        b"x y: bad name\n\n",
        b"x-only: 1\n\n",
        b"status: 100\n\n",
        b"status: 20\n\n",
        b"content-type: a\x00b\n\n",
        b"content-type: text/plain",
        b"x" * (HEAD_BYTES_MAX + 1),
    ],
)
def test_output_that_is_no_response_is_refused(output: bytes) -> None:
    with pytest.raises(MalformedOutputError):
        parse_response(output, is_whole=True)


def test_long_line_is_cut_between_characters() -> None:
    lines, rest = split_lines(b"", ("ä" * LINE_BYTES_MAX).encode() + b"x\nnext")
    assert b"".join(lines).decode() == "ä" * LINE_BYTES_MAX + "x"
    assert all(len(line) <= LINE_BYTES_MAX and line.decode() for line in lines)
    assert rest == b"next"
