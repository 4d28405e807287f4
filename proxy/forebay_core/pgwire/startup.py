"""The packets before the first message: start-up, requests for encryption, cancel requests (PostgreSQL docs 55.2.1,
55.2.8 to 55.2.11, 55.7). They have a length and a code, and no type.
"""

from enum import Enum
from typing import Final, NamedTuple

from forebay_core.pgwire.fields import Reader, int32, string, uint32
from forebay_core.pgwire.types import ProtocolError

MAX_PACKET: Final = 10_000  # bytes; PostgreSQL's MAX_STARTUP_PACKET_LENGTH
MAX_KEY: Final = 256  # bytes of a cancel key (protocol 3.2; before, it has 4)
NEWEST_MINOR: Final = 2  # of protocol 3: the newest that is spoken here

_MAJOR: Final = 3
_CANCEL: Final = 80877102
_SSL: Final = 80877103
_GSS: Final = 80877104
_TLS_HANDSHAKE: Final = 22  # the first byte of a TLS record with a ClientHello (RFC 8446 section 5.1)
_EXTENSION: Final = "_pq_."


class Encryption(Enum):
    """A client's wish for an encrypted connection. Nothing else may have been received when the handshake starts."""

    SSL = "SSLRequest"
    GSS = "GSSENCRequest"
    DIRECT_TLS = "direct TLS"  # a TLS handshake without a request, since PostgreSQL 17; its bytes are left unread


class CancelRequest(NamedTuple):
    """Cancel what the connection with this key does. There is no answer."""

    pid: int  # unsigned
    key: bytes  # 4 to 256 bytes


class Startup(NamedTuple):
    """A client's start-up message."""

    minor: int  # of protocol 3, as asked for
    parameters: dict[str, str]  # with `user`, and `database`, which is the user's name if it was not sent
    extensions: tuple[str, ...]  # names of protocol options (`_pq_.`), all unknown here

    @property
    def agreed_minor(self) -> int:
        """The minor version that is spoken."""
        return min(self.minor, NEWEST_MINOR)

    @property
    def negotiates(self) -> bool:
        """Whether the client has to be told, by NegotiateProtocolVersion, that it gets less than it asked for."""
        return self.minor > NEWEST_MINOR or bool(self.extensions)


Packet = Encryption | CancelRequest | Startup


def read_startup(data: bytes) -> tuple[Packet, int] | None:
    """The packet at the start of a connection's bytes, and its end; None if it is not all there.

    Raises ProtocolError (08P01; 0A000 for another protocol version, 28000 without a user), as soon as the length or
    code is there and wrong.
    """
    if data[:1] == bytes((_TLS_HANDSHAKE,)):
        return Encryption.DIRECT_TLS, 0
    if len(data) < 4:
        return None
    length = int.from_bytes(data[:4], "big")
    if not 8 <= length <= MAX_PACKET:
        raise ProtocolError(f"start-up packet: length {length} at byte 0, expected 8 to {MAX_PACKET}")
    if len(data) < 8:
        return None
    code = int.from_bytes(data[4:8], "big")
    major, minor = code >> 16, code & 0xFFFF
    if code not in (_CANCEL, _SSL, _GSS) and major != _MAJOR:
        raise ProtocolError(f"protocol {major}.{minor} is not supported, expected 3.0 to 3.{NEWEST_MINOR}", "0A000")
    if len(data) < length:
        return None
    body = data[8:length]
    if code == _CANCEL:
        return _cancel_request(body), length
    if code in (_SSL, _GSS):
        packet = Encryption.SSL if code == _SSL else Encryption.GSS
        if body:
            raise ProtocolError(f"{packet.value}: length {length}, expected 8")
        return packet, length
    return _startup(minor, body), length


def _cancel_request(body: bytes) -> CancelRequest:
    reader = Reader("CancelRequest", body)
    request = CancelRequest(reader.uint32(), reader.rest())
    if not 4 <= len(request.key) <= MAX_KEY:
        raise reader.problem(f"a key of {len(request.key)} bytes, expected 4 to {MAX_KEY}")
    return request


def _startup(minor: int, body: bytes) -> Startup:
    reader = Reader("start-up packet", body)
    parameters: dict[str, str] = {}
    extensions: list[str] = []
    while name := reader.text():
        value = reader.text()
        if name.startswith(_EXTENSION):
            extensions.append(name)
        else:
            parameters[name] = value  # the last one counts, as in PostgreSQL
    reader.end()
    if not parameters.get("user"):
        raise ProtocolError("start-up packet: no user", "28000")
    if not parameters.get("database"):
        parameters["database"] = parameters["user"]
    return Startup(minor, parameters, tuple(extensions))


def write_startup(minor: int, parameters: dict[str, str]) -> bytes:
    """A start-up message."""
    pairs = b"".join(string(part) for pair in parameters.items() for part in pair)
    return _packet(_MAJOR << 16 | minor, pairs + b"\0")


def write_cancel(request: CancelRequest) -> bytes:
    """A CancelRequest."""
    return _packet(_CANCEL, uint32(request.pid) + request.key)


def _packet(code: int, body: bytes = b"") -> bytes:
    return int32(len(body) + 8) + int32(code) + body


SSL_REQUEST: Final = _packet(_SSL)
GSSENC_REQUEST: Final = _packet(_GSS)
