"""The HTTP/1 codec in pure Python: heads are validated and rewritten by regular expressions (RFC 9110, RFC 9112).

A good head is read once: one match takes its start line, and one more per field that means something to a proxy takes
that field with all lines before it; only a bad one is looked at again, to say what is wrong and where. None is read
before its blank line is there, or a peer that sends byte by byte could have it read for each. Quantifiers are
possessive: nothing here backtracks by more than a line, so the work is linear in the bytes whatever a peer sends.
`lower`, `strip` and `int` appear only where the argument is bytes that a pattern has matched: on bytes `lower` is
ASCII only, `strip` is given its bytes, and `int` sees nothing but ASCII digits.
"""

import re
from typing import NamedTuple

from forebay_core.http1.chunks import ChunkDecoder
from forebay_core.http1.fields import (
    TOKEN,
    TRIMMED,
    VALUE,
    any_of,
    bad_fields,
    check_incomplete,
    crowded,
    field_line,
    lines_without,
    tokens,
)
from forebay_core.http1.types import (
    BAD_METHOD,
    BAD_STATUS_LINE,
    BAD_TARGET,
    BAD_VERSION,
    BOTH_FRAMINGS,
    CHUNKED,
    CODING_IN_1_0,
    CODING_REPEATED,
    CODING_UNKNOWN,
    CONNECT_REFUSED,
    CONNECTION_BAD,
    DROPPED_FROM_REQUESTS,
    DROPPED_FROM_RESPONSES,
    EMPTY_START_LINE,
    EXPECT_UNKNOWN,
    FORWARDED_PREFIX,
    FORWARDED_TOO,
    FORWARDING,
    HOST_BAD,
    HOST_MISSING,
    HOST_REPEATED,
    LENGTH,
    LENGTH_BAD,
    LENGTH_REPEATED,
    LONG_METHOD,
    MAX_CONNECTION_OPTIONS,
    MAX_LENGTH_DIGITS,
    MAX_METHOD,
    NO_BODY,
    OTHER_VERSION,
    SWITCH_WITHOUT_UPGRADE,
    TARGET_AGAINST_HOST,
    TARGET_FORM,
    UNTIL_CLOSE,
    ProtocolError,
    is_ipv6,
    refusal,
)

__all__ = ["ChunkDecoder", "RequestHead", "ResponseHead", "answered", "scan_request", "scan_response"]

CLOSE = b"Connection: close\r\n"

_new = tuple.__new__  # the heads are made by it: half the time of their constructors, which only pass arguments on

_PORT = rb"(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[0-5]?[0-9]{0,4})"

_SLASH = ord("/")
_SPACE = ord(" ")
_TARGET = re.compile(rb"[!\"$-~]++")  # visible ASCII without `#`: a fragment is never sent
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]\r\n")
_NAME = rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]++|%[0-9A-Fa-f]{2})++"
_HOST = re.compile(rb"(?:\[([0-9A-Fa-f:.]{2,45})\]|%s)(?::%s)?" % (_NAME, _PORT))
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?]*+)(.*+)")
_TIMEOUT = re.compile(rb"(?i:timeout)=([0-9]{1,9})")
# What Connection says in nearly every message that has one: a look-up instead of a list to parse.
_USUAL_OPTIONS = {option: frozenset((option,)) for option in (b"close", b"keep-alive", b"upgrade")}
_NO_OPTIONS: frozenset[bytes] = frozenset()

_KEPT = frozenset((b"host", b"traceparent"))  # looked at, and passed on where they stand

# The lines to the next field that means something, and that field (groups `name` and `value`) or the blank line.
_UNTIL = rb"%%s(?:(?P<name>%%s):[ \t]*+(?P<value>%s)[ \t]*+\r\n|\r\n)" % TRIMMED
_REQUEST_SPECIAL = DROPPED_FROM_REQUESTS | _KEPT | {FORWARDED_PREFIX, *FORWARDED_TOO}
_REQUEST_FIELDS = _UNTIL % (lines_without(_REQUEST_SPECIAL), any_of(_REQUEST_SPECIAL))
_RESPONSE_LINES = lines_without(DROPPED_FROM_RESPONSES)
_RESPONSE_FIELDS = _UNTIL % (_RESPONSE_LINES, any_of(DROPPED_FROM_RESPONSES))

