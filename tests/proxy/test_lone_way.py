"""Lone requests take a way of their own (`ClientConnection`). It must be the same as the way of all others to everybody
outside: here seeded scripts are played on two proxies, of which one has a route to look at and so takes nothing for
lone, and after each event all that either side can see is compared, and at the end what is counted."""

import asyncio
import random
import socket
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.forebay import http_pool

from forebay_core.lease import LEASED
from forebay_core.retry import RetryBudget
from forebay_core.spec.load import parse
from forebay_proxy.connection import UpstreamConnection
from forebay_proxy.http import client
from forebay_proxy.http.client import ClientConnection
from forebay_proxy.http.proxy import HttpProxy
from forebay_proxy.http.upstream import HttpConnection
from forebay_proxy.tasks import Tasks
from forebay_proxy.turn import Turn
from forebay_proxy.upstream import Upstream
from forebay_proxy.wheel import Wheel

SCRIPTS = 1000
EVENTS = 60
CLIENTS = 4
POOL = {"size": 2, "maxOverflow": 0, "maxWaiting": 3, "prePing": "never", "maxUses": 7}

GET = b"GET /a HTTP/1.1\r\nHost: one\r\n\r\n"
REQUESTS = (
    *[GET] * 15,
    GET.replace(b"one", b"two"),
    GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
    GET.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: test/1\r\n\r\n"),
    GET.replace(b"1.1", b"1.0"),
    GET.replace(b"GET", b"HEAD"),
    GET.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 4\r\n\r\nbody"),
    GET + GET,
    GET + GET[:20],
    GET[:20],
    GET[20:],
    GET.replace(b"Host: one\r\n", b""),
    b"body",
)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"
ANSWERS = (
    *[ANSWER] * 50,
    ANSWER.replace(b"200 OK", b"500 Failed"),
    ANSWER.replace(b"4\r\n\r\nbody", b"0\r\n\r\n"),
    b"HTTP/1.1 204 None\r\n\r\n",
    b"HTTP/1.1 304 Same\r\nContent-Length: 4\r\n\r\n",
    ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
    ANSWER.replace(b"\r\n\r\n", b"\r\nKeep-Alive: timeout=5\r\n\r\n"),
    ANSWER.replace(b"1.1", b"1.0"),
    b"HTTP/1.1 100 Continue\r\n\r\n" + ANSWER,
    b"HTTP/1.1 101 Switched\r\nConnection: Upgrade\r\nUpgrade: test/1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    ANSWER + b"more",
    ANSWER + ANSWER,
    ANSWER[:10],
    ANSWER[10:],
    ANSWER[:-2],
    b"dy",
    b"HTTP/1.1 nothing\r\n\r\n",
)

Event = tuple[str, int, bytes]


class Wire:
    """A transport whose far side is the script."""

    def __init__(self, protocol: Any, *, corked: bool) -> None:
        self.protocol = protocol
        self.corked = corked  # so is what comes out of an HTTP listener
        self.held = self.written = b""
        self.ended = self.closed = False
        self.reading = True
        self.heard_end = False

    def seen(self) -> tuple[bytes, bool, bool]:
        """What the far side knows."""
        return self.written, self.ended or self.closed, self.closed

    def get_extra_info(self, name: str) -> object:
        return {"peername": ("192.0.2.1", 50000)}.get(name)

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int) -> None: ...

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes) -> None:
        assert not self.ended
        if not self.closed:
            self.held += data
            if not self.corked:
                self.uncork()

    def uncork(self) -> None:
        self.corked = False
        self.written, self.held = self.written + self.held, b""

    def write_eof(self) -> None:
        self.ended = True
        self.uncork()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.uncork()
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close

    def hear_end(self) -> None:
        """As transports do: once, and nothing after it."""
        if not self.heard_end:
            self.heard_end = True
            if not self.protocol.eof_received():
                self.close()


class Staged(Upstream):
    """Connects to the script."""

    wires: list[Wire]

    async def connect(self, connection: UpstreamConnection) -> None:
        wire = Wire(connection, corked=False)
        self.wires.append(wire)
        connection.connection_made(wire)  # type: ignore[arg-type]


class Books:
    """What outlives a process, where nothing does."""

    def set_held(self, upstream: str, held: int) -> None: ...

    def note(self, upstream: str, sock: socket.socket) -> int:
        return -1

    def identify(self, record: int, pid: int, key: bytes) -> None: ...

    def erase(self, record: int) -> None: ...


