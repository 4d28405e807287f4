# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, embedsignature=True, binding=False
"""The HTTP/1 codec compiled: the same interface, results and errors as `forebay_core.http1.pure`.

A head is read in one pass that only notes where things are; then the kept pieces and the framing are joined into one
bytes object of exactly their size. Everything that is written is written there, in `join`. Reads stay below `limit`,
the end of what was received. What goes wrong or is rare (errors, absolute-form, IPv6 literals, trailers) is left to
the functions of the pure codec: whether it goes wrong is decided here.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from forebay_core.http1 import types
from forebay_core.http1.chunks import read_trailer
from forebay_core.http1.fields import bad_fields, check_incomplete
from forebay_core.http1.pure import bad_request_line, is_host, other_form
from forebay_core.http1.types import refusal

cdef enum:
    HTAB = 9
    LF = 10
    CR = 13
    SPACE = 32
    PERCENT = 37
    COMMA = 44
    SLASH = 47
    COLON = 58
    SEMICOLON = 59
    OPEN_BRACKET = 91

cdef enum:  # the limits of types.py again, where an array's size needs a constant; checked below
    MAX_FIELDS = 256
    MAX_OPTIONS = 64
    MAX_NAME = 20  # of the names that mean something
    MAX_NAMES = 24
    MAX_PIECES = MAX_FIELDS + 16  # the kept lines, each apart at worst, and 16 for start line, Host and framing

cdef enum:  # what a field's name means
    ORDINARY
    DROPPED
    FORWARDED
    FORWARDED_TOO  # in both spellings
    HOST
    TRACEPARENT
    CONTENT_LENGTH
    TRANSFER_ENCODING
    CONNECTION
    KEEP_ALIVE
    UPGRADE
    EXPECT
    KINDS

cdef int NO_BODY = types.NO_BODY
cdef int LENGTH = types.LENGTH
cdef int CHUNKED = types.CHUNKED
cdef int UNTIL_CLOSE = types.UNTIL_CLOSE
cdef int MAX_METHOD = types.MAX_METHOD
cdef int MAX_LENGTH_DIGITS = types.MAX_LENGTH_DIGITS
cdef int MAX_CHUNK_EXTENSION = types.MAX_CHUNK_EXTENSION
cdef uint64_t MAX_CHUNK_SIZE = types.MAX_CHUNK_SIZE
if types.MAX_FIELDS != MAX_FIELDS or types.MAX_CONNECTION_OPTIONS != MAX_OPTIONS:
    raise ImportError("forebay_core.http1.compiled was built for other limits than types.py has")

# ---------------------------------------------------------------- byte classes and names

cdef uint8_t TOKEN[256]
cdef uint8_t VALUE[256]
cdef uint8_t TARGET[256]
cdef uint8_t REG_NAME[256]
cdef uint8_t HEX[256]  # the digit's value and 1, or 0
cdef uint8_t FOLD[256]  # lowercased, and `_` as `-`


cdef void fill_classes():
    cdef int c
    alphanumeric = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    for c in range(256):
        TOKEN[c] = c in b"!#$%&'*+-.^_`|~" or c in alphanumeric
        VALUE[c] = c == HTAB or (c >= SPACE and c != 127)
        TARGET[c] = SPACE < c < 127 and c != 35  # `#`
        REG_NAME[c] = c in b"-._~!$&'()*+,;=" or c in alphanumeric
        HEX[c] = b"0123456789abcdef".find(bytes((c | 32 if c >= 64 else c,))) + 1
        FOLD[c] = c + 32 if 65 <= c <= 90 else (45 if c == 95 else c)


cdef struct Name:
    uint8_t text[MAX_NAME]
    Py_ssize_t size
    int kind


cdef struct Names:
    uint32_t initials[MAX_NAME + 1]  # by length: a bit for each first letter, so that most names need no comparison
    Name names[MAX_NAMES]
    int count
    bint prefixed  # whether all names with PREFIX are of FORWARDED_TOO


cdef bytes FORWARDED_PREFIX = types.FORWARDED_PREFIX
cdef const uint8_t* PREFIX = <const uint8_t*>PyBytes_AS_STRING(FORWARDED_PREFIX)
cdef Py_ssize_t PREFIX_SIZE = PyBytes_GET_SIZE(FORWARDED_PREFIX)
cdef Names REQUEST_NAMES
cdef Names RESPONSE_NAMES


cdef int fill_names(Names* table, object kinds) except -1:
    cdef Name* entry
    if len(kinds) > MAX_NAMES or max(map(len, kinds)) > MAX_NAME:
        raise ImportError("types.py has more or longer names than forebay_core.http1.compiled has room for")
    table.count = 0
    for text, kind in kinds.items():
        entry = &table.names[table.count]
        entry.size = len(text)
        entry.kind = kind
        memcpy(entry.text, PyBytes_AS_STRING(text), entry.size)
        table.initials[entry.size] |= <uint32_t>1 << (entry.text[0] & 31)
        table.count += 1
    return 0


def _fill():
    fill_classes()
    framing = {
        b"content-length": CONTENT_LENGTH,
        b"transfer-encoding": TRANSFER_ENCODING,
        b"connection": CONNECTION,
        b"keep-alive": KEEP_ALIVE,
        b"upgrade": UPGRADE,
    }
    dropped = dict.fromkeys(types.DROPPED_FROM_RESPONSES, DROPPED)
    fill_names(&RESPONSE_NAMES, dropped | framing)
    dropped = dict.fromkeys(types.DROPPED_FROM_REQUESTS, DROPPED)
    forwarding = dict.fromkeys(types.FORWARDING, FORWARDED)
    fill_names(
        &REQUEST_NAMES,
        dropped | framing | forwarding | dict.fromkeys(types.FORWARDED_TOO, FORWARDED_TOO)
        | {b"host": HOST, b"traceparent": TRACEPARENT, b"expect": EXPECT},
    )
    REQUEST_NAMES.prefixed = True


_fill()


cdef inline bint folds_to(const uint8_t* text, Py_ssize_t size, const uint8_t* folded) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(size):
        if FOLD[text[i]] != folded[i]:
            return False
    return True


cdef int classify(const Names* table, const uint8_t* name, Py_ssize_t size) noexcept nogil:
    """What a name means. Only its spelling with `-` is interpreted; one with `_` is just dropped."""
    cdef int i
    cdef int kind
    if 0 < size <= MAX_NAME and (table.initials[size] >> (name[0] & 31)) & 1:
        for i in range(table.count):
            if table.names[i].size == size and folds_to(name, size, table.names[i].text):
                kind = table.names[i].kind
                return kind if kind == FORWARDED_TOO or memchr(name, b"_"[0], size) == NULL else DROPPED
    if size >= PREFIX_SIZE and table.prefixed and folds_to(name, PREFIX_SIZE, PREFIX):
        return FORWARDED_TOO
    return ORDINARY


cdef inline bint is_word(const uint8_t* text, Py_ssize_t size, const char* word, Py_ssize_t word_size) noexcept nogil:
    """Whether this is the lowercase word, whatever its case; `_` is no `-` here."""
    return size == word_size and folds_to(text, size, <const uint8_t*>word) and memchr(text, b"_"[0], size) == NULL


# ---------------------------------------------------------------- the pass over a head

cdef struct Line:
    Py_ssize_t start
    Py_ssize_t name_end
    Py_ssize_t stop  # after its CRLF
    int kind


cdef struct Value:
    int count
    Py_ssize_t start  # of the first one, without white space around it
    Py_ssize_t stop


cdef struct Option:
    Py_ssize_t start
    Py_ssize_t size


cdef struct Head:
    const uint8_t* data
    Py_ssize_t end  # after the blank line
    int line_count
    Line lines[MAX_FIELDS]
    Value found[KINDS]
    int option_count
    int named_count
    Option named[MAX_OPTIONS]  # Connection options that may name a field that is still there
    bint names_trace
    bint close
    bint keep_alive
    bint upgrade
    bint connection_bad
    bint expect_bad
    int timeout


cdef inline Py_ssize_t after_value(const uint8_t* p, Py_ssize_t i, Py_ssize_t limit) noexcept nogil:
    """Where the value at `i` ends: at its first byte that VALUE has not."""
    cdef uint64_t eight, below_space, delete
    while i + 8 <= limit:  # as long as none of eight is a control character
        memcpy(&eight, p + i, 8)
        below_space = eight - <uint64_t>0x2020202020202020
        delete = (eight ^ <uint64_t>0x7F7F7F7F7F7F7F7F) - <uint64_t>0x0101010101010101
        if (below_space | delete) & ~eight & <uint64_t>0x8080808080808080:
            break
        i += 8
    while i < limit and VALUE[p[i]]:
        i += 1
    return i


cdef bint scan_fields(Head* head, const Names* table, Py_ssize_t i, Py_ssize_t limit) noexcept nogil:
    """Read field lines from `i` up to the blank line; False if they are bad or not all there."""
    cdef const uint8_t* p = head.data
    cdef Line* line
    cdef Value* value
    cdef Py_ssize_t start, name_end, stop
    cdef int kind
    head.line_count = 0
    head.option_count = 0
    head.named_count = 0
    head.names_trace = head.close = head.keep_alive = head.upgrade = head.connection_bad = head.expect_bad = False
    head.timeout = -1
    for kind in range(KINDS):
        head.found[kind].count = 0
    while True:
        if i + 1 >= limit:
            return False
        if p[i] == CR and p[i + 1] == LF:
            head.end = i + 2
            return True
        if head.line_count == MAX_FIELDS:
            return False
        start = i
        while i < limit and TOKEN[p[i]]:
            i += 1
        if i == start or i == limit or p[i] != COLON:
            return False
        name_end = i
        i += 1
        while i < limit and (p[i] == SPACE or p[i] == HTAB):
            i += 1
        kind = classify(table, p + start, name_end - start)
        value = &head.found[kind]
        if value.count == 0:
            value.start = i
        stop = i
        i = after_value(p, i, limit)
        if i + 1 >= limit or p[i] != CR or p[i + 1] != LF:
            return False
        line = &head.lines[head.line_count]
        head.line_count += 1
        line.start = start
        line.name_end = name_end
        line.stop = i + 2
        line.kind = kind
        if kind != ORDINARY:
            start = stop
            stop = i
            while stop > start and (p[stop - 1] == SPACE or p[stop - 1] == HTAB):
                stop -= 1
            if value.count == 0:
                value.stop = stop
            value.count += 1
            if kind == CONNECTION:
                read_options(head, table, start, stop)
            elif kind == KEEP_ALIVE:
                read_timeout(head, start, stop)
            elif kind == EXPECT and not is_word(p + start, stop - start, b"100-continue", 12):
                head.expect_bad = True
        i += 2


cdef void read_options(Head* head, const Names* table, Py_ssize_t i, Py_ssize_t stop) noexcept nogil:
    """Connection's list of tokens (RFC 9110 section 7.6.1)."""
    cdef const uint8_t* p = head.data
    cdef Py_ssize_t start, size
    cdef int kind
    while i < stop:
        if p[i] == SPACE or p[i] == HTAB or p[i] == COMMA:
            i += 1
            continue
        start = i
        while i < stop and TOKEN[p[i]]:
            i += 1
        size = i - start
        while i < stop and (p[i] == SPACE or p[i] == HTAB):
            i += 1
        if size == 0 or (i < stop and p[i] != COMMA) or head.option_count == MAX_OPTIONS:
            head.connection_bad = True
            return
        head.option_count += 1
        if is_word(p + start, size, b"close", 5):
            head.close = True
        elif is_word(p + start, size, b"keep-alive", 10):
            head.keep_alive = True
        elif is_word(p + start, size, b"upgrade", 7):
            head.upgrade = True
        else:
            kind = classify(table, p + start, size)
            if kind == ORDINARY or kind == TRACEPARENT or kind == FORWARDED_TOO:
                head.named[head.named_count].start = start
                head.named[head.named_count].size = size
                head.named_count += 1
                head.names_trace = head.names_trace or kind == TRACEPARENT


