"""Request heads, good, hostile and incomplete."""

from tests.conformance.http1_cases import MAX_HEAD, Good, Hostile, request

_HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"
_OLD = b"GET / HTTP/1.0"
_POST = b"POST / HTTP/1.1"

GOOD_REQUESTS = (
    Good(
        "plain",
        request(b"Accept: */*", line=b"GET /a/b?c=d HTTP/1.1", host=b"Host: shop.example:8080"),
        {
            "method": b"GET",
            "target": b"/a/b?c=d",
            "host": b"shop.example:8080",
            "minor": 1,
            "content_length": -1,
            "chunked": False,
            "keep_alive": True,
            "expect_continue": False,
            "upgrade": b"",
            "forwarding": (),
            "traceparent": b"",
            "head": b"GET /a/b?c=d HTTP/1.1\r\nHost: shop.example:8080\r\nAccept: */*\r\n",
        },
    ),
    Good("one empty line before it", b"\r\n" + request(), {"head": _HEAD, "end": len(request()) + 2}),
    Good("bytes after it", request() + b"next", {"head": _HEAD, "end": len(request())}),
    Good("bytes kept as received", request(b"X:\t a \t b ", b"Y:"), {"head": _HEAD + b"X:\t a \t b \r\nY:\r\n"}),
    Good("obs-text in a value", request(b"X: \x80\xff"), {"head": _HEAD + b"X: \x80\xff\r\n"}),
    Good("every token byte", request(b"!#$%&'*+-.^_`|~09azAZ: x"), {"head": _HEAD + b"!#$%&'*+-.^_`|~09azAZ: x\r\n"}),
    Good("own method", request(line=b"PURGE-ALL /x HTTP/1.1"), {"method": b"PURGE-ALL"}),
    Good("method of 32 bytes", request(line=b"M" * 32 + b" / HTTP/1.1"), {"method": b"M" * 32}),
    Good("two slashes", request(line=b"GET //b/../c HTTP/1.1"), {"target": b"//b/../c"}),
    Good("256 fields", request(*[b"X: y"] * 255), {"end": 24 + 1 + 255 * 6 + 2}),
    # Content-Length and Transfer-Encoding
    Good(
        "length",
        request(b"content-LENGTH:\t12 ", b"X: y", line=_POST),
        {"content_length": 12, "head": b"POST / HTTP/1.1\r\nHost: a\r\nX: y\r\nContent-Length: 12\r\n"},
    ),
    Good(
        "length of nothing",
        request(b"Content-Length: 0"),
        {"content_length": 0, "head": _HEAD + b"Content-Length: 0\r\n"},
    ),
    Good(
        "leading zeros",
        request(b"Content-Length: 0007"),
        {"content_length": 7, "head": _HEAD + b"Content-Length: 7\r\n"},
    ),
    Good(
        "only zeros", request(b"Content-Length: 000"), {"content_length": 0, "head": _HEAD + b"Content-Length: 0\r\n"}
    ),
    Good("18 digits", request(b"Content-Length: " + b"9" * 18), {"content_length": 10**18 - 1}),
    Good(
        "chunked",
        request(b"Transfer-Encoding:  Chunked ", b"Trailer: X", line=_POST),
        {
            "chunked": True,
            "content_length": -1,
            "head": b"POST / HTTP/1.1\r\nHost: a\r\nTrailer: X\r\nTransfer-Encoding: chunked\r\n",
        },
    ),
    Good(
        "underscored framing is dropped, not believed",
        request(b"Content_Length: 5", b"Transfer_Encoding: chunked", b"content_length: 6"),
        {"content_length": -1, "chunked": False, "head": _HEAD},
    ),
    Good(
        "underscored beside the real one",
        request(b"Content_Length: 5", b"Content-Length: 3"),
        {"content_length": 3, "head": _HEAD + b"Content-Length: 3\r\n"},
    ),
    # hop-by-hop
    Good(
        "hop-by-hop in both spellings",
        request(
            b"Connection: keep-alive",
            b"Keep-Alive: timeout=5",
            b"keep_alive: 1",
            b"Proxy-Connection: close",
            b"Proxy_Connection: close",
            b"TE: trailers",
            b"Upgrade: websocket",
            b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
            b"HTTP2_Settings: x",
            b"Proxy-Authorization: Basic eDp5",
            b"Proxy_Authorization: Basic eDp5",
            b"Proxy-Authenticate: Basic",
            b"Proxy_Authenticate: Basic",
            b"X: y",
        ),
        {"head": _HEAD + b"X: y\r\n", "keep_alive": True, "upgrade": b""},
    ),
    Good(
        "what Connection names, in any spelling",
        request(
            b"X-Hop: 1",
            b"A_B: 1",
            b"x-hop: 2",
            b"C: 1",
            b"Connection: x_hop , ,a-b",
            b"X_HOP: 3",
            b"connection: D",
            b"D: 1",
        ),
        {"head": _HEAD + b"C: 1\r\n", "keep_alive": True},
    ),
    Good(
        "Connection takes no Host and no framing away",
        request(
            b"Content-Length: 3", b"Connection: Host, Content-Length, Transfer-Encoding, content_length, X", b"X: 1"
        ),
        {"host": b"a", "content_length": 3, "head": _HEAD + b"Content-Length: 3\r\n"},
    ),
    Good("a field named Close stays", request(b"Close: 1", b"Connection: close, x"), {"head": _HEAD + b"Close: 1\r\n"}),
    Good("64 options", request(b"Connection: " + b",".join([b"x"] * 64)), {"head": _HEAD}),
    Good("close", request(b"Connection: foo, CLOSE"), {"keep_alive": False, "head": _HEAD}),
    Good("close wins", request(b"Connection: keep-alive", b"Connection: close"), {"keep_alive": False, "head": _HEAD}),
    Good("1.0", request(line=_OLD), {"minor": 0, "keep_alive": False, "host": b"a", "head": _HEAD}),
    Good("1.0 kept alive", request(b"Connection: Keep-Alive", line=_OLD), {"keep_alive": True, "head": _HEAD}),
    Good("1.0, underscored option", request(b"Connection: keep_alive", line=_OLD), {"keep_alive": False}),
    Good("1.0 without Host", request(line=_OLD, host=None), {"host": b"", "head": b"GET / HTTP/1.1\r\n"}),
    # forwarding
    Good(
        "forwarding fields of a stranger",
        request(
            b"X-Forwarded-For: 1.2.3.4",
            b"X_Forwarded_For: 1",
            b"X-Forwarded_Proto: x",
            b"x-forwarded-host: b",
            b"Forwarded: for=x",
            b"X-Forwarded-Port: 443",
            b"X_Forwarded-Client-Cert: x",
            b"x-forwarded-anything_else-that-there-may-be: x",
            b"X-Real-IP: 1.2.3.4",
            b"x_real-ip: 1.2.3.4",
            b"X-Forwarded: stays",
            b"X-Forwarded-: goes",
            b"X-Real-IPs: stay",
        ),
        {"forwarding": (), "head": _HEAD + b"X-Forwarded: stays\r\nX-Real-IPs: stay\r\n"},
    ),
    Good(
        "what else a trusted proxy says of its client",
        request(
            b"X-Forwarded-Port: 443 ",
            b"X-Forwarded_Port: 80",
            b"A: b",
            b"x-forwarded-CLIENT-cert-of-the-client:x",
            b"X_Forwarded-Ssl: on",
            b"X-Real-IP: 1.2.3.4",
            b"X-Real_IP: 5.6.7.8",
        ),
        {
            "forwarding": (),
            "head": _HEAD
            + b"X-Forwarded-Port: 443 \r\nA: b\r\nx-forwarded-CLIENT-cert-of-the-client:x\r\nX-Real-IP: 1.2.3.4\r\n",
        },
        {"trusted": True},
    ),
    Good(
        "and what it does not want to be passed on",
        request(
            b"X-Forwarded-Port: 443",
            b"X-Forwarded-Ssl: on",
            b"X-Real-IP: a",
            b"Connection: x-forwarded_port, x-real-ip",
        ),
        {"head": _HEAD + b"X-Forwarded-Ssl: on\r\n"},
        {"trusted": True},
    ),
    Good(
        "forwarding fields of a trusted proxy",
        request(
            b"X-Forwarded-For: 1.2.3.4 ",
            b"X_Forwarded_For: 1",
            b"Connection: x-forwarded-for",
            b"X-FORWARDED-For:5.6.7.8",
            b"x-forwarded-Proto:\thttps",
            b"X-Forwarded-Host: b",
            b"Forwarded: for=x",
        ),
        {
            "head": _HEAD,
            "forwarding": (
                (b"x-forwarded-for", b"1.2.3.4"),
                (b"x-forwarded-for", b"5.6.7.8"),
                (b"x-forwarded-proto", b"https"),
                (b"x-forwarded-host", b"b"),
                (b"forwarded", b"for=x"),
            ),
        },
        {"trusted": True},
    ),
    Good(
        "traceparent",
        request(b"TraceParent: 00-ab-cd-01 "),
        {"traceparent": b"00-ab-cd-01", "head": _HEAD + b"TraceParent: 00-ab-cd-01 \r\n"},
    ),
    Good("two traceparents", request(b"traceparent: 1", b"traceparent: 2"), {"traceparent": b""}),
    Good(
        "traceparent named by Connection",
        request(b"traceparent: 1", b"Connection: traceparent"),
        {"traceparent": b"", "head": _HEAD},
    ),
    # Expect
    Good(
        "expect",
        request(b"Expect: 100-Continue", b"Content-Length: 1"),
        {"expect_continue": True, "head": _HEAD + b"Content-Length: 1\r\n"},
    ),
    Good("expect, chunked", request(b"Expect: 100-continue", b"Transfer-Encoding: chunked"), {"expect_continue": True}),
    Good("expect without a body", request(b"Expect: 100-continue"), {"expect_continue": False, "head": _HEAD}),
    Good(
        "expect on 1.0", request(b"Expect: 100-continue", b"Content-Length: 1", line=_OLD), {"expect_continue": False}
    ),
    # Upgrade
    Good(
        "upgrade",
        request(b"Upgrade: WebSocket", b"Connection: keep-alive, Upgrade", b"Sec-WebSocket-Version: 13"),
        {
            "upgrade": b"WebSocket",
            "head": _HEAD + b"Sec-WebSocket-Version: 13\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n",
        },
    ),
    Good(
        "upgrade with length 0", request(b"Upgrade: x", b"Connection: upgrade", b"Content-Length: 0"), {"upgrade": b"x"}
    ),
    Good(
        "upgrade with a body",
        request(b"Upgrade: x", b"Connection: upgrade", b"Content-Length: 1"),
        {"upgrade": b"", "head": _HEAD + b"Content-Length: 1\r\n"},
    ),
    Good("upgrade on 1.0", request(b"Upgrade: x", b"Connection: upgrade", line=_OLD), {"upgrade": b"", "head": _HEAD}),
    Good("upgrade named, not there", request(b"Connection: upgrade"), {"upgrade": b"", "head": _HEAD}),
    Good(
        "two upgrades", request(b"Upgrade: x", b"Upgrade: y", b"Connection: upgrade"), {"upgrade": b"", "head": _HEAD}
    ),
    Good(
        "h2c",
        request(b"Upgrade: foo, H2C", b"Connection: upgrade, http2-settings", b"HTTP2-Settings: x"),
        {"upgrade": b"", "head": _HEAD},
    ),
    # targets and hosts
    Good(
        "asterisk", request(line=b"OPTIONS * HTTP/1.1"), {"target": b"*", "head": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n"}
    ),
    Good(
        "absolute",
        request(line=b"GET HTTP://A.example:80/p?q HTTP/1.1", host=b"Host: a.EXAMPLE:80"),
        {"target": b"/p?q", "host": b"a.EXAMPLE:80", "head": b"GET /p?q HTTP/1.1\r\nHost: a.EXAMPLE:80\r\n"},
    ),
    Good("absolute, https, no path", request(line=b"GET https://a HTTP/1.1"), {"target": b"/", "head": _HEAD}),
    Good("absolute, only a query", request(line=b"GET http://a?q HTTP/1.1"), {"target": b"/?q"}),
    Good("absolute, OPTIONS", request(line=b"OPTIONS http://a HTTP/1.1"), {"target": b"*"}),
    Good("absolute, OPTIONS, path", request(line=b"OPTIONS http://a/ HTTP/1.1"), {"target": b"/"}),
    Good(
        "absolute, 1.0",
        request(line=b"GET http://b/p HTTP/1.0", host=None),
        {"host": b"b", "head": b"GET /p HTTP/1.1\r\nHost: b\r\n"},
    ),
    *(
        Good(f"host {host.decode()}", request(host=b"Host:" + host), {"host": host})
        for host in (
            b"a.example",
            b"127.0.0.1:80",
            b"[::1]",
            b"[2001:db8::1.2.3.4]:65535",
            b"a_b~c",
            b"%41b",
            b"a:",
            b"a:00080",
            b"!$&'()*+,;=",
        )
    ),
)

HOSTILE_REQUESTS = (
    # what can be refused before the head is complete
    Hostile("NUL in half a head", b"GET /\x00", 400, "byte 5"),
    Hostile("bare LF in half a head", b"GET / HTTP/1.1\nHost", 400, "byte 14"),
    Hostile("bare LF first", b"\nGET / HTTP/1.1\r\n", 400, "byte 0"),
    Hostile("bare CR in half a head", b"GET / HTTP/1.1\rHost", 400, "byte 14"),
    Hostile("two empty lines", b"\r\n\r\n", 400, "empty line"),
    Hostile("two empty lines and a request", b"\r\n\r\n" + request(), 400, "empty line"),
    Hostile("endless request line", b"GET /" + b"a" * MAX_HEAD, 414, "longer than 4096"),
    Hostile("endless fields", b"GET / HTTP/1.1\r\nX: " + b"a" * MAX_HEAD, 431, "larger than 4096"),
    Hostile("head one byte too large", request(b"X: " + b"a" * (MAX_HEAD - len(request(b"X: ")) + 1)), 431, "4096"),
    Hostile("257 fields", request(*[b"X: y"] * 256), 431, "more than 256"),
    # request line
    Hostile("no method", request(line=b" / HTTP/1.1"), 400, "method"),
    Hostile("method with a slash", request(line=b"G/T / HTTP/1.1"), 400, "byte 1"),
    Hostile("white space first", request(line=b" GET / HTTP/1.1"), 400, "byte 0"),
    Hostile("method of 33 bytes", request(line=b"M" * 33 + b" / HTTP/1.1"), 501, "32 bytes"),
    Hostile("CONNECT", request(line=b"CONNECT a:443 HTTP/1.1"), 501, "CONNECT"),
    Hostile("CONNECT with a path", request(line=b"CONNECT / HTTP/1.1"), 501, "CONNECT"),
    Hostile("tab for space", request(line=b"GET\t/ HTTP/1.1"), 400, "byte 3"),
    Hostile("two spaces", request(line=b"GET  / HTTP/1.1"), 400, "byte 4"),
    Hostile("space in the target", request(line=b"GET /a b HTTP/1.1"), 400, "byte 7"),
    Hostile("two spaces before the version", request(line=b"GET /  HTTP/1.1"), 400, "byte 6"),
    Hostile("control byte in the target", request(line=b"GET /\x01 HTTP/1.1"), 400, "byte 5"),
    Hostile("DEL in the target", request(line=b"GET /\x7f HTTP/1.1"), 400, "byte 5"),
    Hostile("non-ASCII in the target", request(line="GET /é HTTP/1.1".encode()), 400, "byte 5"),
    Hostile("fragment", request(line=b"GET /a#b HTTP/1.1"), 400, "'#'"),
    Hostile("HTTP/0.9", b"GET /\r\n\r\n", 400, "byte 5"),
    Hostile("no version", request(line=b"GET / "), 400, "byte 6"),
    Hostile("version in lower case", request(line=b"GET / http/1.1"), 400, "byte 6"),
    Hostile("version of two digits", request(line=b"GET / HTTP/1.10"), 400, "byte 6"),
    Hostile("version and a space", request(line=b"GET / HTTP/1.1 "), 400, "byte 6"),
    Hostile("version with no minor", request(line=b"GET / HTTP/1"), 400, "byte 6"),
    Hostile("HTTP/2.0", request(line=b"GET / HTTP/2.0"), 505, "version"),
    Hostile("HTTP/1.2", request(line=b"GET / HTTP/1.2"), 505, "version"),
    Hostile("HTTP/0.9 by name", request(line=b"GET / HTTP/0.9"), 505, "version"),
    Hostile("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "version"),
    Hostile("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 400, "byte 4"),
    Hostile("relative target", request(line=b"GET a HTTP/1.1"), 400, "target"),
    Hostile("asterisk with GET", request(line=b"GET * HTTP/1.1"), 400, "target"),
    Hostile("other scheme", request(line=b"GET ftp://a/ HTTP/1.1"), 400, "target"),
    Hostile("userinfo", request(line=b"GET http://u@a/ HTTP/1.1"), 400, "target"),
    Hostile("no authority", request(line=b"GET http:///p HTTP/1.1"), 400, "target"),
    Hostile("absolute against Host", request(line=b"GET http://b/ HTTP/1.1"), 400, "authority"),
    Hostile("absolute, port against Host", request(line=b"GET http://a:80/ HTTP/1.1"), 400, "authority"),
    Hostile("absolute, userinfo by backslash", request(line=b"GET http://a\\@b/ HTTP/1.1"), 400, "target"),
    # field syntax
    Hostile("bare LF ends a line", b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400, "byte 23"),
    Hostile("bare LF ends the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400, "byte 6"),
    Hostile("bare CR in a value", request(b"X: a\rb"), 400, "byte 29"),
    Hostile("NUL in a value", request(b"X: \x00"), 400, "byte 28"),
    Hostile("control byte in a value", request(b"X: \x1b"), 400, "byte 28"),
    Hostile("DEL in a value", request(b"X: \x7f"), 400, "byte 28"),
    Hostile("control byte right after the colon", request(b"X:\x0b"), 400, "byte 27"),
    Hostile("obs-fold", request(b"X: a", b" b"), 400, "obs-fold"),
    Hostile("obs-fold with a tab", request(b"X: a", b"\tb"), 400, "obs-fold"),
    Hostile("folded first field", request(host=b" Host: a"), 400, "obs-fold"),
    Hostile("space before the colon", request(b"X : a"), 400, "byte 26"),
    Hostile("tab before the colon", request(b"Content-Length\t: 1"), 400, "byte 39"),
    Hostile("no colon", request(b"X"), 400, "byte 26"),
    Hostile("empty name", request(b": a"), 400, "byte 25"),
    Hostile("name with a bracket", request(b"X(: a"), 400, "byte 26"),
    Hostile("non-ASCII name", request(b"\xe9: a"), 400, "byte 25"),
    Hostile("NUL in a name", request(b"Content-Length\x00: 1"), 400, "byte 39"),
    # Host
    Hostile("no Host", request(host=None), 400, "Host is missing"),
    Hostile("two Hosts", request(b"Host: a"), 400, "more than one Host"),
    Hostile("two Hosts in 1.0", request(b"HOST: b", line=_OLD), 400, "more than one Host"),
    *(
        Hostile(f"Host {host!r}", request(host=b"Host: " + host), 400, "Host is not")
        for host in (
            b"",
            b"a b",
            b"a/b",
            b"a?b",
            b"u@a",
            b"a,b c",
            b":80",
            b"a:b",
            b"a:80:80",
            b"a:65536",
            b"a:000080",
            b"a:+80",
            b"a:80 80",
            b"%4",
            b"%zz",
            b"a%",
            b"[",
            b"[]",
            b"[::1",
            b"[::1]a",
            b"[::g]",
            b"[1.2.3.4]",
            b"[1:2:3:4:5:6:7:8:9]",
            b"[fe80::1%25eth0]",
            b"::1",
            b"a\\b",
            b'a"b',
            b"<a>",
            b"\xc3\xa9",
            b"\xb2",
        )
    ),
    Hostile("empty Host in 1.0", request(line=_OLD, host=b"Host:"), 400, "Host is not"),
    # framing
    Hostile("length and coding", request(b"Content-Length: 1", b"Transfer-Encoding: chunked"), 400, "both"),
    Hostile("coding and length", request(b"Transfer-Encoding: chunked", b"Content-Length: 1"), 400, "both"),
    Hostile(
        "two equal lengths", request(b"Content-Length: 1", b"content-length: 1"), 400, "more than one Content-Length"
    ),
    Hostile("two lengths", request(b"Content-Length: 1", b"Content-Length: 2"), 400, "more than one Content-Length"),
    *(
        Hostile(f"length {value!r}", request(b"Content-Length: " + value), 400, "Content-Length is not")
        for value in (
            b"",
            b"+1",
            b"-1",
            b"-0",
            b"1,1",
            b"1, 1",
            b"1 1",
            b"1.0",
            b"1e3",
            b"0x10",
            b"1_0",
            b"a",
            b'"1"',
            b"1;",
            b"1" * 19,
            b"18446744073709551616",
            b"\xb2",  # superscript two in Latin-1: isdigit() would take it
            b"\xd9\xa1",  # an Arabic-Indic digit in UTF-8: int() would take it
            b"\xa01",  # a no-break space, which strip() would take off
        )
    ),
    Hostile("two codings", request(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400, "more than one"),
    Hostile(
        "coding hidden behind another",
        request(b"Transfer-Encoding: chunked", b"transfer-encoding: x"),
        400,
        "more than",
    ),
    Hostile("coding in 1.0", request(b"Transfer-Encoding: chunked", line=_OLD), 400, "1.0"),
    *(
        Hostile(f"coding {value!r}", request(b"Transfer-Encoding: " + value), 501, "chunked")
        for value in (
            b"",
            b"identity",
            b"gzip, chunked",
            b"chunked, chunked",
            b"chunked, identity",
            b"chunked,",
            b"xchunked",
            b"chunkedx",
            b'"chunked"',
            b"chunked;q=1",
            b"chunke_",
            b"\xa0chunked",
        )
    ),
    Hostile("coding with a control byte", request(b"Transfer-Encoding: \x0bchunked"), 400, "control byte"),
    # Connection and Expect
    Hostile("option that is no token", request(b"Connection: close; x"), 400, "Connection"),
    Hostile("two tokens in one option", request(b"Connection: a b"), 400, "Connection"),
    Hostile("65 options", request(b"Connection: " + b",".join([b"x"] * 65)), 400, "Connection"),
    Hostile("unknown expectation", request(b"Expect: 200-ok"), 417, "Expect"),
    Hostile("one more expectation", request(b"Expect: 100-continue", b"Expect: x"), 417, "Expect"),
    Hostile("expectation with an underscore", request(b"Expect: 100_continue"), 417, "Expect"),
)

INCOMPLETE_REQUESTS = (
    b"",
    b"\r",
    b"\r\n",
    b"\r\n\r",
    b"GET",
    b"GET / HTTP/1.1\r",
    b"GET / HTTP/1.1\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r",
    b"CONNECT a HTTP/1.1\r\n",  # judged only when it is complete
    b"bad line(\r\n: x\r\n y",
    b"a" * (MAX_HEAD - 1),
)