class Stage:
    """A proxy between the script's clients and its upstream."""

    def __init__(self, *, lone: bool) -> None:
        routes = {} if lone else {"routes": [{"pathPrefix": "/", "upstream": "origin"}]}
        spec = parse(http_pool(80, spec=routes, pool=POOL), form="local").spec
        wheel = Wheel(asyncio.get_running_loop())
        self._tasks = Tasks("test")
        self.upstream = Staged(
            spec.upstreams[0],
            make=HttpConnection,
            wheel=wheel,
            turn=Turn(asyncio.get_running_loop()),
            tasks=self._tasks,
            memory=Books(),
            ssl_context=None,
            random=random.Random(1).random,
            retry_budget=RetryBudget(20.0, 3.0),
        )
        self.upstream.wires = []
        self.upstream.set_endpoints([("127.0.0.1", 80, 1, "127.0.0.1")])
        self.proxy = HttpProxy(wheel)
        self.proxy.configure(spec, {"origin": self.upstream}, 100)
        assert (self.proxy.lone is not None) is lone
        self.clients: list[Wire] = []
        self.lone = 0  # requests that were found to be

    def come(self) -> None:
        """A client connects."""
        wire = Wire(self.proxy(), corked=True)
        self.clients.append(wire)
        wire.protocol.connection_made(wire)

    def play(self, event: Event) -> None:
        kind, number, data = event
        side = self.upstream.wires if kind.startswith("upstream") else self.clients
        at_hand = [wire for wire in side if not wire.closed]
        if kind == "client comes":
            if len(at_hand) < CLIENTS:
                self.come()
            return
        if kind == "upstream sends" and number % 20:  # else it may be an answer that nobody has asked for
            at_hand = [wire for wire in at_hand if wire.protocol.state == LEASED]
        if not at_hand:
            return
        wire = at_hand[number % len(at_hand)]
        match kind:
            case "client sends" | "upstream sends":
                if wire.reading and not wire.heard_end:
                    wire.protocol.data_received(data)
                    asking = wire.protocol
                    self.lone += isinstance(asking, ClientConnection) and asking.lone is not None
            case "client ends" | "upstream ends":
                wire.hear_end()
            case "client goes":
                wire.close()
            case "client is full":
                wire.protocol.pause_writing()
            case "client takes":
                wire.protocol.resume_writing()

    def held(self) -> list[bytes]:
        """What clients wait for that is written already, and stays so until they go."""
        return [wire.held for wire in self.clients if wire.held]

    def seen(self) -> list[tuple[bytes, bool, bool]]:
        return [wire.seen() for wire in (*self.clients, *self.upstream.wires)]

    def counted(self) -> dict[str, object]:
        pool, proxy = self.upstream.pool, self.proxy
        return {
            "codes": self.upstream.codes,
            "requests": self.upstream.request_seconds.count,
            "rejections": (self.upstream.rejections, proxy.rejections, proxy.codes),
            "retries": self.upstream.retries,
            "asked": self.upstream.new_requests,
            "waits": {outcome: histogram.count for outcome, histogram in pool.wait.items()},
            "leases": pool.hold.count,
            "connections": (pool.leased, pool.idle, pool.opening, pool.closing, pool.closed_total),
            "uses": sorted(connection.uses for connection in pool.connections),
            "errors": [endpoint.health.errors for endpoint in pool.endpoints],
            "clients": len(proxy.clients),
            "waiting": len(pool.waiters),
        }

    async def leave(self) -> None:
        for wire in (*self.clients, *self.upstream.wires):
            wire.close()
        await settled()
        await self._tasks.close()
        self.proxy.wheel.close()


async def settled() -> None:
    """What one event leads to has happened: at most a connect, an answer to the next in the queue, and a close."""
    for _ in range(8):
        await asyncio.sleep(0)


def script(seed: int) -> list[Event]:
    rng = random.Random(seed)
    kinds = {
        "client sends": 12, "upstream sends": 12, "client comes": 3, "client ends": 1, "client goes": 1,
        "upstream ends": 1, "client is full": 1, "client takes": 2,
    }  # fmt: skip
    pieces: dict[str, Callable[[], bytes]] = {
        "client sends": lambda: rng.choice(REQUESTS),
        "upstream sends": lambda: rng.choice(ANSWERS),
    }
    chosen = rng.choices(list(kinds), list(kinds.values()), k=EVENTS)
    return [(kind, rng.randrange(100), pieces.get(kind, bytes)()) for kind in chosen]


async def played(seed: int) -> int:
    """Requests that took the lone way."""
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
    lone, general = Stage(lone=True), Stage(lone=False)
    lone.come()
    general.come()
    for event in script(seed):
        lone.play(event)
        general.play(event)
        await settled()
        assert lone.seen() == general.seen(), (seed, event)
        assert not failures + lone.held() + general.held(), (seed, event)
    assert lone.counted() == general.counted(), seed
    await lone.leave()
    await general.leave()
    assert not failures, seed
    assert lone.counted() == general.counted(), seed
    assert general.lone == 0
    return lone.lone


@pytest.mark.parametrize("part", range(4))
def test_both_ways_are_one_to_everybody_else(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "uncork", Wire.uncork)

    async def play() -> int:
        return sum([await played(seed) for seed in range(part, SCRIPTS, 4)])

    assert asyncio.run(play()) > SCRIPTS / 4  # else there was nothing to compare