cdef void read_timeout(Head* head, Py_ssize_t i, Py_ssize_t stop) noexcept nogil:
    """The first `timeout=N` in a Keep-Alive list."""
    cdef const uint8_t* p = head.data
    cdef Py_ssize_t start, part_end, k
    cdef int number
    while i < stop and head.timeout < 0:
        while i < stop and (p[i] == SPACE or p[i] == HTAB):
            i += 1
        start = i
        while i < stop and p[i] != COMMA:
            i += 1
        part_end = i
        while part_end > start and (p[part_end - 1] == SPACE or p[part_end - 1] == HTAB):
            part_end -= 1
        i += 1
        if not 9 <= part_end - start <= 17 or not is_word(p + start, 8, b"timeout=", 8):
            continue
        number = 0
        k = start + 8
        while k < part_end and b"0"[0] <= p[k] <= b"9"[0]:
            number = number * 10 + (p[k] - b"0"[0])
            k += 1
        if k == part_end:
            head.timeout = number


cdef bint is_named(const Head* head, const Line* line) noexcept nogil:
    """Whether Connection names this field."""
    cdef const uint8_t* name = head.data + line.start
    cdef Py_ssize_t size = line.name_end - line.start
    cdef const uint8_t* option
    cdef Py_ssize_t i
    cdef int k
    for k in range(head.named_count):
        if head.named[k].size != size:
            continue
        option = head.data + head.named[k].start
        i = 0
        while i < size and FOLD[name[i]] == FOLD[option[i]]:
            i += 1
        if i == size:
            return True
    return False


