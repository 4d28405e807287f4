"""The admin port: health, metrics and state for everybody who can reach it, commands for those with the token."""

import hmac
from math import inf
from typing import Any, Protocol

from aiohttp import web

from forebay_core.exposition import CONTENT_TYPE
from forebay_proxy import metrics

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


def build(target: Target, token: str) -> web.Application:
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

    app = web.Application(client_max_size=64 << 10)
    app.add_routes(routes)
    return app


async def serve(target: Target, token: str, host: str, port: int) -> tuple[web.AppRunner, int]:
    """Serve it; returns what to clean up, and the port. Raises OSError."""
    runner = web.AppRunner(build(target, token), access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
    except OSError:
        await runner.cleanup()
        raise
    bound: int = runner.addresses[0][1]
    return runner, bound
