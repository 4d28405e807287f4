"""Response heads, good, hostile and incomplete."""

from tests.conformance.http1_cases import MAX_HEAD, Good, Hostile, response

_VIA = b"Via: 1.1 forebay\r\n"
_OK = b"HTTP/1.1 200 OK\r\n"

GOOD_RESPONSES = (
    Good(
        "plain",
        response(b"Server: x", b"Content-Length: 5", b"ETag: y") + b"hello",
        {
            "end": 58,
            "status": 200,
            "minor": 1,
            "body": 1,
            "content_length": 5,
            "rechunk": False,
            "close_downstream": False,
            "keep_alive": True,
            "keep_alive_timeout": -1,
            "upgrade": b"",
            "head": _OK + b"Server: x\r\nETag: y\r\nContent-Length: 5\r\n" + _VIA,
        },
    ),
    Good("no reason", response(b"Content-Length: 0", line=b"HTTP/1.1 204"), {"head": b"HTTP/1.1 204 \r\n" + _VIA}),
    Good(
        "empty reason",
        response(line=b"HTTP/1.1 299 "),
        {"head": b"HTTP/1.1 299 \r\nTransfer-Encoding: chunked\r\n" + _VIA},
    ),
    Good("reason of many bytes", response(line=b"HTTP/1.1 599 a\tb \xff"), {"status": 599}),
    Good(
        "1.0",
        response(b"Content-Length: 5", line=b"HTTP/1.0 200 OK"),
        {"minor": 0, "keep_alive": False, "body": 1, "head": _OK + b"Content-Length: 5\r\nVia: 1.0 forebay\r\n"},
    ),
    Good(
        "1.0 kept alive",
        response(b"Content-Length: 5", b"Connection: keep-alive", line=b"HTTP/1.0 200"),
        {"keep_alive": True},
    ),
    Good("close", response(b"Content-Length: 5", b"Connection: close"), {"keep_alive": False}),
    Good(
        "chunked",
        response(b"Transfer-Encoding: Chunked"),
        {
            "body": 2,
            "content_length": -1,
            "rechunk": True,
            "keep_alive": True,
            "head": _OK + b"Transfer-Encoding: chunked\r\n" + _VIA,
        },
    ),
    Good(
        "chunked to a 1.0 client",
        response(b"Transfer-Encoding: chunked"),
        {"body": 2, "rechunk": False, "close_downstream": True, "keep_alive": True, "head": _OK + _VIA},
        {"client_minor": 0},
    ),
    Good(
        "until close",
        response(),
        {"body": 3, "rechunk": True, "keep_alive": False, "head": _OK + b"Transfer-Encoding: chunked\r\n" + _VIA},
    ),
    Good(
        "until close to a 1.0 client",
        response(b"Connection: keep-alive"),
        {"body": 3, "rechunk": False, "close_downstream": True, "keep_alive": False, "head": _OK + _VIA},
        {"client_minor": 0},
    ),
    Good(
        "answer to HEAD",
        response(b"Content-Length: 5"),
        {"body": 0, "content_length": -1, "keep_alive": True, "head": _OK + b"Content-Length: 5\r\n" + _VIA},
        {"to_head_request": True},
    ),
    Good(
        "answer to HEAD, chunked",
        response(b"Transfer-Encoding: chunked"),
        {"body": 0, "rechunk": False, "head": _OK + _VIA},
        {"to_head_request": True},
    ),
    Good(
        "answer to HEAD, bare",
        response(),
        {"body": 0, "keep_alive": True, "close_downstream": False},
        {"to_head_request": True},
    ),
    Good(
        "304",
        response(b"Content-Length: 5", line=b"HTTP/1.1 304 Not Modified"),
        {
            "body": 0,
            "content_length": -1,
            "keep_alive": True,
            "head": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n" + _VIA,
        },
    ),
    Good(
        "204 that claims a body",
        response(b"Content-Length: 5", line=b"HTTP/1.1 204 No"),
        {"body": 0, "keep_alive": False, "head": b"HTTP/1.1 204 No\r\n" + _VIA},
    ),
    Good(
        "204 that claims chunks",
        response(b"Transfer-Encoding: chunked", line=b"HTTP/1.1 204 No"),
        {"body": 0, "keep_alive": False, "rechunk": False},
    ),
    Good(
        "100",
        response(line=b"HTTP/1.1 100 Continue"),
        {"status": 100, "body": 0, "head": b"HTTP/1.1 100 Continue\r\n" + _VIA},
    ),
    Good(
        "103",
        response(b"Link: x", line=b"HTTP/1.1 103 Early"),
        {"status": 103, "body": 0, "head": b"HTTP/1.1 103 Early\r\nLink: x\r\n" + _VIA},
    ),
    Good(
        "101",
        response(b"Upgrade: websocket", b"Connection: upgrade", b"Content-Length: 0", line=b"HTTP/1.1 101 S"),
        {
            "status": 101,
            "body": 0,
            "upgrade": b"websocket",
            "keep_alive": False,
            "head": b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + _VIA,
        },
    ),
    Good(
        "hop-by-hop in both spellings, forwarding fields stay",
        response(
            b"Content-Length: 0",
            b"Keep_Alive: timeout=3",
            b"Transfer_Encoding: chunked",
            b"Content_Length: 9",
            b"Proxy-Authenticate: x",
            b"Upgrade: h2",
            b"TE: x",
            b"X-Forwarded-For: y",
            b"Connection: X-Hop",
            b"x_hop: 1",
        ),
        {"head": _OK + b"X-Forwarded-For: y\r\nContent-Length: 0\r\n" + _VIA, "keep_alive_timeout": -1, "upgrade": b""},
    ),
    Good(
        "Via appended",
        response(b"Via: 1.1 x", b"Content-Length: 0"),
        {"head": _OK + b"Via: 1.1 x\r\nContent-Length: 0\r\n" + _VIA},
    ),
    *(
        Good(f"Keep-Alive {value!r}", response(b"Keep-Alive: " + value), {"keep_alive_timeout": seconds})
        for value, seconds in (
            (b"timeout=5", 5),
            (b"max=100 , TIMEOUT=007,timeout=9", 7),
            (b"timeout=999999999", 999999999),
            (b"timeout=0", 0),
            (b"timeout=9999999999", -1),
            (b"timeout=", -1),
            (b"timeout = 5", -1),
            (b"timeout=5s", -1),
            (b"xtimeout=5", -1),
            (b",,timeout=-5, timeout=6", 6),
            (b"", -1),
        )
    ),
)