cdef inline bint is_passed_on(const Head* head, const Line* line) noexcept nogil:
    """Whether this is what a trusted proxy tells of its client, and not for us."""
    return line.kind == FORWARDED_TOO and memchr(head.data + line.start, b"_"[0], line.name_end - line.start) == NULL


cdef Py_ssize_t find_blank(const uint8_t* p, Py_ssize_t start, Py_ssize_t limit) noexcept nogil:
    """Index of the first CRLFCRLF in p[start:limit], or -1."""
    cdef const void* hit
    cdef Py_ssize_t i = start
    while limit - i >= 4:
        hit = memchr(p + i, CR, limit - i - 3)
        if hit == NULL:
            return -1
        i = <const uint8_t*>hit - p
        if memcmp(p + i, b"\r\n\r\n", 4) == 0:
            return i
        i += 1
    return -1


# ---------------------------------------------------------------- what the fields mean

cdef inline bytes value_bytes(const Head* head, int kind):
    return PyBytes_FromStringAndSize(
        <const char*>head.data + head.found[kind].start, head.found[kind].stop - head.found[kind].start
    )


cdef bint is_good_host(const uint8_t* p, Py_ssize_t size) except -1:
    """As `pure.is_host`."""
    cdef Py_ssize_t i = 0
    cdef int port = 0
    if size == 0:
        return False
    if p[0] == OPEN_BRACKET:
        return is_host(PyBytes_FromStringAndSize(<const char*>p, size))
    while i < size and p[i] != COLON:
        if REG_NAME[p[i]]:
            i += 1
        elif p[i] == PERCENT and size - i >= 3 and HEX[p[i + 1]] and HEX[p[i + 2]]:
            i += 3
        else:
            return False
    if i == size:
        return True
    if i == 0 or size - i > 6:
        return False
    i += 1
    while i < size:
        if not b"0"[0] <= p[i] <= b"9"[0]:
            return False
        port = port * 10 + (p[i] - b"0"[0])
        i += 1
    return port <= 65535


