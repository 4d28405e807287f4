"""How the test origin behaves: one script per route, chosen by the request's path and query.

A script is a generator: it yields bytes to send, a float to wait for (seconds), or one of the actions below.
When it returns, the answer is complete and the connection waits for the next request. A path is
/ROUTE/ARGUMENT?OPTION=VALUE. Every answer that is well-formed also takes the options `delay` (seconds before
the head) and `h=Name:Value` (a further field, may be repeated).
"""

import enum
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.origin_bad import BAD


class Action(enum.Enum):
    CLOSE = "close"  # FIN
    RESET = "reset"  # RST
    CLOSE_ON_REUSE = "close on reuse"  # once complete: the next request's first bytes find it closed
    RESET_ON_REUSE = "reset on reuse"
    ECHO = "echo"  # from here on the connection is a raw echo


Step = bytes | float | Action
Script = Iterator[Step]


@dataclass
class Request:
    """A request as received. `body` is kept for routes that show it; length and digest are always there."""

    method: str
    target: str
    version: str
    headers: list[tuple[str, str]]
    connection: int  # which one it came on, counted from 1
    number: int  # which one it is on that connection, counted from 1
    route: str = ""
    argument: str = ""
    options: dict[str, list[str]] = field(default_factory=dict)
    length: int = 0
    digest: "hashlib._Hash | None" = None
    body: bytearray | None = None
    trailers: list[tuple[str, str]] = field(default_factory=list)
    health: int = 200
    status: int = 0  # of the answer

    def __post_init__(self) -> None:
        parts = urlsplit(self.target)
        self.route, _, self.argument = unquote(parts.path).lstrip("/").partition("/")
        if parts.query:
            self.options = parse_qs(parts.query, keep_blank_values=True)

    def option(self, name: str, default: str = "") -> str:
        return self.options.get(name, [default])[0]

    def number_of(self, name: str, default: int) -> int:
        return int(self.option(name, str(default)))


REASONS = {
    101: "Switching Protocols",
    103: "Early Hints",
    200: "OK",
    204: "No Content",
    304: "Not Modified",
    404: "Not Found",
}
BLOCK = bytes(range(32, 127)) * 690 + b"\n"  # 65,551 bytes of text that shows where a piece went missing