HOSTILE_RESPONSES = (
    *(
        Hostile(f"status line {line!r}", response(line=line), 502, "status line")
        for line in (
            b"HTTP/1.2 200 OK",
            b"HTTP/2.0 200 OK",
            b"http/1.1 200 OK",
            b"HTTP/1.1  200 OK",
            b"HTTP/1.1 20 OK",
            b"HTTP/1.1 2000 OK",
            b"HTTP/1.1 099 OK",
            b"HTTP/1.1 600 OK",
            b"HTTP/1.1 2x0 OK",
            b"HTTP/1.1 +20 OK",
            b"HTTP/1.1 200\tOK",
            b"HTTP/1.1 200 O\x00K",
            b"HTTP/1.1 200 O\x7fK",
            b"HTTP/1.1 200 O\rK",
            b"HTTP/1.1 \xb2\xb2\xb2 OK",
            b"HTTP/1.1",
            b"ICY 200 OK",
            b" HTTP/1.1 200 OK",
        )
    ),
    Hostile("empty line first", b"\r\n" + response(), 502, "line"),
    Hostile("NUL in half a head", b"HTTP/1.1 200 \x00", 502, "byte 13"),
    Hostile("bare LF in half a head", b"HTTP/1.1 200 OK\nX", 502, "byte 15"),
    Hostile("bare CR in half a head", b"HTTP/1.1 200 OK\rX", 502, "byte 15"),
    Hostile("endless status line", b"HTTP/1.1 200 " + b"a" * MAX_HEAD, 502, "4096"),
    Hostile("endless fields", b"HTTP/1.1 200 OK\r\nX: " + b"a" * MAX_HEAD, 502, "4096"),
    Hostile("257 fields", response(*[b"X: y"] * 257), 502, "more than 256"),
    Hostile("obs-fold", response(b"X: a", b" b"), 502, "obs-fold"),
    Hostile("space before the colon", response(b"Content-Length : 5"), 502, "colon"),
    Hostile("control byte", response(b"X: \x01"), 502, "byte 20"),
    Hostile("bare LF", response(b"X: a\nSet-Cookie: b"), 502, "byte 21"),
    Hostile("two equal lengths", response(b"Content-Length: 5", b"Content-Length: 5"), 502, "more than one"),
    Hostile("list of lengths", response(b"Content-Length: 5, 5"), 502, "Content-Length is not"),
    Hostile("length of 2^64", response(b"Content-Length: 18446744073709551616"), 502, "Content-Length is not"),
    Hostile("length and coding", response(b"Content-Length: 5", b"Transfer-Encoding: chunked"), 502, "both"),
    Hostile("other coding", response(b"Transfer-Encoding: gzip, chunked"), 502, "chunked"),
    Hostile(
        "two codings", response(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 502, "more than one"
    ),
    Hostile("coding in 1.0", response(b"Transfer-Encoding: chunked", line=b"HTTP/1.0 200 OK"), 502, "1.0"),
    Hostile(
        "both framings of a 204",
        response(b"Content-Length: 0", b"Transfer-Encoding: chunked", line=b"HTTP/1.1 204 No"),
        502,
        "both",
    ),
    Hostile("option that is no token", response(b"Connection: close;"), 502, "Connection"),
    Hostile("101 without Upgrade", response(b"Connection: upgrade", line=b"HTTP/1.1 101 S"), 502, "101"),
    Hostile("101 without Connection", response(b"Upgrade: x", line=b"HTTP/1.1 101 S"), 502, "101"),
    Hostile("101 from 1.0", response(b"Upgrade: x", b"Connection: upgrade", line=b"HTTP/1.0 101 S"), 502, "101"),
    Hostile("101 to h2c", response(b"Upgrade: h2c", b"Connection: upgrade", line=b"HTTP/1.1 101 S"), 502, "101"),
)

INCOMPLETE_RESPONSES = (
    b"",
    b"H",
    b"\r",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 200 OK\r\nX: y\r\n\r",
    b"rubbish",
    b"a" * (MAX_HEAD - 1),
)
