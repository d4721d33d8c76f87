"""Where an outgoing HTTP request may go: to public addresses, and to those that the settings allow. Nobody else's word counts.

A name is resolved here and its addresses are judged; aiohttp then connects to these very addresses, so a name that means another
address a moment later (DNS rebinding) leads nowhere. Proxies of the environment are not asked: they would resolve for themselves.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult

from iotcore.errors import DeliveryError
from iotcore.settings_ways import Asked

NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in its last 32 bits


class NotAllowed(OSError):
    """Every address of a name is one that a request may not go to."""


@dataclass(frozen=True, slots=True)
class Egress:
    """What is allowed besides public addresses over TLS."""

    allow_http: bool = False
    allow_private: bool = False
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def of(cls, asked: Asked) -> Egress:
        """As a receiver's settings say."""
        return cls(asked.allow_http, asked.allow_private, tuple(ip_network(text) for text in asked.allow_networks))

    def check(self, url: str) -> None:
        """Refuse an address that no request may go to, as far as it can be told before a name is resolved.

        Raises:
            DeliveryError: `not_allowed`.
        """
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and self.allow_http):
            raise DeliveryError("not_allowed", f"{parts.scheme}:// (allow_http is not set)")
        try:
            address = ip_address(parts.hostname or "")
        except ValueError:
            return  # a name: the resolver judges what it means
        if not self.allows(address):
            raise DeliveryError("not_allowed", refused(str(address), [str(address)]))

    def allows(self, address: IPv4Address | IPv6Address) -> bool:
        """Whether a request may go to an address."""
        meant = inner(address)
        if any(address in network or meant in network for network in self.networks):
            return True
        if meant.is_multicast or meant.is_unspecified:
            return False
        return self.allow_private or (meant.is_global and address.is_global) or (address in NAT64 and meant.is_global)


class CheckedResolver(AbstractResolver):
    """Resolves as the machine does, and gives only addresses that are allowed."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """The allowed addresses of a name.

        Raises:
            NotAllowed: there are some, and none is allowed.
            OSError: there are none.
        """
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        # a link-local IPv6 address has a zone ("fe80::1%eth0"), which is no part of the address
        places = [(kind, proto, str(where[0]), int(where[1])) for kind, _, proto, _, where in found]
        allowed = [
            ResolveResult(hostname=host, host=text, port=at, family=kind, proto=proto, flags=numeric)
            for kind, proto, text, at in places
            if self._egress.allows(ip_address(text.partition("%")[0]))
        ]
        if not allowed:
            raise NotAllowed(refused(host, [text for _, _, text, _ in places]))
        return allowed

    async def close(self) -> None:
        """Nothing is held."""


def inner(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 address stands for: mapped, 6to4, NAT64; else itself."""
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else address)


def refused(host: str, addresses: Sequence[str]) -> str:
    """What to say of a place that no request may go to."""
    means = "" if [host] == list(addresses) else f" means {', '.join(dict.fromkeys(addresses))}, which"
    return f"{host}{means} is not public; allow_private or allow_networks of the receiver would allow it"
