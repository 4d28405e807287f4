"""`accessLog: json` for the protocol tcp: a line for each connection when it ends."""

import asyncio

from tests.integration.http.test_access_log import lines, logged, parsed
from tests.integration.test_tcp import is_refused
from tests.support.criteria import metric
from tests.support.origin import Origin
from tests.support.raw import Connection


def document(port: int, **pool: object) -> dict[str, object]:
    upstream = {"name": "echo", "endpoints": [{"host": "127.0.0.1", "port": port}], "pool": pool}
    spec = {
        "protocol": "tcp",
        "listen": {"port": 0, "address": "127.0.0.1"},
        "replicas": 1,
        "upstreams": [upstream],
        "telemetry": {"accessLog": "json"},
    }
    return {"apiVersion": "forebay.dev/v1alpha1", "kind": "ProxyPool", "metadata": {"name": "echo"}, "spec": spec}


async def test_a_connection_is_logged_when_it_ends(tmp_path):
    async with Origin(mode="tcp") as origin:
        forebay, log = logged(tmp_path, document(origin.port))
        async with forebay:
            reader, writer = await asyncio.open_connection("127.0.0.1", forebay.port)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            (line,) = await lines(log, 1)
    assert (line["bytes_in"], line["bytes_out"], line["upstream"], line["error"]) == (5, 5, "echo", None)
    assert line["endpoint"] == f"127.0.0.1:{origin.port}"
    assert line["client"] == "127.0.0.1"
    assert line["total_ms"] >= line["upstream_ms"] >= 0


async def test_who_leaves_the_queue_or_is_cut_in_it_is_told_of_too(tmp_path):
    async with Origin(mode="tcp") as origin:
        pool = document(origin.port, size=1, maxOverflow=0)
        pool["spec"] |= {"maxClientConnections": 3, "drain": {"delay": "0s", "timeout": "200ms"}}
        forebay, log = logged(tmp_path, pool, command="worker")
        async with forebay:
            served = await Connection.open(forebay.port)
            await served.send(b"x")
            assert await served.reader.readexactly(1) == b"x"
            leaves = await Connection.open(forebay.port)
            await metric(forebay, "forebay_upstream_waiting", lambda value: value == 1)
            leaves.reset()
            (left,) = await lines(log, 1)
            waiting = [await Connection.open(forebay.port) for _ in range(2)]
            await metric(forebay, "forebay_upstream_waiting", lambda value: value == 2)
            assert await is_refused(forebay.port)
            _, many = await lines(log, 2)
            metrics = await forebay.metrics()
            forebay.terminate()
            assert await forebay.wait() == 0
            *_, a, b, c = parsed(log)
            for client in (served, leaves, *waiting):
                await client.close()
    assert (left["error"], left["upstream"], left["attempts"], left["upstream_ms"]) == ("client_gone", "echo", 0, None)
    assert left["wait_ms"] == left["total_ms"] > 0
    assert (many["error"], many["upstream"], many["wait_ms"]) == ("max_clients", None, None)
    assert many["client"] == "127.0.0.1"
    assert metrics.value("forebay_requests_total", outcome="client_gone") == 1
    assert metrics.value("forebay_requests_total", outcome="max_clients") == 1
    assert metrics.get("forebay_rejections_total", reason="client_gone") == 0
    assert metrics.value("forebay_rejections_total", reason="max_clients") == 1
    assert {(line["error"], line["attempts"]) for line in (a, b, c)} == {("draining", 0), ("draining", 1)}
