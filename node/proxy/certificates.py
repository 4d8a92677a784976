"""Which certificate answers for which name: pure, immutable, swapped whole."""

from collections.abc import Iterable

import msgspec

from node.proxy.routes import normalize_host


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """A private key and its certificates (PEM: the key, the leaf, then whoever signed), good for `names`.

    A name is a domain, or `*.domain` for whatever has exactly one label more (RFC 6125 §6.4.3).
    """

    names: tuple[str, ...]
    pem: bytes

    def __repr__(self) -> str:
        return f"Chain({', '.join(self.names)})"


class CertificateTable:
    """All chains of a node; never changed after `build_certificate_table` made it.

    `anonymous` is shown to clients that name no server, as those do that go by an address; None refuses them.
    """

    __slots__ = ("_by_name", "_chains", "anonymous")

    def __init__(self, by_name: dict[str, Chain], anonymous: Chain | None) -> None:
        self._by_name = by_name
        self._chains = frozenset(chain.pem for chain in by_name.values())
        self.anonymous = anonymous

    def find(self, name: str | None) -> Chain | None:
        """The chain for the server that a client named: its own, else that of the wildcard one label above."""
        if name is None:
            return self.anonymous
        plain = normalize_host(name)
        found = self._by_name.get(plain)
        if found is not None:
            return found
        first, dot, parent = plain.partition(".")
        return self._by_name.get(f"*.{parent}") if first and dot else None

    def shows(self, pem: bytes) -> bool:
        """Whether some name leads to that chain."""
        return pem in self._chains or (self.anonymous is not None and self.anonymous.pem == pem)

    def __len__(self) -> int:
        return len(self._by_name)


def build_certificate_table(chains: Iterable[Chain], anonymous: Chain | None = None) -> CertificateTable:
    """The table of `chains`; where two are good for one name the first has it."""
    by_name: dict[str, Chain] = {}
    for chain in chains:
        for name in chain.names:
            by_name.setdefault(normalize_host(name), chain)
    return CertificateTable(by_name, anonymous)
