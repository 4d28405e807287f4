"""The PROXY protocol header, versions 1 and 2: who the client is, said by the load balancer in front of us.

Source: "The PROXY protocol", HAProxy, 2020/03/05. A connection without a valid header is refused: guessing would let
anybody who reaches the port say who he is.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, NamedTuple

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
LONGEST: Final = 536  # bytes that we look at: the 16 of version 2, its addresses and some TLVs; version 1 has 107
V1_LONGEST: Final = 107
_PORT = rb"(0|[1-9][0-9]{0,4})"
_V1 = re.compile(
    rb"PROXY (?:(TCP4|TCP6) ([0-9A-Fa-f:.]{2,39}) ([0-9A-Fa-f:.]{2,39}) %b %b|UNKNOWN[^\r\n]*)\r\n" % (_PORT, _PORT)
)


class Header(NamedTuple):
    """`length` bytes belong to the header; `client` is None where the balancer speaks for itself (LOCAL, UNKNOWN)."""

    length: int
    client: str | None


class HeaderError(Exception):
    """The connection does not begin with a valid header."""


def parse(data: bytes) -> Header | None:
    """The header that `data` begins with; None where more of it has to come. Raises HeaderError."""
    if data[: len(SIGNATURE)] == SIGNATURE[: len(data)]:
        return _parse_v2(data)
    if data[:6] != b"PROXY "[: len(data)]:
        raise HeaderError("the connection does not begin with a PROXY protocol header")
    end = data.find(b"\r\n", 0, V1_LONGEST)
    if end < 0:
        if len(data) >= V1_LONGEST:
            raise HeaderError(f"the PROXY line is longer than {V1_LONGEST} bytes")
        return None
    match = _V1.fullmatch(data, 0, end + 2)
    if match is None:
        raise HeaderError("the PROXY line is malformed")
    family, source = match[1], match[2]
    if family is None:
        return Header(end + 2, None)
    try:
        text = source.decode("ascii")
        address = IPv4Address(text) if family == b"TCP4" else IPv6Address(text)
    except AddressValueError:
        raise HeaderError("the PROXY line's source is not an address of its family") from None
    return Header(end + 2, str(address))


def _parse_v2(data: bytes) -> Header | None:
    if len(data) < 16:
        return None
    version, command, family = data[12] >> 4, data[12] & 15, data[13]
    length = 16 + int.from_bytes(data[14:16], "big")
    if version != 2 or command > 1:
        raise HeaderError("the PROXY header's version or command is unknown")
    if length > LONGEST:
        raise HeaderError(f"the PROXY header is longer than {LONGEST} bytes")
    if len(data) < length:
        return None
    if command == 0:
        return Header(length, None)
    if family == 0x11 and length >= 16 + 12:
        return Header(length, str(IPv4Address(data[16:20])))
    if family == 0x21 and length >= 16 + 36:
        return Header(length, str(IPv6Address(data[16:32])))
    raise HeaderError("the PROXY header is not of TCP over IPv4 or IPv6")