_REQUEST_LINE = rb"(%s{1,%d}+) ([!\"$-~]++) HTTP/1\.([01])\r\n" % (TOKEN, MAX_METHOD)
_STATUS_LINE = rb"HTTP/1\.([01]) ([1-5][0-9]{2})((?: %s*+)?+)\r\n" % VALUE
# Clients send Host first, as RFC 9110 section 7.2 asks: it is taken with the request line.
_HOST_FIRST = rb"(?:[Hh](?i:ost):[ \t]*+(%s)[ \t]*+\r\n|)" % TRIMMED

_request_line = re.compile(_REQUEST_LINE)
_request_start = re.compile(_REQUEST_LINE + _HOST_FIRST + _REQUEST_FIELDS)
_request_fields = re.compile(_REQUEST_FIELDS)
_status_line = re.compile(_STATUS_LINE)
_response_start = re.compile(_STATUS_LINE + _RESPONSE_FIELDS)
_response_fields = re.compile(_RESPONSE_FIELDS)

# Most answers: HTTP/1.1, a body with its length, and no other field that matters but, before or after it, a Connection
# that says what is so without it. The groups are what is passed on, the status and the length.
_LASTING = rb"(?:[Cc](?i:onnection):[ \t]*+(?i:keep-alive)[ \t]*+\r\n)?+"
_usual_response = re.compile(
    rb"(HTTP/1\.1 (?!204|304)([2-5][0-9]{2}) %(value)s*+\r\n%(lines)s)%(lasting)s(%(lines)s)"
    rb"[Cc](?i:ontent-length):[ \t]*+([0-9]{1,%(digits)d}+)[ \t]*+\r\n(%(lines)s)%(lasting)s(%(lines)s)\r\n"
    % {b"value": VALUE, b"lines": _RESPONSE_LINES, b"lasting": _LASTING, b"digits": MAX_LENGTH_DIGITS}
)
# Connection options that take nothing out: what they name has gone anyway, is no field, or must stay.
_REQUEST_OPTIONS = DROPPED_FROM_REQUESTS | {b"close", b"host"}
_RESPONSE_OPTIONS = DROPPED_FROM_RESPONSES | {b"close"}


class RequestHead(NamedTuple):
    """A client's head, validated (RFC 9112 sections 3 to 6)."""

    end: int  # index of the first byte after the head's blank line
    method: bytes
    target: bytes  # as forwarded: a path with its query, or `*`
    host: bytes  # as received; the target's authority if only that is given; b"" for HTTP/1.0 without any
    minor: int  # of the client's version
    content_length: int  # bytes; -1: none given
    chunked: bool
    keep_alive: bool  # what the client's version and Connection ask for
    expect_continue: bool  # the client waits for 100 before it sends a body
    upgrade: bytes  # value of Upgrade where the request may be forwarded as an upgrade, else b""
    head: bytes  # request line, kept fields, framing; the caller appends its own fields and the blank line
    forwarding: tuple[tuple[bytes, bytes], ...]  # a trusted client's X-Forwarded-* and Forwarded, names lowercased
    traceparent: bytes  # value if there is exactly one, else b""; the field stays in `head`
    lone: bool  # HTTP/1.1, no body, not HEAD, no forwarding fields, and nothing has come behind it