cdef int64_t read_framing(const Head* head, int minor, bint response, bint* chunked) except -2:
    """Content-Length (-1: none) and whether the body is chunked; as `pure._framing`."""
    cdef const Value* length = &head.found[CONTENT_LENGTH]
    cdef const Value* coding = &head.found[TRANSFER_ENCODING]
    cdef int64_t number = -1
    cdef Py_ssize_t i
    cdef uint8_t c
    chunked[0] = False
    if length.count:
        if length.count > 1:
            raise refusal(types.LENGTH_REPEATED, response=response)
        if not 1 <= length.stop - length.start <= MAX_LENGTH_DIGITS:
            raise refusal(types.LENGTH_BAD, response=response)
        number = 0
        for i in range(length.start, length.stop):
            c = head.data[i]
            if not b"0"[0] <= c <= b"9"[0]:
                raise refusal(types.LENGTH_BAD, response=response)
            number = number * 10 + (c - b"0"[0])
    if coding.count == 0:
        return number
    if coding.count > 1:
        raise refusal(types.CODING_REPEATED, response=response)
    if length.count:
        raise refusal(types.BOTH_FRAMINGS, response=response)
    if minor == 0:
        raise refusal(types.CODING_IN_1_0, response=response)
    if not is_word(head.data + coding.start, coding.stop - coding.start, b"chunked", 7):
        raise refusal(types.CODING_UNKNOWN, response=response)
    chunked[0] = True
    return -1


cdef bytes read_upgrade(const Head* head):
    """As `pure._upgrade`."""
    if head.found[UPGRADE].count != 1:
        return b""
    value = value_bytes(head, UPGRADE)
    return b"" if b"h2c" in value.lower() else value


cdef tuple forwarding_fields(const Head* head):
    """As `pure.forwarding_fields`."""
    cdef const Line* line
    cdef int k
    fields = []
    for k in range(head.line_count):
        line = &head.lines[k]
        if line.kind == FORWARDED:
            name = PyBytes_FromStringAndSize(<const char*>head.data + line.start, line.name_end - line.start)
            value = PyBytes_FromStringAndSize(
                <const char*>head.data + line.name_end + 1, line.stop - 2 - line.name_end - 1
            )
            fields.append((name.lower(), value.strip(b" \t")))
    return tuple(fields)


# ---------------------------------------------------------------- the rewritten head

