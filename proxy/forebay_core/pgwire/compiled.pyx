# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, embedsignature=True, binding=False
"""The PostgreSQL codec compiled: the same interface, results and errors as `forebay_core.pgwire.pure`.

Reads stay below `size`, the end of what was received: a message's header is read where five bytes are there, its
contents up to `stop`, which is never beyond `size`. A row of data costs a few nanoseconds and no Python object.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcpy

from forebay_core.pgwire import types
from forebay_core.pgwire.types import refusal

cdef enum:
    QUERY = 81  # Q
    PARSE = 80  # P
    BIND = 66  # B
    DESCRIBE = 68  # D
    CLOSE = 67  # C
    EXECUTE = 69  # E
    SYNC = 83  # S
    FLUSH = 72  # H
    COPY_DATA = 100  # d
    COPY_FAIL = 102  # f
    TERMINATE = 88  # X
    STATEMENT = 83  # S
    PORTAL = 80  # P
    READY = 90  # Z
    COMPLETE = 67  # C

cdef enum:
    CHUNK_KINDS = 256  # types gathered before a bytes object is made of them
    MOST_WORDS = 30
    SEMICOLON = 1073741824  # bit 30
    LONGEST_WORD = 15

cdef struct Lengths:
    uint32_t least  # 0: no such type
    uint32_t most

cdef Lengths CLIENT[256]
cdef Lengths SERVER[256]
cdef uint32_t MAX_SMALL = types.MAX_SMALL
cdef uint32_t MAX_SMALL_ANSWER = types.MAX_SMALL_ANSWER
cdef int REPORTED = types.REPORTED


cdef void fill(Lengths* table, object lengths):
    for kind, (least, most) in lengths.items():
        table[<uint8_t>kind[0]].least = least
        table[<uint8_t>kind[0]].most = most


fill(CLIENT, types.CLIENT_LENGTHS)
fill(SERVER, types.SERVER_LENGTHS)


cdef inline uint32_t length_at(const uint8_t* header) noexcept nogil:
    return <uint32_t>header[1] << 24 | <uint32_t>header[2] << 16 | <uint32_t>header[3] << 8 | header[4]


cdef inline Py_ssize_t find_nul(const uint8_t* text, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """The offset of the first NUL from `start` to before `stop`, or -1."""
    cdef const uint8_t* found
    if start >= stop:
        return -1
    found = <const uint8_t*>memchr(text + start, 0, stop - start)
    return -1 if found == NULL else found - text


cdef inline bytes part(const uint8_t* text, Py_ssize_t start, Py_ssize_t stop):
    return PyBytes_FromStringAndSize(<const char*>text + start, stop - start)


cdef struct Look:  # what was found in a message's contents; offsets, -1 where there is none
    Py_ssize_t name
    Py_ssize_t name_end
    Py_ssize_t text
    Py_ssize_t text_end


cdef int look(
    bytes data, const uint8_t* text, Py_ssize_t at, Py_ssize_t stop, int kind, bint whole, Look* found
) except -1:
    """Checks the contents of the message at `at`, and finds its text and the name of the statement it refers to."""
    cdef Py_ssize_t body = at + 5
    cdef Py_ssize_t end
    found.name = found.name_end = -1
    found.text = -1
    if kind == QUERY or kind == COPY_FAIL:
        end = find_nul(text, body, stop)
        if end != (stop - 1 if whole else -1):
            raise refusal(types.BAD_STRING, data, at)
        if kind == QUERY:
            found.text = body
            found.text_end = end if whole else stop
    elif kind == PARSE:
        found.name = body
        end = find_nul(text, body, stop)
        if end < 0:
            raise refusal(types.UNENDED_NAME, data, at)
        found.name_end = end
        found.text = end + 1
        end = find_nul(text, end + 1, stop)
        if whole and (
            end < 0 or end > stop - 3 or stop != end + 3 + 4 * (<Py_ssize_t>text[end + 1] << 8 | text[end + 2])
        ):
            raise refusal(types.BAD_PARSE, data, at)
        found.text_end = end if end >= 0 else stop
    elif kind == BIND:
        end = find_nul(text, body, stop)
        if end >= 0:
            found.name = end + 1
            end = find_nul(text, end + 1, stop)
        if end < 0:
            raise refusal(types.UNENDED_NAME, data, at)
        found.name_end = end
        if whole and stop - end < 7:
            raise refusal(types.BAD_BIND, data, at)
    elif kind == DESCRIBE or kind == CLOSE:
        if text[body] != STATEMENT and text[body] != PORTAL:
            raise refusal(types.BAD_TARGET, data, at, text[body])
        if find_nul(text, body + 1, stop) != stop - 1:
            raise refusal(types.BAD_STRING, data, at)
        if text[body] == STATEMENT:
            found.name = body + 1
            found.name_end = stop - 1
    elif kind == EXECUTE:
        end = find_nul(text, body, stop)
        if end < 0:
            raise refusal(types.UNENDED_NAME, data, at)
        if end != stop - 5:
            raise refusal(types.BAD_EXECUTE, data, at)
    return 0


def scan_client(bytes data not None, Py_ssize_t skip, Py_ssize_t max_held):
    """See `forebay_core.pgwire.pure.scan_client`."""
    cdef const uint8_t* text = <const uint8_t*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t at = min(skip, size)
    cdef Py_ssize_t missing = skip - at
    cdef Py_ssize_t stop
    cdef uint32_t length
    cdef uint8_t chunk[CHUNK_KINDS]
    cdef Py_ssize_t gathered = 0
    cdef int kind
    cdef int last = 0
    cdef Lengths* lengths
    cdef Look found
    cdef bytes kinds = b""
    cdef list ends = []
    cdef list names = []
    cdef list texts = []
    cdef bint naming = False
    while at < size:
        kind = text[at]
        lengths = &CLIENT[kind]
        if lengths.least == 0:
            raise refusal(types.UNKNOWN_CLIENT_TYPE, data, at)
        if size - at < 5:
            break
        length = length_at(text + at)
        if length < lengths.least or length > lengths.most:
            raise refusal(types.BAD_LENGTH, data, at, length)
        stop = at + 1 + <Py_ssize_t>length
        if stop > size:
            if kind != COPY_DATA and (lengths.most <= MAX_SMALL or size - at < max_held):
                break
            missing = stop - size
            stop = size
        look(data, text, at, stop, kind, missing == 0, &found)
        if found.text >= 0:
            texts.append(part(text, found.text, found.text_end))
        if kind == COPY_DATA and last == COPY_DATA:
            ends[len(ends) - 1] = stop
        else:
            if not naming and (kind == PARSE or kind == BIND or kind == DESCRIBE or kind == CLOSE):
                naming = True
                names = [None] * len(ends)
            if naming:
                names.append(part(text, found.name, found.name_end) if found.name >= 0 else None)
            if gathered == CHUNK_KINDS:
                kinds += part(chunk, 0, gathered)
                gathered = 0
            chunk[gathered] = kind
            gathered += 1
            ends.append(stop)
        last = kind
        at = stop
        if kind == TERMINATE:
            break
    return at, missing, kinds + part(chunk, 0, gathered), ends, names, texts


cdef inline bint reported(int fate, int kind, uint8_t last) noexcept:
    """Whether a message is; `last`: the byte before its NUL, a digit in a CommandComplete with a count of rows."""
    return fate >= REPORTED and not (fate == REPORTED and kind == COMPLETE and c"0" <= last <= c"9")


def scan_server(bytes data not None, Py_ssize_t skip, Py_ssize_t max_held, bytes wanted not None):
    """See `forebay_core.pgwire.pure.scan_server`."""
    cdef const uint8_t* text = <const uint8_t*>PyBytes_AS_STRING(data)
    cdef const uint8_t* fates = <const uint8_t*>PyBytes_AS_STRING(wanted)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t at = min(skip, size)
    cdef Py_ssize_t missing = skip - at
    cdef Py_ssize_t stop
    cdef uint32_t length
    cdef uint8_t chunk[CHUNK_KINDS]
    cdef Py_ssize_t gathered = 0
    cdef int kind
    cdef int fate
    cdef Lengths* lengths
    cdef bytes ready = b""
    cdef list events = []
    if PyBytes_GET_SIZE(wanted) != 256:
        raise ValueError("`wanted` is not a table from reporting()")
    while at < size:
        kind = text[at]
        fate = fates[kind]
        if fate == 0:
            raise refusal(types.UNKNOWN_SERVER_TYPE, data, at)
        if size - at < 5:
            break
        lengths = &SERVER[kind]
        length = length_at(text + at)
        if length < lengths.least or length > lengths.most:
            raise refusal(types.BAD_LENGTH, data, at, length)
        stop = at + 1 + <Py_ssize_t>length
        if stop > size:
            if (kind == READY or fate >= REPORTED) and (lengths.most <= MAX_SMALL_ANSWER or size - at < max_held):
                break
            missing = stop - size
            stop = size
        if kind == READY:
            if text[at + 5] != c"I" and text[at + 5] != c"T" and text[at + 5] != c"E":
                raise refusal(types.BAD_STATUS, data, at, text[at + 5])
            if gathered == CHUNK_KINDS:
                ready += part(chunk, 0, gathered)
                gathered = 0
            chunk[gathered] = text[at + 5]
            gathered += 1
        if reported(fate, kind, text[stop - 2]):
            events.append((part(text, at, at + 1), at, stop))
        at = stop
    return at, missing, ready + part(chunk, 0, gathered), events


def rename(bytes data not None, Py_ssize_t start, Py_ssize_t end, bytes name not None):
    """See `forebay_core.pgwire.pure.rename`."""
    cdef const uint8_t* text = <const uint8_t*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(name)
    cdef Py_ssize_t at, after, length
    cdef int kind
    cdef bytes message
    cdef uint8_t* out
    if not 0 <= start <= end - 6 or end > PyBytes_GET_SIZE(data):
        raise ValueError("no Parse, Bind, Describe or Close there")
    kind = text[start]
    if kind != PARSE and kind != BIND and kind != DESCRIBE and kind != CLOSE:
        raise ValueError("no Parse, Bind, Describe or Close there")
    at = start + (6 if kind == DESCRIBE or kind == CLOSE else 5)
    if kind == BIND:
        at = find_nul(text, at, end) + 1
    after = find_nul(text, at, end)
    if at == 0 or after < 0:
        raise ValueError("no name there")
    length = <Py_ssize_t>length_at(text + start) + size - (after - at)
    if not <Py_ssize_t>CLIENT[kind].least <= length <= <Py_ssize_t>CLIENT[kind].most:
        raise refusal(types.BAD_LENGTH, data, start, length)
    message = PyBytes_FromStringAndSize(NULL, end - start + size - (after - at))
    out = <uint8_t*>PyBytes_AS_STRING(message)
    out[0] = kind
    out[1] = length >> 24
    out[2] = length >> 16 & 255
    out[3] = length >> 8 & 255
    out[4] = length & 255
    out += 5
    memcpy(out, text + start + 5, at - start - 5)
    out += at - start - 5
    memcpy(out, PyBytes_AS_STRING(name), size)
    memcpy(out + size, text + after, end - after)
    return message


cdef struct Word:
    uint8_t size
    uint8_t text[LONGEST_WORD]


cdef uint8_t LOWER[256]
for byte in range(256):
    LOWER[byte] = bytes((byte,)).lower()[0]


cdef inline bint begins(const uint8_t* text, const uint8_t* end, const Word* word) noexcept nogil:
    """Whether `word` stands at `text`, in any case."""
    cdef int at
    if end - text < word.size:
        return False
    for at in range(word.size):
        if LOWER[text[at]] != word.text[at]:
            return False
    return True


cdef class Plain:
    """See `forebay_core.pgwire.pure.Plain`. Nearly every place of a text is told from the beginnings of all words of
    `never` by two look-ups, of the byte that stands there and of the next one."""

    cdef Word starts[MOST_WORDS]
    cdef Word never[MOST_WORDS]
    cdef uint32_t first[256]  # by byte: a bit for each word of `never` that may begin with it, and SEMICOLON
    cdef uint32_t second[256]  # the same for its second byte
    cdef int count

    def __init__(self, starts, never):
        self.count = self.take(starts, self.starts)
        self.take(never, self.never)
        for byte in range(256):
            self.first[byte] = SEMICOLON if byte == ord(";") else 0
            self.second[byte] = SEMICOLON
            for index, word in enumerate(never):
                if word[0] == LOWER[byte]:
                    self.first[byte] |= 1 << index
                if len(word) == 1 or word[1] == LOWER[byte]:
                    self.second[byte] |= 1 << index

    cdef int take(self, words, Word* into) except -1:
        if len(words) > MOST_WORDS:
            raise ValueError(f"{len(words)} words, expected at most {MOST_WORDS}")
        for index, word in enumerate(words):
            if not 0 < len(word) <= LONGEST_WORD or word != word.lower():
                raise ValueError(f"the word {word!r}, expected 1 to {LONGEST_WORD} bytes in lower case")
            into[index].size = len(word)
            memcpy(into[index].text, PyBytes_AS_STRING(word), len(word))
        return len(words)

    def __call__(self, bytes data not None):
        cdef const uint8_t* text = <const uint8_t*>PyBytes_AS_STRING(data)
        return self.tells(text, text + PyBytes_GET_SIZE(data))

    cdef bint tells(self, const uint8_t* text, const uint8_t* end) noexcept:
        cdef int index
        cdef uint32_t found
        for index in range(self.count):
            if begins(text, end, &self.starts[index]):
                break
        else:
            return False
        while text < end:
            found = self.first[text[0]]
            if found:
                found &= self.second[text[1]]  # the byte at `end` is always there: a NUL
                if found & SEMICOLON and text + 1 < end:
                    return False
                index = 0
                found &= SEMICOLON - 1
                while found:
                    if found & 1 and begins(text, end, &self.never[index]):
                        return False
                    found >>= 1
                    index += 1
            text += 1
        return True


def lone(bytes data not None, Plain plain not None):
    """See `forebay_core.pgwire.pure.lone`."""
    cdef const uint8_t* text = <const uint8_t*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t first = 0
    cdef Py_ssize_t stop
    cdef uint32_t length
    cdef int kind = 0
    cdef Look found
    while at < size:
        if kind == QUERY or kind == SYNC or size - at < 5:
            return 0
        kind = text[at]
        if at == 0:
            if kind != QUERY and kind != PARSE:
                return 0
        elif kind != BIND and kind != DESCRIBE and kind != EXECUTE and kind != FLUSH and kind != SYNC:
            return 0
        length = length_at(text + at)
        stop = at + 1 + <Py_ssize_t>length
        if length < CLIENT[kind].least or length > CLIENT[kind].most or stop > size:
            return 0
        try:
            look(data, text, at, stop, kind, True, &found)
        except types.ProtocolError:
            return 0
        if found.name_end > found.name >= 0:
            return 0
        if at == 0:
            if not plain.tells(text + found.text, text + found.text_end):
                return 0
            first = stop
        at = stop
    return 1 if kind == QUERY else first if kind == SYNC else 0


def answered(bytes data not None, bytes wanted not None):
    """See `forebay_core.pgwire.pure.answered`."""
    cdef const uint8_t* text = <const uint8_t*>PyBytes_AS_STRING(data)
    cdef const uint8_t* fates = <const uint8_t*>PyBytes_AS_STRING(wanted)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t stop
    cdef uint32_t length
    cdef int kind
    cdef int fate
    if PyBytes_GET_SIZE(wanted) != 256:
        raise ValueError("`wanted` is not a table from reporting()")
    while size - at >= 5:
        kind = text[at]
        fate = fates[kind]
        length = length_at(text + at)
        stop = at + 1 + <Py_ssize_t>length
        if fate == 0 or length < SERVER[kind].least or length > SERVER[kind].most or stop > size:
            return False
        if reported(fate, kind, text[stop - 2]):
            return False
        if kind == READY:
            return stop == size and text[at + 5] == c"I"
        at = stop
    return False