class ResponseHead(NamedTuple):
    """An upstream's head, validated (RFC 9112 sections 4 to 6)."""

    end: int  # index of the first byte after the head's blank line
    status: int
    minor: int  # of the upstream's version
    body: int  # NO_BODY, LENGTH, CHUNKED or UNTIL_CLOSE: how the upstream frames it
    content_length: int  # bytes, for LENGTH; else -1
    rechunk: bool  # the body goes downstream chunked
    close_downstream: bool  # the body goes downstream delimited by close: the client speaks HTTP/1.0
    keep_alive: bool  # the upstream's connection may be used again after this message
    keep_alive_timeout: int  # seconds, N of `Keep-Alive: timeout=N`; else -1
    upgrade: bytes  # value of Upgrade of a 101, else b""
    head: bytes  # status line, kept fields, framing, Via; the caller appends its own fields and the blank line


def scan_request(data: bytes, max_head: int, trusted: bool) -> RequestHead | None:
    """Read and rewrite a request's head at the start of `data`; None while it is incomplete.

    `max_head` is in bytes, the blank line included; `trusted` keeps the forwarding fields. One empty line before
    the request line is skipped (RFC 9112 section 2.2). Raises ProtocolError.
    """
    start = 2 if data.startswith(b"\r\n") else 0
    blank = data.find(b"\r\n\r\n", start, start + max_head)
    if blank < 0:
        check_incomplete(data, start, max_head, False)
        return None
    end = blank + 4
    match = _request_start.match(data, start, end)
    if match is None or crowded(data, start, end):
        raise bad_request(data, start, end)
    method, target, version, first_host, name, _ = match.groups()
    minor = 1 if version == b"1" else 0
    plain = target[0] == _SLASH and method != b"CONNECT"
    as_is = plain and minor == 1  # the request line
    if as_is and name is None and first_host is not None and is_host(first_host):
        # Most requests: but for Host no field means anything to a proxy, and the head is passed on as it is.
        head = data[start : end - 2]
        lone = method != b"HEAD" and end == len(data)
        return _new(RequestHead, (end, method, target, first_host, 1, -1, False, True, False, b"", head, (), b"", lone))

    fields = match.end(3) + 2
    found = {} if first_host is None else {b"host": [first_host]}
    kept: list[bytes] = []
    if not _read_fields(_request_fields, match, start if as_is else fields, end, found, kept, trusted):
        raise bad_request(data, start, end)
    authority = None
    if not plain:
        target, authority = _target(method, target)

    host = _host(found.get(b"host"), minor, authority)
    content_length, chunked = _framing(found, minor, False)
    options = _options(found.get(b"connection"), False)
    expects = found.get(b"expect")
    if expects is not None and any(value.lower() != b"100-continue" for value in expects):
        raise refusal(EXPECT_UNKNOWN)
    if authority is not None and host.lower() != authority.lower():
        raise refusal(TARGET_AGAINST_HOST)

    traces = found.get(b"traceparent")
    traceparent = traces[0] if traces is not None and len(traces) == 1 else b""
    if not options <= _REQUEST_OPTIONS:
        named = {option.replace(b"_", b"-") for option in options} - _REQUEST_OPTIONS
        kept = _without(named, kept, fields - start if as_is else 0)
        if b"traceparent" in named:
            traceparent = b""
    body = chunked or content_length > 0
    upgrade = b""
    if b"upgrade" in options and minor == 1 and not body:
        upgrade = _upgrade(found)

    if not as_is:
        added = b"Host: %s\r\n" % host if authority is not None and b"host" not in found else b""
        kept.insert(0, b"%s %s HTTP/1.1\r\n%s" % (method, target, added))
    if upgrade:
        kept.append(b"Connection: Upgrade\r\nUpgrade: %s\r\n" % upgrade)
    if chunked:
        kept.append(b"Transfer-Encoding: chunked\r\n")
    elif content_length >= 0:
        kept.append(b"Content-Length: %d\r\n" % content_length)
    forwarding = forwarding_fields(data, fields, end - 2) if trusted else ()
    members = (
        end,
        method,
        target,
        host,
        minor,
        content_length,
        chunked,
        b"close" not in options and (minor == 1 or b"keep-alive" in options),
        # RFC 9110 section 10.1.1: ignored in HTTP/1.0, and without a body there is nothing to wait for.
        expects is not None and minor == 1 and body,
        upgrade,
        b"".join(kept),
        forwarding,
        traceparent,
        minor == 1 and not body and not forwarding and method != b"HEAD" and end == len(data),
    )
    return _new(RequestHead, members)


