"""The admin port: health, metrics and state for everybody who can reach it, commands for those with the token.

Who can reach it can also connect and say nothing. So there are never more than a few connections: for one more, one of
them goes (`Door`). None is refused: it may be a probe, for want of whose answer all would go.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, Final, Protocol

from aiohttp import web

from forebay_core.exposition import CONTENT_TYPE
from forebay_proxy import metrics

MOST: Final = 16  # connections: probes, scrapes, the operator, a person; clients may need the other descriptors
QUIET: Final = 75.0  # seconds that a connection may be without a request, before its first, too; scrapes are 60 s apart
COMMANDS = ("recycle", "pause", "resume", "drain", "restart")


class Target(Protocol):
    """What is administered: the supervisor, or the one worker of a pod."""

    @property
    def ready(self) -> bool: ...

    async def state(self) -> dict[str, Any]: ...

    async def command(self, name: str) -> None:
        """One of COMMANDS. Raises LookupError where it is not offered here."""

    def push(self, life: str, sequence: int, grants: dict[str, int], deadline: float | None) -> dict[str, Any]:
        """A grant of the ledger, and seconds until what is leased above it is cut, None: when its lease ends. Raises
        LookupError where grants don't come this way."""


class Door:
    """Keeps the connections few: for one more than MOST the oldest that asks for nothing goes, else the oldest."""

    def __init__(self) -> None:
        self._asking: set[web.RequestHandler] = set()
        self._listening: asyncio.Server | None = None

    @web.middleware
    async def watch(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Who asks for something."""
        self._asking.add(request.protocol)
        try:
            return await handler(request)
        finally:
            self._asking.discard(request.protocol)

    async def open(self, server: web.Server, host: str, port: int) -> int:
        """Listen; the port. Raises OSError."""
        loop = asyncio.get_running_loop()

        def make() -> asyncio.BaseProtocol:
            loop.call_soon(self._make_room, server)  # when those who have come with this one are counted
            return server()

        self._listening = await loop.create_server(make, host, port)
        bound: int = self._listening.sockets[0].getsockname()[1]
        return bound

    def _make_room(self, server: web.Server) -> None:
        here = [(one, transport) for one in server.connections if (transport := one.transport) is not None]
        here = [(one, transport) for one, transport in here if not transport.is_closing()]
        if len(here) >= MOST:
            _, goes = next((entry for entry in here if entry[0] not in self._asking), here[0])
            goes.abort()

    async def close(self, _: web.Application) -> None:
        if self._listening is not None:
            self._listening.close()


def build(target: Target, token: str, door: Door) -> web.Application:
    """The application; `token` opens the commands."""
    routes = web.RouteTableDef()

    def authorized(request: web.Request) -> None:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, b"Bearer " + token.encode()):
            raise web.HTTPUnauthorized(text="a bearer token is needed\n", headers={"WWW-Authenticate": "Bearer"})

    @routes.get("/livez")
    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")  # that the loop has come to it is the proof

    @routes.get("/readyz")
    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ready\n") if target.ready else web.Response(status=503, text="not ready\n")

    @routes.get("/metrics")
    async def get_metrics(_: web.Request) -> web.Response:
        return web.Response(body=metrics.render(await target.state()), headers={"Content-Type": CONTENT_TYPE})

    @routes.get("/state")
    async def get_state(_: web.Request) -> web.Response:
        return web.json_response(await target.state())

    @routes.put("/grant")
    async def put_grant(request: web.Request) -> web.Response:
        authorized(request)
        try:
            body = await request.json()
            life, sequence, grants, deadline = str(body["life"]), body["sequence"], body["grants"], body.get("deadline")
            if type(sequence) is not int or any(type(g) is not int or g < 0 for g in grants.values()):
                raise ValueError
            if deadline is not None and not (type(deadline) in (int, float) and 0 <= deadline < inf):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError):
            raise web.HTTPBadRequest(
                text='expected {"life": text, "sequence": integer, "grants": {upstream: integer}}, and "deadline": '
                "seconds, where others need the places\n"
            ) from None
        try:
            return web.json_response(target.push(life, sequence, grants, deadline))
        except LookupError as error:
            raise web.HTTPNotFound(text=f"{error.args[0]}\n") from None

    @routes.post(f"/{{command:{'|'.join(COMMANDS)}}}")
    async def post_command(request: web.Request) -> web.Response:
        name = request.match_info["command"]
        authorized(request)
        try:
            await target.command(name)
        except LookupError as error:
            raise web.HTTPNotFound(text=f"{error.args[0]}\n") from None
        return web.Response(status=202, text="accepted\n")

    app = web.Application(client_max_size=64 << 10, middlewares=[door.watch])
    app.on_shutdown.append(door.close)
    app.add_routes(routes)
    return app


async def serve(target: Target, token: str, host: str, port: int) -> tuple[web.AppRunner, int]:
    """Serve it; returns what to clean up, and the port. Raises OSError."""
    door = Door()
    app = build(target, token, door)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0, keepalive_timeout=QUIET)
    await runner.setup()
    assert runner.server is not None
    try:
        return runner, await door.open(runner.server, host, port)
    except OSError:
        await runner.cleanup()
        raise
