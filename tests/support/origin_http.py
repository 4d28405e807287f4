"""The test origin's connections: a strict HTTP/1.1 server that plays a script per request, and a TCP echo.

What a proxy sends is judged here: a request that breaks RFC 9112 gets 400 and is counted in `malformed`.
"""

import asyncio
import hashlib
import itertools
import re
from collections.abc import Callable

from tests.support.origin_routes import AT_HEAD, ROUTES, Action, Request, Script, Step, answer
from tests.support.origin_state import State, close_with_reset

REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP/1\.([01])")
FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*((?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)[ \t]*")
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})")
MAX_HEAD = 1 << 20  # bytes
LINGER = 2.0  # seconds that a close waits for the rest of a body, as nginx's lingering_timeout


class Malformed(Exception):
    """The request breaks RFC 9112."""


class Http(asyncio.Protocol):
    """One HTTP connection. Reading a body and playing the script go on side by side."""

    def __init__(self, state: State, loop: asyncio.AbstractEventLoop) -> None:
        self.state = state
        self.loop = loop
        self.buffer = bytearray()
        self.served = 0
        self.request: Request | None = None
        self.script: Script | None = None
        self.body: Callable[[], bool] | None = None  # reads on; True when the body is complete
        self.need = 0  # bytes that are missing of the body or of the chunk
        self.part = "size"  # of a chunk, what comes next: size | data | end
        self.timer: asyncio.TimerHandle | None = None
        self.write_paused = False
        self.mode: Action | None = None  # what data means when no request is expected any more

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.id = self.state.accepts

    def connection_lost(self, error: Exception | None) -> None:
        self.state.open -= 1
        if self.request is not None:
            self.state.aborted += 1
            self._forget()
        if self.timer is not None:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        match self.mode:
            case None:
                self.buffer += data
                self._read()
            case Action.ECHO:
                self.transport.write(data)
            case Action.CLOSE_ON_REUSE:
                self._close()
            case Action.RESET_ON_REUSE:
                self._reset()
            case Action.CLOSE | Action.RESET:
                pass  # lingering: dropped

    def eof_received(self) -> bool:
        """A half-closed client may wait for its answer only with the option `half`: else it has gone."""
        return self.request is not None and self.body is None and "half" in self.request.options

    def pause_writing(self) -> None:
        self.write_paused = True
        if self.mode is Action.ECHO:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.write_paused = False
        if self.mode is Action.ECHO:
            self.transport.resume_reading()
        elif self.timer is None:
            self._play()

    # Reading

    def _read(self) -> None:
        try:
            while self.mode is None:
                if self.body is not None:
                    if not self.body():
                        return
                    self.body = None
                    self._body_complete()
                elif self.request is not None:
                    return  # a pipelined request waits for its turn
                elif not self._read_head():
                    return
        except Malformed as error:
            self._refuse(str(error))

    def _read_head(self) -> bool:
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self.buffer) > MAX_HEAD:
                raise Malformed(f"a head of more than {MAX_HEAD} bytes")
            return False
        first, *lines = bytes(self.buffer[:end]).split(b"\r\n")
        del self.buffer[: end + 4]
        found = REQUEST_LINE.fullmatch(first)
        if found is None:
            raise Malformed(f"request line {first[:200]!r}")
        self.served += 1
        self.request = request = Request(
            found[1].decode(),
            found[2].decode(),
            f"1.{found[3].decode()}",
            parse_fields(lines),
            self.id,
            self.served,
        )
        request.health = self.state.health
        if self.timer is not None:  # an idle connection that was about to be closed
            self.timer.cancel()
            self.timer = None
        self.state.request(request.method, request.target)
        if request.route == "upload":
            request.digest = hashlib.sha256()
        elif request.route == "echo":
            request.body = bytearray()
        self.body = self._framing(request)
        at_head = request.route in AT_HEAD or request.option("at") == "head"
        if self.body is not None and not at_head:
            if ("expect", "100-continue") in [(name.lower(), value) for name, value in request.headers]:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if pause := float(request.option("read_after", "0")):  # seconds without reading the body
                self.transport.pause_reading()
                self.loop.call_later(pause, self.transport.resume_reading)
        else:
            self._start(request)
        return True

    def _framing(self, request: Request) -> Callable[[], bool] | None:
        """How the body is read, by RFC 9112 section 6.3; None without one."""
        values: dict[str, list[str]] = {}
        for name, value in request.headers:
            values.setdefault(name.lower(), []).append(value)
        hosts, codings, lengths = (values.get(name, []) for name in ("host", "transfer-encoding", "content-length"))
        if len(hosts) > 1 or (request.version == "1.1" and not hosts):
            raise Malformed(f"Host: {hosts}")
        if codings:
            if codings != ["chunked"] or lengths or request.version == "1.0":
                raise Malformed(f"HTTP/{request.version}, Transfer-Encoding {codings}, Content-Length {lengths}")
            self.part = "size"
            return self._read_chunk
        if lengths:
            if len(lengths) > 1 or re.fullmatch("[0-9]{1,18}", lengths[0], re.ASCII) is None:
                raise Malformed(f"Content-Length: {lengths}")
            self.need = int(lengths[0])
            return self._read_length if self.need else None
        return None

    def _take(self) -> None:
        """Move what has come of the body, or of the chunk, from the buffer to the request."""
        request = self.request
        assert request is not None
        piece = bytes(self.buffer[: self.need])
        del self.buffer[: len(piece)]
        self.need -= len(piece)
        request.length += len(piece)
        self.state.bytes_in += len(piece)
        if request.digest is not None:
            request.digest.update(piece)
        elif request.body is not None:
            request.body += piece

    def _read_length(self) -> bool:
        self._take()
        return self.need == 0

    def _line(self) -> bytes | None:
        line, separator, _ = bytes(self.buffer[:MAX_HEAD]).partition(b"\r\n")
        if not separator:
            return None
        del self.buffer[: len(line) + 2]
        return line

    def _read_chunk(self) -> bool:
        while self.buffer:
            match self.part:
                case "size":
                    line = self._line()
                    if line is None:
                        return False
                    if CHUNK_SIZE.fullmatch(line) is None:
                        raise Malformed(f"chunk size line {line[:100]!r}")
                    self.need = int(line, 16)
                    self.part = "data"
                    if self.need == 0:
                        self.body = self._read_trailers
                        return self._read_trailers()
                case "data":
                    self._take()
                    if self.need == 0:
                        self.part = "end"
                case "end":
                    if len(self.buffer) < 2:
                        return False
                    if self.buffer[:2] != b"\r\n":
                        raise Malformed(f"chunk ends with {bytes(self.buffer[:2])!r}")
                    del self.buffer[:2]
                    self.part = "size"
        return False

    def _read_trailers(self) -> bool:
        if self.buffer.startswith(b"\r\n"):
            del self.buffer[:2]
            return True
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        assert self.request is not None
        self.request.trailers = parse_fields(bytes(self.buffer[:end]).split(b"\r\n"))
        del self.buffer[: end + 4]
        return True

    # Answering

    def _body_complete(self) -> None:
        assert self.request is not None
        if self.script is not None:
            return
        if self.request.status:  # answered at the head, and that is through
            self._finish()
        else:
            self._start(self.request)

    def _start(self, request: Request) -> None:
        route = ROUTES.get(request.route)
        script = route(request) if route is not None else answer(request, 404, b"no such route\n")
        delay = request.option("delay")
        self.script = itertools.chain([float(delay)], script) if delay else script
        self._play()

    def _play(self) -> None:
        """Take steps of the script until it has to wait or ends."""
        while self.script is not None and not self.write_paused:
            try:
                step: Step | None = next(self.script, None)
            except ValueError as error:  # the test asked for nonsense
                self._refuse(f"{self.request}: {error}")
                return
            match step:
                case None:
                    self.script = None
                    if self.body is None:
                        self._finish()
                    return
                case bytes():
                    self.transport.write(step)
                case float():
                    self.timer = self.loop.call_later(step, self._wake)
                    return
                case Action.CLOSE:
                    self._forget()
                    self._close()
                case Action.RESET:
                    self._forget()
                    self._reset()
                case Action():
                    self.mode = step
                    self._forget()
                    if step is Action.ECHO and self.buffer:
                        self.transport.write(bytes(self.buffer))

    def _wake(self) -> None:
        self.timer = None
        self._play()

    def _finish(self) -> None:
        """Request and answer are complete: close, or go on to the next."""
        request = self.request
        assert request is not None
        self._forget()
        options = [value.lower() for name, value in request.headers if name.lower() == "connection"]
        if "close" in options or (request.version == "1.0" and "keep-alive" not in options):
            self.mode = Action.CLOSE
            self.transport.close()
            return
        if request.route == "close-idle":
            self.timer = self.loop.call_later(float(request.argument) / 1000, self.transport.close)
        if self.buffer:
            self.loop.call_soon(self._read)

    def _forget(self) -> None:
        """The exchange is over, one way or the other."""
        if self.request is not None:
            self.state.active -= 1
            if self.request.status:
                self.state.statuses[self.request.status] += 1
        self.request = None
        self.script = None

    def _refuse(self, why: str) -> None:
        self.state.complain(why)
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        self._close()

    def _close(self) -> None:
        """FIN. What comes of a body is still read for a while: a close on unread data would be a RST."""
        unread = self.body is not None and self.transport.can_write_eof()
        self._forget()
        self.mode = Action.CLOSE
        if unread:
            self.transport.write_eof()
            self.timer = self.loop.call_later(LINGER, self.transport.close)
        else:
            self.transport.close()

    def _reset(self) -> None:
        self._forget()
        self.mode = Action.RESET
        close_with_reset(self.transport.get_extra_info("socket"))
        self.transport.abort()


class Echo(asyncio.Protocol):
    """Mode tcp: every byte back; the other side's end of file ends it once all is written."""

    def __init__(self, state: State, loop: asyncio.AbstractEventLoop) -> None:
        self.state = state

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.state.bytes_in += len(data)
        self.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.state.open -= 1
        self.state.aborted += error is not None

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


def parse_fields(lines: list[bytes]) -> list[tuple[str, str]]:
    fields = []
    for line in lines:
        found = FIELD.fullmatch(line)
        if found is None:
            raise Malformed(f"field line {line[:200]!r}")
        fields.append((found[1].decode(), found[2].decode("latin-1")))
    return fields