def scan_response(data: bytes, max_head: int, to_head_request: bool, client_minor: int) -> ResponseHead | None:
    """Read and rewrite a response's head at the start of `data`; None while it is incomplete.

    `max_head` is in bytes, the blank line included; `client_minor` is the minor version of the client that gets the
    answer. Raises ProtocolError, always with status 502.
    """
    blank = data.find(b"\r\n\r\n", 0, max_head)
    if blank < 0:
        check_incomplete(data, 0, max_head, True)
        return None
    end = blank + 4
    usual = _usual_response.match(data, 0, end)
    if usual is not None and not to_head_request and not crowded(data, 0, end):
        line, digits, between, length, after, rest = usual.groups()
        content_length = int(length)
        head = b"%s%s%s%sContent-Length: %d\r\nVia: 1.1 forebay\r\n" % (line, between, after, rest, content_length)
        status = int(digits)
        return _new(ResponseHead, (end, status, 1, LENGTH, content_length, False, False, True, -1, b"", head))

    match = _response_start.match(data, 0, end)
    if match is None or crowded(data, 0, end):
        raise bad_response(data, end)
    version, digits, reason, _, _ = match.groups()
    minor = 1 if version == b"1" else 0
    status = int(digits)
    as_is = bool(reason) and minor == 1  # the status line
    fields = match.end(3) + 2
    found: dict[bytes, list[bytes]] = {}
    kept: list[bytes] = []
    if not _read_fields(_response_fields, match, 0 if as_is else fields, end, found, kept):
        raise bad_response(data, end)

    content_length, chunked = _framing(found, minor, True)
    options = _options(found.get(b"connection"), True)
    if not options <= _RESPONSE_OPTIONS:
        named = {option.replace(b"_", b"-") for option in options} - _RESPONSE_OPTIONS
        kept = _without(named, kept, fields if as_is else 0)
    upgrade = b""
    if status == 101:
        upgrade = _upgrade(found) if b"upgrade" in options and minor == 1 else b""
        if not upgrade:
            raise refusal(SWITCH_WITHOUT_UPGRADE, response=True)

    keep_alive = b"close" not in options and (minor == 1 or b"keep-alive" in options)
    body = CHUNKED if chunked else LENGTH if content_length >= 0 else UNTIL_CLOSE
    if status < 200 or status == 204:
        # Neither has a body, and must not say so; one that claims to have a body may yet send it.
        keep_alive = keep_alive and status != 101 and not chunked and content_length <= 0
        body, content_length = NO_BODY, -1
    elif status == 304 or to_head_request:
        body = NO_BODY
    elif body == UNTIL_CLOSE:
        keep_alive = False
    unsized = body > LENGTH  # chunked, or until close
    rechunk = unsized and client_minor == 1

    if not as_is:
        kept.insert(0, b"HTTP/1.1 %d%s\r\n" % (status, reason or b" "))
    if upgrade:
        kept.append(b"Connection: Upgrade\r\nUpgrade: %s\r\n" % upgrade)
    if rechunk:
        kept.append(b"Transfer-Encoding: chunked\r\n")
    elif content_length >= 0:
        kept.append(b"Content-Length: %d\r\n" % content_length)
    kept.append(b"Via: 1.1 forebay\r\n" if minor else b"Via: 1.0 forebay\r\n")
    members = (
        end,
        status,
        minor,
        body,
        content_length if body == LENGTH else -1,
        rechunk,
        unsized and not rechunk,
        keep_alive,
        _keep_alive_timeout(found[b"keep-alive"]) if b"keep-alive" in found else -1,
        upgrade,
        b"".join(kept),
    )
    return _new(ResponseHead, members)


