"""Chunked bodies, good and hostile."""

from tests.conformance.http1_cases import Body, Hostile

MAX_TRAILER = 64  # bytes; the limit that these are made for

GOOD_BODIES = (
    Body("empty", b"0\r\n\r\n", b""),
    Body("one chunk", b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    Body("bytes after it", b"1\r\na\r\n0\r\n\r\nGET /", b"a", rest=5),
    Body("hex in both cases", b"A\r\n0123456789\r\nb\r\n0123456789a\r\n0\r\n\r\n", b"01234567890123456789a"),
    Body("16 digits", b"0000000000000002\r\nab\r\n000\r\n\r\n", b"ab"),
    Body("payload that looks like framing", b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", b"\r\n0\r\n\r\n"),
    Body("extensions are dropped", b'1;a=b;c="d e"\r\na\r\n1 \t;x\r\nb\r\n0;\r\n\r\n', b"ab"),
    Body("extension of 256 bytes", b"1;" + b"x" * 255 + b"\r\na\r\n0 " + b" " * 254 + b";\r\n\r\n", b"a"),
    Body("trailer", b"1\r\na\r\n0\r\nX-Sum: 1\r\nY:2\r\n\r\n", b"a", b"X-Sum: 1\r\nY:2\r\n"),
    Body("trailer of 64 bytes", b"0\r\nX: " + b"y" * 59 + b"\r\n\r\n", b"", b"X: " + b"y" * 59 + b"\r\n"),
    Body(
        "what a trailer must not say",
        b"0\r\nContent_Length: 1\r\nX: 1\r\nHOST: b\r\nX-Forwarded-For: c\r\n\r\n",
        b"",
        b"X: 1\r\n",
    ),
    Body(
        "what it must not say of the client",
        b"0\r\nX_Forwarded-Port: 1\r\nX: 1\r\nx-real_IP: b\r\n\r\n",
        b"",
        b"X: 1\r\n",
    ),
)

HOSTILE_BODIES = (
    *(
        Hostile(f"size line {line!r}", line + b"\r\n", 400, "size line")
        for line in (
            b"",
            b"g",
            b"-1",
            b"+1",
            b"0x1",
            b" 1",
            b"1 ",
            b"1_0",
            b"1\t",
            b"1x",
            b"1,",
            b"0" * 17,
            b"1;\x00",
            b"1;\x7f",
            b"1;\r",
            b"1 \r",
            b"1 ;" + b"x" * 255,
            b"1" + b" " * 257,
            b"\xb2",
        )
    ),
    Hostile("bare LF after the size", b"1\na\r\n", 400, "size line"),
    Hostile("bare LF after the last size", b"0\n\n", 400, "size line"),
    Hostile("bare CR after the size", b"1\rx", 400, "size line"),
    Hostile("bare LF in an extension", b"1;a\nb\r\n", 400, "size line"),
    Hostile("size above 2^60", b"1000000000000001\r\n", 400, "2^60"),
    Hostile("size of 2^64 - 1", b"FFFFFFFFFFFFFFFF\r\n", 400, "2^60"),
    Hostile("payload too long", b"1\r\nab\r\n", 400, "not followed by CRLF"),
    Hostile("payload and LF", b"1\r\na\n0\r\n\r\n", 400, "not followed by CRLF"),
    Hostile("payload and CR", b"1\r\na\r0", 400, "not followed by CRLF"),
    Hostile("empty line for a size", b"1\r\na\r\n\r\n", 400, "size line"),
    Hostile("space before a trailer's colon", b"0\r\nX : 1\r\n\r\n", 400, "colon"),
    Hostile("folded trailer", b"0\r\nX: 1\r\n y\r\n\r\n", 400, "obs-fold"),
    Hostile("control byte in a trailer", b"0\r\nX: \x01\r\n\r\n", 400, "control byte"),
    Hostile("bare LF in a trailer", b"0\r\nX: 1\n", 400, "bare LF"),
    Hostile("NUL in a trailer", b"0\r\nX\x00", 400, "NUL"),
    Hostile("trailer too large", b"0\r\nX: " + b"y" * 60 + b"\r\n\r\n", 431, "larger than 64"),
    Hostile("endless trailer", b"0\r\nX: " + b"y" * 500, 431, "larger than 64"),
)
