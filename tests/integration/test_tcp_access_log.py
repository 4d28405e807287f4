"""`accessLog: json` for the protocol tcp: a line for each connection when it ends."""

import asyncio

from tests.integration.http.test_access_log import lines, logged
from tests.support.origin import Origin


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