def answered(data: bytes, max_head: int, last: bool) -> tuple[int, int, bytes] | None:
    """The usual answer to a lone request: whole, with its length, and the upstream's connection lasts. Its status, how
    many bytes its body has, and what the client gets, in one; `last`: its connection ends with it. None: it is another
    case."""
    try:
        head = scan_response(data, max_head, False, 1)
    except ProtocolError:
        return None
    if head is None or head.status < 200 or not head.keep_alive or head.keep_alive_timeout >= 0:
        return None
    size = len(data) - head.end
    if size != (head.content_length if head.body == LENGTH else 0 if head.body == NO_BODY else -1):
        return None
    return head.status, size, b"%b%b\r\n%b" % (head.head, CLOSE if last else b"", data[head.end :])


def bad_request(data: bytes, start: int, end: int) -> ProtocolError:
    """What is wrong with a request's complete head whose start line or fields have been found bad."""
    line = _request_line.match(data, start, end)
    if line is None:
        return bad_request_line(data, start, end - 2)
    _target(line[1], line[2])
    return bad_fields(data, line.end(), end - 2, False)


def bad_response(data: bytes, end: int) -> ProtocolError:
    """As `bad_request`."""
    line = _status_line.match(data, 0, end)
    return refusal(BAD_STATUS_LINE, 0, True) if line is None else bad_fields(data, line.end(), end - 2, True)


def bad_request_line(data: bytes, start: int, stop: int) -> ProtocolError:
    """What is wrong with a request line that has been found bad."""
    if data.startswith(b"\r\n", start):
        return refusal(EMPTY_START_LINE, start)
    method = tokens.match(data, start, stop)
    after = method.end() if method else start
    if method is None or data[after] != _SPACE:
        return refusal(BAD_METHOD, after)
    if after - start > MAX_METHOD:
        return refusal(LONG_METHOD, MAX_METHOD)
    target = _TARGET.match(data, after + 1, stop)
    after = target.end() if target else after + 1
    if target is None or data[after] != _SPACE:
        return refusal(BAD_TARGET, after)
    if _VERSION.match(data, after + 1, stop) is None:
        return refusal(BAD_VERSION, after + 1)
    return refusal(OTHER_VERSION)


