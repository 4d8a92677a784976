"""The proxy beside nginx, HAProxy and Caddy: `python -m simulations.bench proxy`.

All of them with one worker, in front of the same nginx, asked by the same wrk in turns within one run. Every request
has another URL and twelve header fields, as browsers send them. The figure is what a request costs in processor time
(user and system) of the proxy's own process, which other work on the computer disturbs less than it does the rate.
Two cores that others kept busy as well (load average 20), one go each of two seconds:

    CPU us a request     nginx   HAProxy   Caddy   ours
    8 keep-alive          32.6      28.7   109.7   60.5
    64 keep-alive         30.1      29.0   143.2   61.6    >= 2 x Caddy met; >= 0.5 x nginx missed by 2 %
    16, close             64.0      64.1   190.1  109.8
    1 MB bodies           1411       993     745    416    cheaper than nginx: met

With 64 connections p99 was 59 ms beside nginx's 28 ms (goal twice, missed), which says more about the load than about
either. Before there was a fast lane, the rows were 516, 610, 697 and 1,933 us.

In TLS 1.3, P-256 certificates, sessions resumed where wrk resumes them, on another day at load averages of 6 to 8 (five
goes of two seconds for the first row, two for the others; ours went from 84 to 196 us in it, after what else ran):

    CPU us a request     nginx   HAProxy   Caddy   ours
    64 TLS keep-alive     38.8      42.2   229.1  124.1    >= 1.2 x Caddy met
    16 TLS, close          495       559     732   1158    half of it is OpenSSL's handshake
    1 MB TLS bodies       1539      1839    1114   1828    nothing to splice: encrypted in our own memory

A thousand clients that kept their TLS connections took 17.5 MB, 54 MB with all the rest (goal 60).

`ORCA_BENCH_LOAD=TLS` measures these alone, `ORCA_BENCH_ONLY=nginx` beside one yardstick. Yardsticks that are not
installed are left out: `apt-get install nginx wrk haproxy caddy`.
"""

import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from node.trust.authority import encode_key, load_key
from node.trust.credentials import pem_of
from node.trust.leaves import make_ingress_authority, make_leaf_request, sign_leaf
from orca.model.ids import ClusterId
from orca.model.units import WallMs
from simulations.bench.proxy_end import DOMAIN, HOST
from simulations.bench.report import Line, say, show

ROUNDS: Final = int(os.environ.get("ORCA_BENCH_ROUNDS", "3"))
SECONDS: Final = int(os.environ.get("ORCA_BENCH_SECONDS", "3"))
START_S: Final = 10.0
BIG_BYTES: Final = 2**20
OURS: Final = "ours"

_WRK: Final = """
local count = 0
wrk.headers["Host"] = "web.example"
wrk.headers["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
wrk.headers["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
wrk.headers["Accept-Language"] = "en-US,en;q=0.5"
wrk.headers["Accept-Encoding"] = "gzip, deflate, br"
wrk.headers["Referer"] = "https://web.example/start"
wrk.headers["Cookie"] = "session=4f2a9c1e8b7d; theme=dark; visits=17"
wrk.headers["Cache-Control"] = "no-cache"
wrk.headers["Sec-Fetch-Dest"] = "document"
wrk.headers["Sec-Fetch-Mode"] = "navigate"
wrk.headers["Sec-Fetch-Site"] = "same-origin"
wrk.headers["X-Trace"] = "0af7651916cd43dd8448eb211c80319c"
%s
request = function()
  count = count + 1
  return wrk.format("GET", "%s/item-" .. count .. "?page=" .. (count %% 97))
end
"""


class _Load(msgspec.Struct, frozen=True, kw_only=True):
    """One way of asking."""

    name: str
    connections: int
    path: str = "/small"
    closes: bool = False
    is_tls: bool = False


class _Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """One that is asked: its process, and its ports in the clear and for TLS."""

    pid: int
    port: int
    tls_port: int


LOADS: Final = (
    _Load(name="8 keep-alive", connections=8),
    _Load(name="64 keep-alive", connections=64),
    _Load(name="16, close", connections=16, closes=True),
    _Load(name="1 MB bodies", connections=8, path="/big"),
    _Load(name="64 TLS keep-alive", connections=64, is_tls=True),
    _Load(name="16 TLS, close", connections=16, closes=True, is_tls=True),
    _Load(name="1 MB TLS bodies", connections=8, path="/big", is_tls=True),
)