cdef struct Pieces:
    const uint8_t* start[MAX_PIECES]
    Py_ssize_t size[MAX_PIECES]
    int count
    Py_ssize_t total


cdef inline int add(Pieces* pieces, const void* start, Py_ssize_t size) except -1:
    cdef int last = pieces.count - 1
    if last >= 0 and pieces.start[last] + pieces.size[last] == <const uint8_t*>start:
        pieces.size[last] += size  # neighbours in the received head are copied at once
    else:
        if pieces.count == MAX_PIECES:
            raise SystemError("a rewritten head has more pieces than its lines allow")
        pieces.start[pieces.count] = <const uint8_t*>start
        pieces.size[pieces.count] = size
        pieces.count += 1
    pieces.total += size
    return 0


cdef int add_kept(Pieces* pieces, const Head* head, bint trusted) except -1:
    cdef const Line* line
    cdef int k
    for k in range(head.line_count):
        line = &head.lines[k]
        if line.kind == HOST or (
            (line.kind == ORDINARY or line.kind == TRACEPARENT or (trusted and is_passed_on(head, line)))
            and not (head.named_count and is_named(head, line))
        ):
            add(pieces, head.data + line.start, line.stop - line.start)
    return 0


cdef int add_upgrade(Pieces* pieces, const Head* head) except -1:
    add(pieces, b"Connection: Upgrade\r\nUpgrade: ", 30)
    add(pieces, head.data + head.found[UPGRADE].start, head.found[UPGRADE].stop - head.found[UPGRADE].start)
    return add(pieces, b"\r\n", 2)


cdef int add_length(Pieces* pieces, const Head* head) except -1:
    """Content-Length anew, without leading zeros."""
    cdef Py_ssize_t start = head.found[CONTENT_LENGTH].start
    cdef Py_ssize_t stop = head.found[CONTENT_LENGTH].stop
    while stop - start > 1 and head.data[start] == b"0"[0]:
        start += 1
    add(pieces, b"Content-Length: ", 16)
    add(pieces, head.data + start, stop - start)
    return add(pieces, b"\r\n", 2)


cdef bytes join(const Pieces* pieces):
    cdef bytes joined = PyBytes_FromStringAndSize(NULL, pieces.total)
    cdef char* out = PyBytes_AS_STRING(joined)
    cdef int k
    for k in range(pieces.count):
        memcpy(out, pieces.start[k], pieces.size[k])
        out += pieces.size[k]
    return joined


# ---------------------------------------------------------------- the interface

@cython.final
@cython.freelist(64)
cdef class RequestHead:
    """A client's head, validated; see `pure.RequestHead` for the members."""

    cdef readonly Py_ssize_t end
    cdef readonly bytes method
    cdef readonly bytes target
    cdef readonly bytes host
    cdef readonly int minor
    cdef readonly int64_t content_length
    cdef readonly bint chunked
    cdef readonly bint keep_alive
    cdef readonly bint expect_continue
    cdef readonly bytes upgrade
    cdef readonly bytes head
    cdef readonly tuple forwarding
    cdef readonly bytes traceparent
    cdef readonly bint lone


@cython.final
@cython.freelist(64)
cdef class ResponseHead:
    """An upstream's head, validated; see `pure.ResponseHead` for the members."""

    cdef readonly Py_ssize_t end
    cdef readonly int status
    cdef readonly int minor
    cdef readonly int body
    cdef readonly int64_t content_length
    cdef readonly bint rechunk
    cdef readonly bint close_downstream
    cdef readonly bint keep_alive
    cdef readonly int keep_alive_timeout
    cdef readonly bytes upgrade
    cdef readonly bytes head