def _target(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """The target to forward, and the authority of an absolute-form, for every method and form."""
    if method == b"CONNECT":
        raise refusal(CONNECT_REFUSED)
    return (target, None) if target[0] == _SLASH else other_form(method, target)


def other_form(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """The target to forward, and the authority of an absolute-form (RFC 9112 section 3.2)."""
    if target == b"*" and method == b"OPTIONS":
        return target, None
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or not is_host(absolute[1]):
        raise refusal(TARGET_FORM)
    path = absolute[2]
    if not path:
        path = b"*" if method == b"OPTIONS" else b"/"  # RFC 9112 section 3.2.4
    elif path[0] != _SLASH:
        path = b"/" + path
    return path, absolute[1]


def _read_fields(
    lines: re.Pattern[bytes],
    match: re.Match[bytes] | None,
    start: int,
    end: int,
    found: dict[bytes, list[bytes]],
    kept: list[bytes],
    trusted: bool = False,
) -> bool:
    """Whether a head that begins with `match` goes on in good field lines to its `end`.

    Adds the values of the special fields to `found`, by name as spelled, lowercased; and the runs of lines that are
    passed on to `kept`, the first from `start`: those of the `trusted` among them that are just passed on.
    """
    while match is not None:
        name, value = match.group("name", "value")
        data = match.string
        if name is None:  # the blank line
            kept.append(data[start : end - 2])
            return True
        name = name.lower()
        if name in found:
            found[name].append(value)
        else:
            found[name] = [value]
        after = match.end()
        if name not in _KEPT and not (trusted and _is_passed_on(name)):
            kept.append(data[start : match.start("name")])
            start = after
        match = lines.match(data, after, end)
    return False


def _is_passed_on(name: bytes) -> bool:
    """Whether this is a field, lowercased, that a proxy tells of its client, and that is not for us."""
    known = name in FORWARDED_TOO or name.startswith(FORWARDED_PREFIX)
    return known and name not in FORWARDING and b"_" not in name


def _without(named: set[bytes], kept: list[bytes], fields: int) -> list[bytes]:
    """The kept lines, from byte `fields` on without the fields that Connection names (RFC 9110 section 7.6.1)."""
    data = b"".join(kept)
    lines = field_line.finditer(data, fields)
    return [data[:fields], *(line[0] for line in lines if line[1].lower().replace(b"_", b"-") not in named)]


def is_host(value: bytes) -> bool:
    """Whether this is a host with an optional port (RFC 3986 sections 3.2.2 and 3.2.3), and not empty."""
    match = _HOST.fullmatch(value)
    return match is not None and (match[1] is None or is_ipv6(match[1]))


def _host(values: list[bytes] | None, minor: int, authority: bytes | None) -> bytes:
    """The one valid Host (RFC 9112 section 3.2)."""
    if values is None:
        if minor == 1:
            raise refusal(HOST_MISSING)
        return authority or b""
    if len(values) > 1:
        raise refusal(HOST_REPEATED)
    if not is_host(values[0]):
        raise refusal(HOST_BAD)
    return values[0]


def _framing(found: dict[bytes, list[bytes]], minor: int, response: bool) -> tuple[int, bool]:
    """Content-Length (-1: none) and whether the body is chunked (RFC 9112 sections 6.1 and 6.2, refusing all doubt)."""
    lengths = found.get(b"content-length")
    codings = found.get(b"transfer-encoding")
    content_length = -1
    if lengths is not None:
        if len(lengths) > 1:
            raise refusal(LENGTH_REPEATED, response=response)
        if not lengths[0].isdigit() or len(lengths[0]) > MAX_LENGTH_DIGITS:
            raise refusal(LENGTH_BAD, response=response)
        content_length = int(lengths[0])
    if codings is None:
        return content_length, False
    if len(codings) > 1:
        raise refusal(CODING_REPEATED, response=response)
    if lengths is not None:
        raise refusal(BOTH_FRAMINGS, response=response)
    if minor == 0:
        raise refusal(CODING_IN_1_0, response=response)
    if codings[0].lower() != b"chunked":
        raise refusal(CODING_UNKNOWN, response=response)
    return -1, True


def _options(values: list[bytes] | None, response: bool) -> frozenset[bytes]:
    """Connection's options, lowercased (RFC 9110 section 7.6.1)."""
    if values is None:
        return _NO_OPTIONS
    if len(values) == 1 and (usual := _USUAL_OPTIONS.get(values[0].lower())) is not None:
        return usual
    options = [option for value in values for part in value.lower().split(b",") if (option := part.strip(b" \t"))]
    if len(options) > MAX_CONNECTION_OPTIONS or not all(map(tokens.fullmatch, options)):
        raise refusal(CONNECTION_BAD, response=response)
    return frozenset(options)


def _upgrade(found: dict[bytes, list[bytes]]) -> bytes:
    """The value of a sole Upgrade, b"" where there is none, several, or one that offers h2c.

    h2c is never forwarded: the tunnel would carry requests that nobody has looked at.
    """
    values = found.get(b"upgrade", ())
    return values[0] if len(values) == 1 and b"h2c" not in values[0].lower() else b""


def forwarding_fields(data: bytes, start: int, stop: int) -> tuple[tuple[bytes, bytes], ...]:
    """The forwarding fields of a trusted client, in their order."""
    return tuple(
        (name, line[2].strip(b" \t"))
        for line in field_line.finditer(data, start, stop)
        if (name := line[1].lower()) in FORWARDING
    )


def _keep_alive_timeout(values: list[bytes]) -> int:
    for value in values:
        for part in value.split(b","):
            timeout = _TIMEOUT.fullmatch(part.strip(b" \t"))
            if timeout is not None:
                return int(timeout[1])
    return -1