def head(request: Request, status: int, *fields: str) -> bytes:
    request.status = status
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}", f"X-Connection: {request.connection}"]
    lines += [f"X-Number: {request.number}", *fields]
    lines += [": ".join(extra.split(":", 1)) for extra in request.options.get("h", ())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def answer(request: Request, status: int, body: bytes = b"", *fields: str) -> Script:
    """A complete answer with Content-Length, as the method and the status allow."""
    if status >= 200 and status != 204:
        fields = (f"Content-Length: {len(body)}", *fields)
    bare = request.method == "HEAD" or status in (204, 304)
    yield head(request, status, *fields) + (b"" if bare else body)


def as_json(request: Request, value: Any) -> Script:
    return answer(request, 200, json.dumps(value).encode(), "Content-Type: application/json")


def blocks(size: int) -> Iterator[bytes]:
    """`size` bytes of the repeating block."""
    whole, rest = divmod(size, len(BLOCK))
    for _ in range(whole):
        yield BLOCK
    if rest:
        yield BLOCK[:rest]


def content(size: int) -> bytes:
    """The body of /bytes/SIZE, for tests to compare with."""
    return b"".join(blocks(size))


def ok(request: Request) -> Script:
    return answer(request, 200, b"ok\n")


def bytes_(request: Request) -> Script:
    """/bytes/N: N bytes with Content-Length."""
    size = int(request.argument)
    first = head(request, 200, f"Content-Length: {size}")
    if request.method == "HEAD":
        yield first
        return
    pieces = blocks(size)
    yield first + next(pieces, b"")
    yield from pieces


def chunked(request: Request) -> Script:
    """/chunked/N?size=BYTES&trailer=1&gap=SECONDS: N bytes in chunks of `size`, a gap after each."""
    size, gap, trailer = (
        request.number_of("size", 8192),
        float(request.option("gap", "0")),
        "trailer" in request.options,
    )
    fields = ["Transfer-Encoding: chunked"] + ["Trailer: X-Digest, X-Length"] * trailer
    yield head(request, 200, *fields)
    if request.method == "HEAD":
        return
    data = content(int(request.argument))
    for at in range(0, len(data), size):
        piece = data[at : at + size]
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
        if gap:
            yield gap
    tail = f"X-Digest: {hashlib.sha256(data).hexdigest()}\r\nX-Length: {len(data)}\r\n" if trailer else ""
    yield b"0\r\n" + tail.encode() + b"\r\n"


def slow(request: Request) -> Script:
    """/slow/SECONDS: nothing before that."""
    yield float(request.argument)
    yield from ok(request)


def dribble(request: Request) -> Script:
    """/dribble/N?gap=SECONDS: N bytes, one at a time."""
    data, gap = content(int(request.argument or "10")), float(request.option("gap", "0.05"))
    yield head(request, 200, f"Content-Length: {len(data)}")
    for at in range(len(data)):
        yield data[at : at + 1]
        yield gap


def echo(request: Request) -> Script:
    """/echo: the request's body back, with its trailers as X-Trailer fields."""
    fields = [f"X-Trailer-{name}: {value}" for name, value in request.trailers]
    return answer(request, 200, bytes(request.body or b""), *fields)


def upload(request: Request) -> Script:
    """/upload: length and SHA-256 of the request's body, as JSON."""
    assert request.digest is not None
    digest = request.digest.hexdigest()
    return as_json(request, {"length": request.length, "sha256": digest, "trailers": request.trailers})


def headers(request: Request) -> Script:
    """/headers: what was received, as JSON."""
    seen = {
        "method": request.method,
        "target": request.target,
        "version": request.version,
        "headers": request.headers,
    }
    return as_json(request, seen | {"connection": request.connection, "number": request.number})


def status(request: Request) -> Script:
    """/status/N."""
    code = int(request.argument)
    return answer(request, code, f"{code}\n".encode())


def healthz(request: Request) -> Script:
    """/healthz: the status that the control port set."""
    return answer(request, request.health, b"health\n")


def early(request: Request) -> Script:
    """/early/STATUS?close=1: answers before the body has come; with `close` it says so and closes."""
    closing = "close" in request.options
    yield from answer(request, int(request.argument or "200"), b"early\n", *["Connection: close"] * closing)
    if closing:
        yield Action.CLOSE


def close(request: Request) -> Script:
    """/close?silent=1: answers, then closes; `silent` leaves out `Connection: close`."""
    yield from answer(request, 200, b"ok\n", *["Connection: close"] * ("silent" not in request.options))
    yield Action.CLOSE


def close_on_reuse(request: Request) -> Script:
    """/close-on-reuse?reset=1: the next request on this connection finds it closed, unanswered: the race of a
    backend's idle timeout with a reuse, every time."""
    yield from ok(request)
    yield Action.RESET_ON_REUSE if "reset" in request.options else Action.CLOSE_ON_REUSE


def reset(request: Request) -> Script:
    """/reset?after=BYTES: RST within the answer, after so many bytes of its body; -1: before the head."""
    after = request.number_of("after", 10)
    if after >= 0:
        yield head(request, 200, f"Content-Length: {after + 1000}") + content(after)
        yield 0.02  # so that these bytes arrive: a RST overtakes what is in a buffer
    yield Action.RESET


def cut(request: Request) -> Script:
    """/cut?after=BYTES&chunked=1: FIN within the answer; after=-1: before the head."""
    after = request.number_of("after", 10)
    if after >= 0:
        chunks = "chunked" in request.options
        first = head(request, 200, "Transfer-Encoding: chunked" if chunks else f"Content-Length: {after + 1000}")
        yield first + (b"%x\r\n%b\r\n" % (after, content(after)) if chunks and after else content(after))
    yield Action.CLOSE


def garbage(request: Request) -> Script:
    """/garbage?delay_garbage=SECONDS: stray bytes after the complete answer, at once or later."""
    stray = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\npoison\n"
    later = float(request.option("delay_garbage", "0"))
    whole = b"".join(step for step in ok(request) if isinstance(step, bytes))
    if later:
        yield whole
        yield later
        yield stray
    else:
        yield whole + stray


def interim(request: Request) -> Script:
    """/1xx?n=COUNT&status=103: interim answers first."""
    code = request.number_of("status", 103)
    for _ in range(request.number_of("n", 1)):
        reason = REASONS.get(code, "Interim")
        yield f"HTTP/1.1 {code} {reason}\r\nLink: </style.css>; rel=preload\r\n\r\n".encode()
    yield from ok(request)


def until_close(request: Request) -> Script:
    """/until-close/N: N bytes that end with the connection."""
    yield head(request, 200, "Connection: close")
    if request.method != "HEAD":
        yield from blocks(int(request.argument or "100"))
    yield Action.CLOSE


def huge_headers(request: Request) -> Script:
    """/huge-headers?n=COUNT&size=BYTES: so many fields of so many bytes each."""
    value = "v" * request.number_of("size", 200)
    fields = [f"X-Field-{i}: {value}" for i in range(request.number_of("n", 50))]
    return answer(request, 200, b"ok\n", *fields)


def upgrade(request: Request) -> Script:
    """/upgrade: 101, then a raw echo. /upgrade/refuse: an ordinary answer instead."""
    if request.argument == "refuse":
        yield from ok(request)
        return
    protocol = next((value for name, value in request.headers if name.lower() == "upgrade"), "test")
    yield head(request, 101, "Connection: Upgrade", f"Upgrade: {protocol}")
    yield Action.ECHO


def hang(request: Request) -> Script:
    """/hang: never answers."""
    yield 3600.0


def stall(request: Request) -> Script:
    """/stall?after=BYTES: begins an answer of 1,000 bytes and never goes on."""
    yield head(request, 200, "Content-Length: 1000") + content(request.number_of("after", 10))
    yield 3600.0


def bad(request: Request) -> Script:
    """/bad/NAME: an answer from the table of hostile ones; it closes after those that end in a cut."""
    if request.argument not in BAD:
        yield from answer(request, 404, b"no such bad answer\n")
        return
    request.status = 200
    yield BAD[request.argument]
    if request.argument.startswith("cut-"):
        yield Action.CLOSE


ROUTES: dict[str, Callable[[Request], Script]] = {
    "": ok, "bytes": bytes_, "chunked": chunked, "slow": slow, "dribble": dribble, "echo": echo,
    "upload": upload, "headers": headers, "status": status, "healthz": healthz, "early": early,
    "close": close, "close-idle": ok, "close-on-reuse": close_on_reuse, "reset": reset, "cut": cut,
    "garbage": garbage, "1xx": interim, "until-close": until_close, "huge-headers": huge_headers,
    "upgrade": upgrade, "hang": hang, "stall": stall, "bad": bad,
}  # fmt: skip
AT_HEAD = {"early", "upgrade"}  # these answer before the body; `at=head` makes any route do so