def scan_request(bytes data not None, Py_ssize_t max_head, bint trusted):
    """Read and rewrite a request's head at the start of `data`; None while it is incomplete. See `pure.scan_request`."""
    cdef Head head
    cdef Pieces pieces
    cdef RequestHead result
    cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t start = 2 if size >= 2 and p[0] == CR and p[1] == LF else 0
    cdef Py_ssize_t limit = size if size - start <= max_head else start + max_head
    cdef Py_ssize_t i = start
    cdef Py_ssize_t method_end, target_start, target_end, fields, blank
    cdef bint plain, chunked, body
    cdef bytes method, target, host
    cdef bytes authority = None
    cdef bytes upgrade = b""

    while i < limit and TOKEN[p[i]]:
        i += 1
    method_end = i
    target_start = i + 1
    if i < limit and p[i] == SPACE:
        i += 1
    while i < limit and TARGET[p[i]]:
        i += 1
    target_end = i
    if (
        not 1 <= method_end - start <= MAX_METHOD
        or p[method_end] != SPACE  # the byte at `size` is always there, a NUL
        or target_end <= target_start
        or limit - i < 11
        or memcmp(p + i, b" HTTP/1.", 8) != 0
        or (p[i + 8] != b"0"[0] and p[i + 8] != b"1"[0])
        or p[i + 9] != CR
        or p[i + 10] != LF
    ):
        blank = find_blank(p, start, limit)
        if blank < 0:
            check_incomplete(data, start, max_head, False)
            return None
        raise bad_request_line(data, start, blank + 2)
    result = RequestHead.__new__(RequestHead)
    result.minor = p[i + 8] - b"0"[0]
    fields = i + 11
    method = PyBytes_FromStringAndSize(<const char*>p + start, method_end - start)
    target = PyBytes_FromStringAndSize(<const char*>p + target_start, target_end - target_start)
    if p[target_start] != SLASH or method == b"CONNECT":
        if find_blank(p, start, limit) < 0:
            check_incomplete(data, start, max_head, False)
            return None
        if method == b"CONNECT":
            raise refusal(types.CONNECT_REFUSED)
        target, authority = other_form(method, target)

    head.data = p
    if not scan_fields(&head, &REQUEST_NAMES, fields, limit):
        blank = find_blank(p, start, limit)
        if blank < 0:
            check_incomplete(data, start, max_head, False)
            return None
        raise bad_fields(data, fields, blank + 2, False)

    if head.found[HOST].count == 0:
        if result.minor == 1:
            raise refusal(types.HOST_MISSING)
        host = authority if authority is not None else b""
    elif head.found[HOST].count > 1:
        raise refusal(types.HOST_REPEATED)
    elif not is_good_host(p + head.found[HOST].start, head.found[HOST].stop - head.found[HOST].start):
        raise refusal(types.HOST_BAD)
    else:
        host = value_bytes(&head, HOST)
    result.content_length = read_framing(&head, result.minor, False, &chunked)
    if head.connection_bad:
        raise refusal(types.CONNECTION_BAD)
    if head.expect_bad:
        raise refusal(types.EXPECT_UNKNOWN)
    if authority is not None and host.lower() != authority.lower():
        raise refusal(types.TARGET_AGAINST_HOST)
    body = chunked or result.content_length > 0
    if head.upgrade and result.minor == 1 and not body:
        upgrade = read_upgrade(&head)

    plain = authority is None and result.minor == 1
    pieces.count = 0
    pieces.total = 0
    if plain:
        add(&pieces, p + start, fields - start)
    else:
        add(&pieces, p + start, method_end + 1 - start)
        add(&pieces, PyBytes_AS_STRING(target), PyBytes_GET_SIZE(target))
        add(&pieces, b" HTTP/1.1\r\n", 11)
        if authority is not None and head.found[HOST].count == 0:
            add(&pieces, b"Host: ", 6)
            add(&pieces, PyBytes_AS_STRING(host), PyBytes_GET_SIZE(host))
            add(&pieces, b"\r\n", 2)
    add_kept(&pieces, &head, trusted)
    if upgrade:
        add_upgrade(&pieces, &head)
    if chunked:
        add(&pieces, b"Transfer-Encoding: chunked\r\n", 28)
    elif result.content_length >= 0:
        add_length(&pieces, &head)

    result.end = head.end
    result.method = method
    result.target = target
    result.host = host
    result.chunked = chunked
    result.keep_alive = not head.close and (result.minor == 1 or head.keep_alive)
    result.expect_continue = head.found[EXPECT].count > 0 and result.minor == 1 and body
    result.upgrade = upgrade
    result.head = join(&pieces)
    result.forwarding = forwarding_fields(&head) if trusted else ()
    result.traceparent = (
        value_bytes(&head, TRACEPARENT) if head.found[TRACEPARENT].count == 1 and not head.names_trace else b""
    )
    result.lone = (
        result.minor == 1
        and not body
        and not result.forwarding
        and method != b"HEAD"
        and head.end == size
    )
    return result


def scan_response(bytes data not None, Py_ssize_t max_head, bint to_head_request, int client_minor):
    """Read and rewrite a response's head at the start of `data`; None while it is incomplete. See `pure.scan_response`."""
    return read_response(data, max_head, to_head_request, client_minor)


