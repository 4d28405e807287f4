"""Where attackers send a forward proxy: a whole one, with a name server of the attacker's, an honest server on
127.0.0.2, and traps on the other loopback addresses."""

import asyncio
import socket
from pathlib import Path

from tests.core.forward.ssrf import ALIASES, CASES, FORWARD, REACHED, ZONE
from tests.integration.forward.harness import document
from tests.integration.forward.name_server import NameServer
from tests.integration.http.test_access_log import lines, logged
from tests.support.forebay import Forebay
from tests.support.raw import Connection
from tests.support.waiting import until

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhonest"
STATUS = {REACHED: 200, "400": 400}
ONCE = "bound.evil.test"  # denied the first time; the second look-up gives an address that may be reached


class Places:
    """One port on three addresses."""

    async def __aenter__(self) -> "Places":
        self.trapped: list[str] = []
        self.honest = 0
        while True:
            sockets = []
            try:
                port = 0
                for family, host in (
                    (socket.AF_INET, "127.0.0.2"), (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"),
                ):  # fmt: skip
                    sock = socket.socket(family)
                    sockets.append(sock)
                    sock.bind((host, port))
                    port = sock.getsockname()[1]
                break
            except OSError:  # somebody has that port on one of them
                for sock in sockets:
                    sock.close()
        self.port = port
        self._servers = [
            await asyncio.start_server(self._serve, sock=sockets[0]),
            *[await asyncio.start_server(self._trap, sock=sock) for sock in sockets[1:]],
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.honest += 1
        if await reader.read(1000):
            writer.write(HELLO)
        writer.close()

    async def _trap(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.trapped.append(str(writer.get_extra_info("sockname")))
        writer.close()


def requests(host: str, port: int) -> list[tuple[str, bytes]]:
    where = host.encode() + b":%d" % port
    return [
        ("CONNECT", b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (where, where)),
        ("GET", b"GET http://%b/ HTTP/1.1\r\nHost: %b\r\n\r\n" % (where, where)),
    ]


async def test_no_target_reaches_what_it_must_not(tmp_path: Path) -> None:
    failures = []
    async with Places() as places, NameServer(ZONE, ALIASES) as names:
        pool = document({**FORWARD, "ports": [places.port]})
        async with names.serve(Forebay(tmp_path, pool), tmp_path) as forebay:

            async def ask(method: str, request: bytes) -> int:
                async with await Connection.open(forebay.port) as client:
                    await client.send(request)
                    answer = await client.answer(method)
                    if answer.status == 200 and method == "CONNECT":
                        await client.send(b"x")
                        assert await client.rest() == HELLO
                    return answer.status

            for case in CASES:
                wanted = STATUS.get(case.verdict, 403)
                for method, request in requests(case.host, places.port):
                    status = await ask(method, request)
                    if status != wanted:
                        failures.append(f"{method} {case.host!r}: {status}, not {wanted}")
                    if case.host == ONCE:
                        break
            assert not failures, "\n".join(failures)
            reached = places.honest
            assert reached == 2 * sum(case.verdict == REACHED for case in CASES)
            # A name that turns round is looked up again, and its new address is judged.
            turned = requests("rebound.evil.test", places.port)[0]
            await until(lambda: ask(*turned), 15, 0.2, wanted=lambda status: status != 200)
            assert not places.trapped, places.trapped
            assert not forebay.tracebacks(), forebay.stderr
    assert len(CASES) >= 40


async def test_a_name_that_there_is_not(tmp_path: Path) -> None:
    async with NameServer({}, {}) as names:
        pool = document({"allowHosts": ["*.test"]}, spec={"telemetry": {"accessLog": "json"}})
        forebay, log = logged(tmp_path, pool)
        async with (
            names.serve(forebay, tmp_path) as forebay,
            await Connection.open(forebay.port) as client,
        ):
            answer = await client.ask(b"GET http://no.test/ HTTP/1.1\r\nHost: no.test\r\n\r\n")
            assert answer.status == 502
            assert b"can't resolve no.test" in answer.body
            assert (await forebay.metrics()).value("forebay_rejections_total", reason="resolve") == 1
            (line,) = await lines(log, 1)
            assert (line["host"], line["verdict"], line["error"]) == ("no.test:80", "undecided", "resolve")
