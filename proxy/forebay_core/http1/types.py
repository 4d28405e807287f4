"""What both HTTP/1 codecs share: the error, its texts, the limits and the lists of field names.

A refusal is written here once, so that the pure and the compiled codec say the same of the same bytes. The order in
which a head's problems are looked for is part of the interface too:

1. is it complete and small enough, 2. the start line, 3. the syntax of every field line and their number,
4. Host, Content-Length, Transfer-Encoding, Connection, Expect, in this order, 5. an absolute target against Host.
"""

from ipaddress import AddressValueError, IPv6Address
from typing import Final, NamedTuple

# How an upstream frames the body of its answer (RFC 9112 section 6.3).
NO_BODY: Final = 0
LENGTH: Final = 1
CHUNKED: Final = 2
UNTIL_CLOSE: Final = 3

MAX_FIELDS: Final = 256  # lines in a head or trailer; nginx and HAProxy stop at about 100, browsers send some 20
MAX_METHOD: Final = 32  # bytes; the longest registered method (UPDATEREDIRECTREF) has 17
MAX_LENGTH_DIGITS: Final = 18  # of a Content-Length: the most that always fits a signed 64-bit integer
MAX_CONNECTION_OPTIONS: Final = 64  # each is compared with each field: this bounds the work that a head can ask for
MAX_CHUNK_EXTENSION: Final = 256  # bytes in one size line; nobody uses them, a stream of them is an attack
MAX_CHUNK_SIZE: Final = 1 << 60  # bytes: sums stay far away from 2^63

# Names are compared lowercased and with `_` read as `-`: a backend that maps both to one CGI variable must not see
# a second spelling of a field that decides something. Only the spelling with `-` is ever interpreted.
FRAMING: Final = (b"content-length", b"transfer-encoding")
HOP_BY_HOP: Final = (
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"te",
    b"upgrade",
    b"http2-settings",
    b"proxy-authorization",
    b"proxy-authenticate",
)
FORWARDING: Final = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded")
# What else proxies tell of a client: from one that is trusted it is passed on, from others dropped.
FORWARDED_PREFIX: Final = b"x-forwarded-"
FORWARDED_TOO: Final = (b"x-real-ip",)
DROPPED_FROM_REQUESTS: Final = frozenset((*FRAMING, *HOP_BY_HOP, *FORWARDING, b"expect"))
DROPPED_FROM_RESPONSES: Final = frozenset((*FRAMING, *HOP_BY_HOP))
# RFC 9110 section 6.5.1: framing, routing, authentication, modifiers and content format don't belong in a trailer.
DROPPED_FROM_TRAILERS: Final = DROPPED_FROM_REQUESTS | {
    *FORWARDED_TOO,
    b"host",
    b"trailer",
    b"via",
    b"max-forwards",
    b"authorization",
    b"cookie",
    b"set-cookie",
    b"www-authenticate",
    b"cache-control",
    b"range",
    b"location",
    b"content-encoding",
    b"content-type",
    b"content-range",
}


class ProtocolError(Exception):
    """A peer's bytes are not HTTP/1 as we accept it.

    `status` is what a client is told: 400, 414, 417, 431, 501 or 505; 502 where the bytes are an upstream's head.
    `detail` names the problem, with the byte's offset in the scanned data where there is one. The chunk decoder does
    not know whose body it reads: its status is a client's (400 or 431), the caller answers 502 for an upstream's.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.status}: {self.detail}"


class Problem(NamedTuple):
    """A reason to refuse: the status for a client, and a text in which `{}` is an offset or a limit."""

    status: int
    text: str


BAD_BYTE = Problem(400, "NUL, bare CR or bare LF at byte {}")
EMPTY_START_LINE = Problem(400, "empty line where the start line should be, at byte {}")
LONG_REQUEST_LINE = Problem(414, "the request line is longer than {} bytes")
LARGE_HEAD = Problem(431, "the head is larger than {} bytes")
LARGE_TRAILER = Problem(431, "the trailer is larger than {} bytes")
MANY_FIELDS = Problem(431, "more than {} fields")

BAD_METHOD = Problem(400, "the method is not a token and one space, at byte {}")
LONG_METHOD = Problem(501, "the method is longer than {} bytes")
BAD_TARGET = Problem(400, "the request target is not visible ASCII without '#' and one space, at byte {}")
BAD_VERSION = Problem(400, "the request line does not end in HTTP/1.1 and CRLF, at byte {}")
OTHER_VERSION = Problem(505, "the version is neither HTTP/1.0 nor HTTP/1.1")
CONNECT_REFUSED = Problem(501, "CONNECT is not offered here")
TARGET_FORM = Problem(400, "the target is not a path, an http(s) URI with a plain authority, or * for OPTIONS")
BAD_STATUS_LINE = Problem(502, "the status line is not HTTP/1.0 or HTTP/1.1, a status of 100 to 599 and a reason")

FOLDED_LINE = Problem(400, "folded field line (obs-fold) at byte {}")
BAD_NAME = Problem(400, "a field name is not a token followed at once by a colon, at byte {}")
BAD_VALUE = Problem(400, "control byte in a field value, at byte {}")

HOST_REPEATED = Problem(400, "more than one Host")
HOST_BAD = Problem(400, "Host is not a host with an optional port")
HOST_MISSING = Problem(400, "Host is missing")
LENGTH_REPEATED = Problem(400, "more than one Content-Length")
LENGTH_BAD = Problem(400, "Content-Length is not one to 18 digits")
CODING_REPEATED = Problem(400, "more than one Transfer-Encoding")
BOTH_FRAMINGS = Problem(400, "both Content-Length and Transfer-Encoding")
CODING_IN_1_0 = Problem(400, "Transfer-Encoding in an HTTP/1.0 message")
CODING_UNKNOWN = Problem(501, "Transfer-Encoding is not just chunked")
CONNECTION_BAD = Problem(400, "Connection is not a list of at most 64 tokens")
EXPECT_UNKNOWN = Problem(417, "Expect is not 100-continue")
TARGET_AGAINST_HOST = Problem(400, "the target's authority is not what Host says")
SWITCH_WITHOUT_UPGRADE = Problem(502, "101 without an Upgrade that Connection names")

CHUNK_LINE = Problem(400, "a chunk's size line is not 1 to 16 hex digits, at most 256 bytes of extension and CRLF")
CHUNK_END = Problem(400, "a chunk's data is not followed by CRLF")
CHUNK_SIZE = Problem(400, "a chunk is larger than 2^60 bytes")


def refusal(problem: Problem, number: int = 0, response: bool = False) -> ProtocolError:
    """The error for a problem; `number` is its offset or limit, `response` makes the status 502."""
    return ProtocolError(502 if response else problem.status, problem.text.format(number))


def is_ipv6(address: bytes) -> bool:
    """Whether this is an IPv6 address (RFC 3986 section 3.2.2). The caller passes only hex digits, `:` and `.`."""
    try:
        IPv6Address(address.decode("ascii"))
    except AddressValueError:
        return False
    return True