def answered(bytes data not None, Py_ssize_t max_head, bint last):
    """See `pure.answered`."""
    cdef ResponseHead head
    cdef Py_ssize_t size, before, tail
    cdef bytes answer
    cdef char* out
    try:
        head = read_response(data, max_head, False, 1)
    except types.ProtocolError:
        return None
    if head is None or head.status < 200 or not head.keep_alive or head.keep_alive_timeout >= 0:
        return None
    size = PyBytes_GET_SIZE(data) - head.end
    if size != (head.content_length if head.body == LENGTH else 0 if head.body == NO_BODY else -1):
        return None
    before = PyBytes_GET_SIZE(head.head)
    tail = 21 if last else 2
    answer = PyBytes_FromStringAndSize(NULL, before + tail + size)
    out = PyBytes_AS_STRING(answer)
    memcpy(out, PyBytes_AS_STRING(head.head), before)
    memcpy(out + before, b"Connection: close\r\n\r\n" if last else b"\r\n", tail)
    memcpy(out + before + tail, PyBytes_AS_STRING(data) + head.end, size)
    return head.status, size, answer


cdef ResponseHead read_response(bytes data, Py_ssize_t max_head, bint to_head_request, int client_minor):
    """As `scan_response`."""
    cdef Head head
    cdef Pieces pieces
    cdef ResponseHead result
    cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t limit = size if size <= max_head else max_head
    cdef Py_ssize_t i = 12
    cdef Py_ssize_t fields, blank
    cdef int status, body
    cdef int64_t content_length
    cdef bint chunked, unsized
    cdef bint good = False
    cdef bytes upgrade = b""

    if (
        limit >= 14
        and memcmp(p, b"HTTP/1.", 7) == 0
        and (p[7] == b"0"[0] or p[7] == b"1"[0])
        and p[8] == SPACE
        and b"1"[0] <= p[9] <= b"5"[0]
        and b"0"[0] <= p[10] <= b"9"[0]
        and b"0"[0] <= p[11] <= b"9"[0]
        and (p[12] == SPACE or p[12] == CR)
    ):
        i = after_value(p, i, limit)
        good = limit - i >= 2 and p[i] == CR and p[i + 1] == LF
    fields = i + 2
    head.data = p
    if not good or not scan_fields(&head, &RESPONSE_NAMES, fields, limit):
        blank = find_blank(p, 0, limit)
        if blank < 0:
            check_incomplete(data, 0, max_head, True)
            return None
        if not good:
            raise refusal(types.BAD_STATUS_LINE, response=True)
        raise bad_fields(data, fields, blank + 2, True)
    result = ResponseHead.__new__(ResponseHead)
    result.minor = p[7] - b"0"[0]
    status = 100 * (p[9] - b"0"[0]) + 10 * (p[10] - b"0"[0]) + (p[11] - b"0"[0])

    content_length = read_framing(&head, result.minor, True, &chunked)
    if head.connection_bad:
        raise refusal(types.CONNECTION_BAD, response=True)
    if status == 101:
        if head.upgrade and result.minor == 1:
            upgrade = read_upgrade(&head)
        if not upgrade:
            raise refusal(types.SWITCH_WITHOUT_UPGRADE, response=True)

    result.keep_alive = not head.close and (result.minor == 1 or head.keep_alive)
    body = CHUNKED if chunked else LENGTH if content_length >= 0 else UNTIL_CLOSE
    if status < 200 or status == 204:
        # Neither has a body, and must not say so; one that claims to have a body may yet send it.
        result.keep_alive = result.keep_alive and status != 101 and not chunked and content_length <= 0
        body = NO_BODY
        content_length = -1
    elif status == 304 or to_head_request:
        body = NO_BODY
    elif body == UNTIL_CLOSE:
        result.keep_alive = False
    unsized = body == CHUNKED or body == UNTIL_CLOSE

    pieces.count = 0
    pieces.total = 0
    if result.minor == 1 and p[12] == SPACE:
        add(&pieces, p, fields)
    else:
        add(&pieces, b"HTTP/1.1 ", 9)
        add(&pieces, p + 9, 3)
        if p[12] == SPACE:
            add(&pieces, p + 12, fields - 12)
        else:
            add(&pieces, b" \r\n", 3)
    add_kept(&pieces, &head, False)
    if upgrade:
        add_upgrade(&pieces, &head)
    if unsized and client_minor == 1:
        add(&pieces, b"Transfer-Encoding: chunked\r\n", 28)
    elif content_length >= 0:
        add_length(&pieces, &head)
    add(&pieces, b"Via: 1.1 forebay\r\n" if result.minor == 1 else b"Via: 1.0 forebay\r\n", 18)

    result.end = head.end
    result.status = status
    result.body = body
    result.content_length = content_length if body == LENGTH else -1
    result.rechunk = unsized and client_minor == 1
    result.close_downstream = unsized and client_minor != 1
    result.keep_alive_timeout = head.timeout
    result.upgrade = upgrade
    result.head = join(&pieces)
    return result


