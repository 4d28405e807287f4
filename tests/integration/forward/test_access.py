"""Who may: passwords, networks; what is answered and what is logged."""

import asyncio
import os
import signal
import socket
import struct
import subprocess
from pathlib import Path

from tests.integration.forward.harness import basic, connect, document, get, tunnel
from tests.integration.forward.test_tunnels import hold
from tests.integration.http.backend import Backend
from tests.integration.http.harness import running
from tests.integration.http.test_access_log import lines, logged
from tests.support.forebay import Forebay
from tests.support.origin import Origin
from tests.support.process import need
from tests.support.raw import Connection
from tests.support.waiting import until

ANNA = b"Proxy-Authorization: " + basic("anna", "s3cret")


def htpasswd(directory: Path, **users: str) -> Path:
    """As `openssl passwd -6` hashes."""
    lines = []
    for user, password in users.items():
        hashed = subprocess.run(
            [need("openssl"), "passwd", "-6", password], check=True, capture_output=True, text=True
        ).stdout
        lines.append(f"{user}:{hashed}")
    path = directory / "htpasswd"
    path.write_text("".join(lines))
    return path


async def test_a_password_is_asked_for(tmp_path: Path) -> None:
    path = htpasswd(tmp_path, anna="s3cret")
    async with (
        Origin() as origin,
        running(tmp_path, document({"ports": [origin.port], "credentialsFile": str(path)})) as forebay,
    ):
        url = f"http://127.0.0.1:{origin.port}/bytes/10"
        for fields in (
            (),
            (b"Proxy-Authorization: " + basic("anna", "wrong"),),
            (b"Proxy-Authorization: " + basic("otto", "s3cret"),),
            (b"Proxy-Authorization: Bearer abc",),
            (b"Authorization: " + basic("anna", "s3cret"),),
        ):
            for request in (get(url, *fields), connect(f"127.0.0.1:{origin.port}", *fields)):
                client = await Connection.open(forebay.port)
                answer = await client.ask(request)
                assert answer.status == 407
                assert answer.get("Proxy-Authenticate") == 'Basic realm="forebay", charset="UTF-8"'
                await client.close()
        assert (await origin.stats())["accepts"] == 0
        client = await Connection.open(forebay.port)
        assert (await client.ask(get(url))).status == 407
        for _ in range(3):  # the same connection, with the answer to the challenge
            assert (await client.ask(get(url, ANNA))).status == 200
        assert (await client.ask(get(url, ANNA, b"Content-Length: 5", method=b"POST") + b"12345")).status == 200
        await client.close()
        assert (await forebay.metrics()).value("forebay_rejections_total", reason="credentials") == 11


async def test_bytes_that_come_while_a_password_is_hashed(tmp_path: Path) -> None:
    path = htpasswd(tmp_path, anna="s3cret")
    async with (
        Backend(hold) as backend,
        running(tmp_path, document({"ports": [backend.port], "credentialsFile": str(path)})) as forebay,
    ):
        client = await Connection.open(forebay.port)
        await client.send(connect(f"127.0.0.1:{backend.port}", ANNA) + b"first ")
        await client.send(b"second")
        client.half_close()
        assert (await client.answer("CONNECT")).status == 200
        assert await client.rest() == b"first second"
        await client.close()


async def test_a_changed_password_is_taken_up(tmp_path: Path) -> None:
    path = htpasswd(tmp_path, anna="s3cret")
    async with (
        Origin() as origin,
        running(tmp_path, document({"ports": [origin.port], "credentialsFile": str(path)})) as forebay,
    ):
        request = get(f"http://127.0.0.1:{origin.port}/", ANNA)
        client = await Connection.open(forebay.port)
        assert (await client.ask(request)).status == 200
        await asyncio.to_thread(htpasswd, tmp_path, anna="other")
        await until(lambda: client.ask(request), 10, 0.1, wanted=lambda answer: answer.status != 200)
        assert (await client.ask(request)).status == 407
        await client.close()


async def test_a_bad_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "htpasswd"
    path.write_text("anna:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n")
    forebay = await Forebay(tmp_path, document({"credentialsFile": str(path)})).spawn()
    assert await forebay.wait(10) == 1
    assert "htpasswd" in forebay.stderr
    assert "Traceback" not in forebay.stderr


async def test_clients_of_other_networks(tmp_path: Path) -> None:
    async with (
        Origin() as origin,
        running(tmp_path, document({"ports": [origin.port], "clientNetworks": ["10.0.0.0/8"]})) as forebay,
    ):
        client = await Connection.open(forebay.port)
        answer = await client.ask(get(f"http://127.0.0.1:{origin.port}/"))
        assert (answer.status, (await origin.stats())["accepts"]) == (403, 0)
        assert (await forebay.metrics()).value("forebay_rejections_total", reason="clientNetworks") == 1
        await client.close()


async def test_who_has_gone_before_it_is_known_is_of_no_network(tmp_path: Path) -> None:
    """What has come of a client that was reset before it was accepted is there to be read, but not whose it is."""
    async with (
        Origin() as origin,
        running(tmp_path, document({"ports": [origin.port], "clientNetworks": ["10.0.0.0/8"]})) as forebay,
    ):
        (worker,) = await forebay.worker_pids()
        os.kill(worker, signal.SIGSTOP)
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", forebay.port)) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.sendall(get(f"http://127.0.0.1:{origin.port}/", method=b"POST"))
        os.kill(worker, signal.SIGCONT)
        last = await Connection.open(forebay.port)
        assert (await last.ask(get(f"http://127.0.0.1:{origin.port}/"))).status == 403
        await last.close()
        assert (await origin.stats())["accepts"] == 0


async def test_the_log_says_who_where_how_much_and_the_verdict(tmp_path: Path) -> None:
    path = htpasswd(tmp_path, anna="s3cret")
    pool = document(
        {"ports": [80], "credentialsFile": str(path), "denyHosts": ["127.0.0.9"]},
        spec={"telemetry": {"accessLog": "json"}},
    )
    async with Backend(hold) as backend:
        pool["spec"]["forward"]["ports"] = [backend.port]
        forebay, log = logged(tmp_path, pool)
        async with forebay:
            client = await tunnel(forebay.port, f"localhost:{backend.port}", ANNA)
            await client.send(b"12345")
            await client.reader.readexactly(5)
            client.half_close()
            await client.rest()
            await client.close()
            denied = await Connection.open(forebay.port)
            forbidden = await denied.ask(connect(f"127.0.0.9:{backend.port}", ANNA))
            unknown = await denied.ask(get(f"http://127.0.0.1:{backend.port}/"))
            await denied.close()
            found = await lines(log, 3)
    facts = [
        (e["method"], e["host"], e["user"], e["verdict"], e["status"], e["error"], e["bytes_in"], e["bytes_out"])
        for e in found
    ]
    where = f"127.0.0.1:{backend.port}"
    assert found[0]["endpoint"] == where, "what the name led to"
    assert facts == [
        ("CONNECT", f"localhost:{backend.port}", "anna", "allowed", 200, None, 5, 5),
        ("CONNECT", f"127.0.0.9:{backend.port}", "anna", "denied", 403, "denyHosts", 0, len(forbidden.body)),
        ("GET", where, None, "denied", 407, "credentials", 0, len(unknown.body)),
    ]
