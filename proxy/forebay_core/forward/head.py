"""The head of a request to a forward proxy: absolute-form, or CONNECT with authority-form (RFC 9112 section 3.2).

The fields are the codec's to judge (`forebay_core.http1`). It has no CONNECT, so such a head is given to it as OPTIONS
with a path of the same length: its refusals name the right bytes. Host has to be a valid one there, and says nothing:
it goes no further, and clients put their proxy's name into it (Node's undici 5).
"""

import re
from typing import NamedTuple

from forebay_core.forward.target import Target, TargetError, parse_absolute, parse_authority
from forebay_core.http1 import ProtocolError, RequestHead, scan_request

_START = re.compile(rb"(?:\r\n)?([^ \r\n]++) ([^ \r\n]++) ")
_AUTHORIZATION = re.compile(rb"\r\n[Pp](?i:roxy-authorization):[ \t]*+([^\r]*+)")
_CONNECT = b"CONNECT"


class ForwardHead(NamedTuple):
    """A client's head, validated. What follows `end` after CONNECT is the tunnel's."""

    end: int  # index of the first byte after the head's blank line
    target: Target
    connect: bool
    authorization: bytes  # value of Proxy-Authorization, b"" where there is none
    request: RequestHead  # as the origin gets it; of CONNECT only `minor` means something
    uri: bytes  # the target as received

    @property
    def via(self) -> bytes:
        """The lines of Via, which say by whose hands it has gone."""
        return b"".join(line + b"\r\n" for line in self.request.head.split(b"\r\n") if line[:4].lower() == b"via:")

    @property
    def absolute(self) -> bytes:
        """The head as a parent gets it, in absolute-form; the caller appends its own fields and the blank line."""
        fields = self.request.head.index(b"\r\n")
        return b"%s %s HTTP/1.1%s" % (self.request.method, self.uri, self.request.head[fields:])


def scan_forward(data: bytes, max_head: int) -> ForwardHead | None:
    """Read a head at the start of `data`; None while it is incomplete. `max_head` is in bytes, the blank line included.
    Raises ProtocolError.
    """
    start = _START.match(data)
    connect = start is not None and start[1] == _CONNECT
    if connect and start is not None:
        path = b"/" * len(start[2])
        request = scan_request(
            b"%sOPTIONS %s %s" % (data[: start.start(1)], path, data[start.end() :]), max_head, False
        )
    else:
        request = scan_request(data, max_head, False)
    if request is None or start is None:  # what the codec has taken has a start
        return None
    uri = start[2]
    try:
        target = parse_authority(uri, None) if connect else parse_absolute(uri)
    except TargetError as error:
        raise ProtocolError(400, str(error)) from None
    if connect and (request.chunked or request.content_length >= 0):
        # RFC 9110 section 9.3.6: it has no meaning there, and could be the begin of the tunnel to the one, a body to
        # the other.
        raise ProtocolError(400, "expected CONNECT without Content-Length and Transfer-Encoding")
    found = _AUTHORIZATION.findall(data, start.end(), request.end)
    if len(found) > 1:
        raise ProtocolError(400, "more than one Proxy-Authorization")
    authorization = found[0].rstrip(b" \t") if found else b""
    return ForwardHead(request.end, target, connect, authorization, request, uri)
