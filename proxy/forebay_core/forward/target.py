"""Where a request to a forward proxy wants to go, read strictly (RFC 9110 section 7.1, RFC 9112 section 3.2).

What two programs may read in two ways is refused: rules would be checked on one reading, and the connection made by the
other. So a host whose last label is a number must be an IPv4 address of four decimal numbers (`127.1`, `0x7f.0.0.1`,
`017700000001` and `2130706433` are 127.0.0.1 to getaddrinfo), and there is no user, no percent-encoding and nothing
but ASCII; a name of another script comes as A-labels (`xn--`), as clients send it.
"""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, NamedTuple

Address = IPv4Address | IPv6Address

LONGEST_NAME: Final = 253  # characters without the trailing dot, RFC 1035 section 2.3.4
REMEMBERED: Final = 4096  # authorities whose reading is kept: a crawler asks the same ones again and again

_PORT = r"(?::([0-9]{1,5}))?"
_AUTHORITY = re.compile(rf"(?:\[([0-9A-Fa-f:.]{{2,45}})\]|([A-Za-z0-9._-]+)){_PORT}")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_ABSOLUTE = re.compile(rb"(?i:http)://([^/?]*+)(.*+)")


class TargetError(ValueError):
    """A request's target is refused, with a sentence for its client (400)."""


class Target(NamedTuple):
    """An origin: one host and port. Equal where they are the same to every rule."""

    host: str  # lower-case name without trailing dot, or an address in its canonical form
    port: int
    address: Address | None  # where the host is one

    @property
    def name(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_absolute(target: bytes) -> Target:
    """The origin of an absolute-form target. Raises TargetError."""
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise TargetError("expected a target such as http://host/path; https goes by CONNECT")
    return parse_authority(match[1], 80)


@lru_cache(REMEMBERED)
def parse_authority(authority: bytes, default_port: int | None) -> Target:
    """`host`, `host:port`, `[v6]` or `[v6]:port`; None: the port is required, as in CONNECT's authority-form. Raises
    TargetError.
    """
    try:
        match = _AUTHORITY.fullmatch(authority.decode("ascii"))
    except UnicodeDecodeError:
        match = None
    if match is None:
        if b"@" in authority:
            raise TargetError("expected a target without user and password")
        raise TargetError("expected a target of a host name or IP address, and a port")
    bracketed, plain, digits = match.groups()
    port = default_port if digits is None else int(digits)
    if port is None:
        raise TargetError("expected a target with a port")
    if not 1 <= port <= 65535:
        raise TargetError("expected a port from 1 to 65535")
    if bracketed is not None:
        address: Address = _ipv6(bracketed)
        return Target(str(address), port, address)
    name = plain.removesuffix(".").lower()
    last = name.rpartition(".")[2]
    if _NUMBER.fullmatch(last):
        address = _ipv4(plain)
        return Target(str(address), port, address)
    if len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
        raise TargetError("expected a host name of labels of 1 to 63 letters, digits, '-' and '_'")
    return Target(name, port, None)


def _ipv4(text: str) -> IPv4Address:
    try:
        if _IPV4.fullmatch(text):
            return IPv4Address(text)  # refuses leading zeros, which some read as octal
    except AddressValueError:
        pass
    raise TargetError("expected an IPv4 address of four decimal numbers from 0 to 255")


def _ipv6(text: str) -> IPv6Address:
    try:
        return IPv6Address(text)
    except AddressValueError:
        raise TargetError("expected an IPv6 address in the brackets") from None
