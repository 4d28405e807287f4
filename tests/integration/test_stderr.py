"""A standard error that nobody reads: a log collector that hangs stops nobody."""

import asyncio
import fcntl
import os
import signal
import socket
from pathlib import Path

import pytest
from tests.support.forebay import PYTHONPATH, Forebay, http_pool
from tests.support.process import ROOT
from tests.support.raw import Answer, fetch


@pytest.mark.parametrize("command", ["run", "worker"])
async def test_a_full_pipe(tmp_path: Path, command: str) -> None:
    """Every process has something to say: where it listens, and that the upstream is not there."""
    port, admin, nobody = free_port(), free_port(), free_port()
    document = http_pool(nobody, spec={"listen": {"port": port, "address": "127.0.0.1"}})
    argv = Forebay(tmp_path, document, command=command, arguments=("--admin", f"127.0.0.1:{admin}")).argv
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writer, b"x" * 4096)
    process = await asyncio.create_subprocess_exec(
        *argv, stderr=writer, cwd=ROOT, env={**os.environ, "PYTHONPATH": PYTHONPATH, "XDG_RUNTIME_DIR": str(tmp_path)}
    )
    try:
        assert (await answered(port)).status in (502, 503)
        assert (await answered(port)).status in (502, 503)
        assert (await answered(admin, "/metrics")).status == 200
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(reader)
        os.close(writer)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


async def answered(port: int, target: str = "/") -> Answer:
    """As soon as it listens."""
    async with asyncio.timeout(15):
        while True:
            try:
                return await fetch(port, target)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
