"""Ports as people write them: `80`, `8080:80`, `127.0.0.1:53:53/udp`, `9000-9010:80-90`."""

import re
from typing import Final

from orca.model.spec import PortSpec, Protocol
from orca.specs.findings import shown

RANGE_MAX: Final = 200
PORT_ALLOWED: Final = '80, "8080:80", "127.0.0.1:53:53/udp"'

_PORT: Final = re.compile(
    r"(?:(?:(?P<ip>\[[0-9A-Fa-f:.%]+\]|[0-9.]+|[0-9A-Fa-f:]*::[0-9A-Fa-f:]*):)?(?P<host>[0-9]*(?:-[0-9]+)?):)?"
    r"(?P<port>[0-9]{1,9}(?:-[0-9]{1,9})?)(?:/(?P<protocol>[A-Za-z]+))?"
)


def parse_ports(text: str) -> tuple[PortSpec, ...]:
    """The ports that `text` names; one, unless it is a range.

    Numbers are checked by the rules, not here. Raises ValueError.
    """
    match = _PORT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{shown(text)} is no port; write it like {PORT_ALLOWED}")
    name = (match["protocol"] or "tcp").lower()
    if name not in {"tcp", "udp"}:
        raise ValueError(f"protocol {shown(name)} is not supported; write tcp or udp")
    protocol = Protocol(name)
    address = (match["ip"] or "0.0.0.0").strip("[]")  # noqa: S104 - what Docker does too
    ports = parse_range(match["port"])
    if not match["host"]:
        if match["ip"]:
            raise ValueError(f"{shown(text)} has an address but no host port; write it like 127.0.0.1:8080:80")
        return tuple(PortSpec(port=port, protocol=protocol) for port in ports)
    hosts = parse_range(match["host"])
    if len(hosts) != len(ports):
        raise ValueError(f"{shown(text)} pairs {len(hosts)} host ports with {len(ports)} ports")
    return tuple(
        PortSpec(port=port, protocol=protocol, host_port=host, host_ip=address)
        for host, port in zip(hosts, ports, strict=True)
    )


def parse_range(text: str) -> tuple[int, ...]:
    """The numbers of `80` or `80-90`; raises ValueError."""
    first, dash, last = text.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()) or len(text) > 24:
        raise ValueError(f"{shown(text)} is no port and no range of ports")
    low, high = int(first), int(last or first)
    if high < low or high - low >= RANGE_MAX:
        raise ValueError(f"{shown(text)} is no range of 1 to {RANGE_MAX} ports")
    return tuple(range(low, high + 1))