class _Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one proxy did in one go."""

    requests: int
    rate: float
    cpu_s: float
    p99_ms: float
    rss_mb: float

    @property
    def cpu_us(self) -> float:
        return self.cpu_s / max(1, self.requests) * 1e6


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def _process(command: list[str], port: int, environment: Mapping[str, str] | None = None) -> Iterator[int]:
    """Run `command` until it listens on `port`; its process id."""
    merged = {**os.environ, **(environment or {})}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=merged) as process:
        try:
            _await_port(port)
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def _await_port(port: int) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        try:
            socket.create_connection((HOST, port), 0.2).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"nothing listens on port {port} after {START_S:g} s")


@contextmanager
def _nginx(folder: Path, name: str, server: str, port: int) -> Iterator[int]:
    home = folder / name
    home.mkdir()
    paths = " ".join(f"{kind}_temp_path {home};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (home / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {home}/pid; error_log {home}/error.log;\n"
        f"events {{ worker_connections 4096; }}\nhttp {{ access_log off; keepalive_requests 100000000; {paths}\n"
        f"sendfile on; tcp_nodelay on; {server} }}\n"
    )
    with _process(["nginx", "-p", str(home), "-c", str(home / "nginx.conf")], port) as pid:
        yield pid


@contextmanager
def _upstream(folder: Path) -> Iterator[int]:
    port = _free_port()
    (folder / "big").write_bytes(os.urandom(BIG_BYTES))
    body = "x" * 1024
    server = (
        f'server {{ listen {HOST}:{port} backlog=4096; location /small {{ return 200 "{body}"; }}\n'
        f"location /big {{ root {folder}; try_files /big =404; }} }}"
    )
    with _nginx(folder, "upstream", server, port):
        yield port


def _make_chain(folder: Path) -> None:
    """A P-256 key and its certificate in one file, and each in one of its own beside it."""
    at_ms = WallMs(int(time.time() * 1000))
    keys = [encode_key(ec.generate_private_key(ec.SECP256R1())) for _ in range(2)]
    authority = make_ingress_authority(ClusterId("bench"), keys[0], serial=1, at_ms=at_ms)
    leaf = sign_leaf(authority, (DOMAIN, HOST), make_leaf_request(keys[1]), serial=2, at_ms=at_ms)
    key = load_key(keys[1]).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "web.key").write_bytes(key)
    (folder / "web.crt").write_text(pem_of(leaf))
    (folder / "web.pem").write_bytes(key + pem_of(leaf).encode())


@contextmanager
def _yardstick(name: str, folder: Path, upstream: int) -> Iterator[_Proxy]:
    """The proxy called `name`."""
    port, tls_port = _free_port(), _free_port()
    match name:
        case "nginx":
            server = (
                f"upstream one {{ server {HOST}:{upstream}; keepalive 128; keepalive_requests 100000000; }}\n"
                f"server {{ listen {HOST}:{port} backlog=4096; listen {HOST}:{tls_port} ssl backlog=4096;\n"
                "ssl_protocols TLSv1.2 TLSv1.3; "
                f"ssl_certificate {folder}/web.crt; ssl_certificate_key {folder}/web.key;\n"
                "location / { proxy_pass http://one;\n"
                'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;\n'
                "proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;\n"
                "proxy_set_header X-Request-Id $request_id; } }"
            )
            with _nginx(folder, "proxy", server, port) as pid:
                yield _Proxy(pid=pid, port=port, tls_port=tls_port)
        case "haproxy":
            config = folder / "haproxy.cfg"
            config.write_text(
                "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 5s\n"
                "  timeout client 60s\n  timeout server 60s\n  option forwardfor\n  http-reuse always\n"
                f"frontend in\n  bind {HOST}:{port}\n  bind {HOST}:{tls_port} ssl crt {folder}/web.pem\n"
                "  unique-id-format %{+X}o%ci%rt\n"
                "  unique-id-header X-Request-Id\n  default_backend out\n"
                f"backend out\n  server one {HOST}:{upstream}\n"
            )
            with _process(["haproxy", "-db", "-f", str(config)], port) as pid:
                yield _Proxy(pid=pid, port=port, tls_port=tls_port)
        case "caddy":
            config = folder / "Caddyfile"
            config.write_text(
                "{\n  admin off\n  auto_https off\n}\n"
                f"http://:{port} {{\n  bind {HOST}\n  reverse_proxy {HOST}:{upstream}\n}}\n"
                f"https://{DOMAIN}:{tls_port}, https://{HOST}:{tls_port} {{\n  bind {HOST}\n"
                f"  tls {folder}/web.crt {folder}/web.key\n  reverse_proxy {HOST}:{upstream}\n}}\n"
            )
            command = ["caddy", "run", "--config", str(config), "--adapter", "caddyfile"]
            with _process(command, port, {"GOMAXPROCS": "1", "HOME": str(folder)}) as pid:
                yield _Proxy(pid=pid, port=port, tls_port=tls_port)
        case _:
            command = [sys.executable, "-m", "simulations.bench.proxy_end", str(upstream), "1", str(folder / "web.pem")]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                try:
                    ports = process.stdout.readline().split()
                    yield _Proxy(pid=process.pid, port=int(ports[0]), tls_port=int(ports[1]))
                finally:
                    process.kill()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def _ask(load: _Load, folder: Path, proxy: _Proxy) -> _Result:
    script = folder / "load.lua"
    extra = 'wrk.headers["Connection"] = "close"' if load.closes else ""
    script.write_text(_WRK % (extra, load.path))
    before = _cpu_s(proxy.pid)
    said = subprocess.run(
        [
            "wrk",
            "-t1",
            f"-c{load.connections}",
            f"-d{SECONDS}s",
            "--latency",
            "-s",
            str(script),
            f"https://{HOST}:{proxy.tls_port}" if load.is_tls else f"http://{HOST}:{proxy.port}",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    cpu_s = _cpu_s(proxy.pid) - before
    for line in said.splitlines():
        if "Socket errors" in line or "Non-2xx" in line:
            say(f"proxy: {load.name}: {line.strip()}")
    requests = re.search(r"([0-9]+) requests in", said)
    rate = re.search(r"Requests/sec: +([0-9.]+)", said)
    p99 = re.search(r"99% +([0-9.]+)(us|ms|s)", said)
    if requests is None or rate is None or p99 is None:
        raise SystemExit(f"wrk says something new: {said}")
    p99_ms = float(p99[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[p99[2]]
    rss_mb = _rss_mb(proxy.pid)
    return _Result(requests=int(requests[1]), rate=float(rate[1]), cpu_s=cpu_s, p99_ms=p99_ms, rss_mb=rss_mb)


def _lines(load: _Load, results: Mapping[str, list[_Result]]) -> Iterator[Line]:
    def median(name: str, field: str) -> float:
        return float(statistics.median(getattr(one, field) for one in results[name]))

    for name, found in results.items():
        say(
            f"proxy: {load.name:17} {name:8} {median(name, 'cpu_us'):8.1f} us/req {median(name, 'rate'):9.0f} req/s "
            f"p99 {median(name, 'p99_ms'):6.1f} ms  RSS {max(one.rss_mb for one in found):5.1f} MB"
        )
    goals = {("64 keep-alive", "nginx"): 2.0, ("64 keep-alive", "caddy"): 0.5, ("64 TLS keep-alive", "caddy"): 1 / 1.2}
    for name in ("nginx", "caddy", "haproxy"):
        if name in results:
            yield Line(
                bench="proxy",
                what=f"{load.name}: CPU a request",
                unit="us",
                result=median(OURS, "cpu_us"),
                limit=median(name, "cpu_us"),
                limit_name=f"({name})",
                goal=goals.get((load.name, name)),
            )
    if "nginx" in results:
        yield Line(
            bench="proxy",
            what=f"{load.name}: p99",
            unit="ms",
            result=median(OURS, "p99_ms"),
            limit=median("nginx", "p99_ms"),
            limit_name="(nginx)",
            goal=2.0 if load.name == "64 keep-alive" else None,
        )


def main() -> list[Line]:
    """Every load against every proxy, in turns."""
    missing = [name for name in ("nginx", "wrk") if shutil.which(name) is None]
    if missing:
        say(f"proxy: left out, {' and '.join(missing)} not installed")
        return []
    only = os.environ.get("ORCA_BENCH_ONLY", "")
    names = [name for name in ("nginx", "haproxy", "caddy") if shutil.which(name) and name in (only or name)]
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        folder = Path(made)
        folder.chmod(0o755)
        _make_chain(folder)
        upstream = stack.enter_context(_upstream(folder))
        proxies = {name: stack.enter_context(_yardstick(name, folder, upstream)) for name in (*names, OURS)}
        for load in LOADS:
            if os.environ.get("ORCA_BENCH_LOAD", "") not in load.name:
                continue
            results: dict[str, list[_Result]] = {name: [] for name in proxies}
            for _ in range(ROUNDS):
                for name, proxy in proxies.items():
                    results[name].append(_ask(load, folder, proxy))
            lines += _lines(load, results)
    return lines


if __name__ == "__main__":
    show(main())
