"""Whom messages may be sent to: a client names the address, and must not reach into the house."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import SplitResult, urlsplit

from penstock.errors import InputError, UnavailableError

__all__ = ["Targets"]

LONGEST_URL = 2_000
PORTS = {"http": 80, "https": 443}
TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # IPv4 addresses behind IPv6 ones

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Targets:
    """Whom messages may be sent to.

    Args:
        hosts: The setting ``webhook_hosts``.
    """

    def __init__(self, hosts: str) -> None:
        self._hosts = [host.strip().lower() for host in hosts.split(",") if host.strip()]

    def check(self, url: str) -> None:
        """See whether a message may be sent there, as far as the address says.

        Raises:
            InputError: It is no address of the web, or not among those that are allowed.
        """
        found = _split(url)
        if found is None:
            raise InputError(
                f"The webhook {url[:100]!r} is no address. Give one such as "
                "'https://hooks.example.com/scores'."
            )
        if found.username is not None or found.fragment:
            raise InputError("A webhook's address has no password and no fragment; leave them out.")
        if self._hosts and not self._is_listed(found):
            raise InputError(
                f"The webhook's host {found.hostname!r} is not allowed. Allowed is "
                f"{', '.join(self._hosts)} (setting webhook_hosts)."
            )
        if not self._hosts and found.scheme != "https":
            raise InputError(
                "The webhook is not encrypted. Give an address with https; or have its host listed "
                "in the setting webhook_hosts."
            )

    def address(self, url: str) -> str:
        """The address to connect to: looked up once, checked, and then used as it is.

        Raises:
            InputError: The name leads to an address that is not public, and its host is not listed.
            UnavailableError: The name leads nowhere.
        """
        split = _split(url)
        if split is None:
            raise InputError(f"{url[:100]!r} is no address.")
        host, port = split.hostname or "", _port(split)
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise UnavailableError(f"{host!r} leads nowhere: {error}.") from error
        addresses = [str(one[4][0]).partition("%")[0] for one in found]
        if not self._hosts:
            for one in addresses:
                if not _is_public(ipaddress.ip_address(one)):
                    raise InputError(
                        f"{host!r} leads to {one}, which is not public. Have the host listed "
                        "in the setting webhook_hosts, if it is meant."
                    )
        return addresses[0]

    def _is_listed(self, url: SplitResult) -> bool:
        name = url.hostname or ""
        named = {name, f"{name}:{_port(url)}"}
        return any(
            host in named or (host.startswith("*.") and name.endswith(host[1:]))
            for host in self._hosts
        )


def _split(url: str) -> SplitResult | None:
    """An address of the web in its parts; none where it is not one."""
    try:
        found = urlsplit(url)
        _port(found)
    except ValueError:
        return None
    plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= LONGEST_URL
    return found if plain and found.hostname and found.scheme in PORTS else None


def _port(url: SplitResult) -> int:
    return url.port or PORTS.get(url.scheme, 0)


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        hides = address.ipv4_mapped or address.sixtofour or address.teredo
        if hides or address in TRANSLATED:
            return False
    return address.is_global and not address.is_multicast