cdef enum:  # what the next byte of a chunked body is
    SIZE
    EXTENSION_SPACE
    EXTENSION
    SIZE_LF
    PAYLOAD
    PAYLOAD_CR
    PAYLOAD_LF
    TRAILER
    DONE


@cython.final
cdef class ChunkDecoder:
    """Takes the chunked coding off a body; see `pure.ChunkDecoder`."""

    cdef readonly bint done
    cdef readonly bytes trailer
    cdef int state
    cdef int digits
    cdef int extension
    cdef uint64_t left
    cdef Py_ssize_t max_trailer
    cdef bytes carry  # the trailer's bytes so far

    def __init__(self, Py_ssize_t max_trailer):
        self.done = False
        self.trailer = b""
        self.state = SIZE
        self.digits = 0
        self.extension = 0
        self.left = 0
        self.max_trailer = max_trailer
        self.carry = b""

    def feed(self, bytes data not None, size_t start):
        """The payload found in `data[start:]`, and the index after what was consumed. Raises ProtocolError."""
        cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(data)
        cdef Py_ssize_t stop = PyBytes_GET_SIZE(data)
        cdef Py_ssize_t i = stop if start > <size_t>stop else <Py_ssize_t>start
        cdef Py_ssize_t take
        cdef bytes part = None
        cdef list parts = None
        while i < stop and self.state != DONE:
            if self.state == PAYLOAD:
                take = stop - i
                if <uint64_t>take > self.left:
                    take = <Py_ssize_t>self.left
                if part is not None:
                    if parts is None:
                        parts = []
                    parts.append(part)
                part = data if take == stop else PyBytes_FromStringAndSize(<const char*>p + i, take)
                i += take
                self.left -= take
                if self.left == 0:
                    self.state = PAYLOAD_CR
            elif self.state == TRAILER:
                i = self.read_trailer(data, i)
            else:
                self.read_framing(p[i])
                i += 1
        if parts is not None:
            parts.append(part)
            part = b"".join(parts)
        return b"" if part is None else part, i

    cdef int read_framing(self, uint8_t c) except -1:
        """One byte of a size line, or of the CRLF before it."""
        if self.state == SIZE:
            if HEX[c] and self.digits < 16:
                self.left = (self.left << 4) | (HEX[c] - 1)
                self.digits += 1
            elif self.digits == 0:
                raise refusal(types.CHUNK_LINE)
            elif c == CR:
                self.state = SIZE_LF
            elif c == SEMICOLON:
                self.state = EXTENSION
                self.extension = 1
            elif c == SPACE or c == HTAB:
                self.state = EXTENSION_SPACE
                self.extension = 1
            else:
                raise refusal(types.CHUNK_LINE)
        elif self.state == SIZE_LF:
            if c != LF:
                raise refusal(types.CHUNK_LINE)
            if self.left > MAX_CHUNK_SIZE:
                raise refusal(types.CHUNK_SIZE)
            self.state = PAYLOAD if self.left else TRAILER
        elif self.state == PAYLOAD_CR:
            if c != CR:
                raise refusal(types.CHUNK_END)
            self.state = PAYLOAD_LF
        elif self.state == PAYLOAD_LF:
            if c != LF:
                raise refusal(types.CHUNK_END)
            self.state = SIZE
            self.digits = 0
        elif c == CR and self.state == EXTENSION:
            self.state = SIZE_LF
        else:
            self.extension += 1
            if self.extension > MAX_CHUNK_EXTENSION or not VALUE[c]:
                raise refusal(types.CHUNK_LINE)
            if self.state == EXTENSION_SPACE:
                if c == SEMICOLON:
                    self.state = EXTENSION
                elif c != SPACE and c != HTAB:
                    raise refusal(types.CHUNK_LINE)
        return 0

    cdef Py_ssize_t read_trailer(self, bytes data, Py_ssize_t start) except -1:
        cdef Py_ssize_t used
        text = self.carry + data[start : start + self.max_trailer + 2]
        found = read_trailer(text, self.max_trailer)
        if found is None:
            self.carry = text
            return PyBytes_GET_SIZE(data)
        self.trailer, used = found
        self.done = True
        self.state = DONE
        return start + used - PyBytes_GET_SIZE(self.carry)
