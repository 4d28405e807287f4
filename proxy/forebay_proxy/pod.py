"""What a pod runs: one worker with its own admin port.

Grants come to `PUT /grant`, the document from a mounted file.
"""

import asyncio
import contextlib
import hmac
import json
import logging
import os
import signal
import socket
from pathlib import Path
from typing import Any

from forebay_core.spec.load import DocumentError, load
from forebay_core.spec.model import ProxyPool
from forebay_proxy import admin
from forebay_proxy.descriptors import raise_limit
from forebay_proxy.files import FileError, read_text, reason
from forebay_proxy.listeners import listening
from forebay_proxy.memory import Memory, MemoryLocked
from forebay_proxy.postgres.proxy import PgProxy
from forebay_proxy.state_directory import StartError, file_state
from forebay_proxy.worker import Worker

log = logging.getLogger(__name__)

TERMINATION_LOG = Path("/dev/termination-log")  # the kubelet's, in a container
LOOK = 1.0  # seconds between two looks at the document's file


class Pod:
    """The admin port's target."""

    def __init__(self, worker: Worker, path: Path) -> None:
        self.worker = worker
        self._path = path
        self._seen = file_state(path)
        self._reload = asyncio.Event()
        self._over = asyncio.Event()

    @property
    def ready(self) -> bool:
        return self.worker.ready

    async def state(self) -> dict[str, Any]:
        pool = self.worker.pool
        return {
            "name": pool.metadata.name,
            "namespace": pool.metadata.namespace or "",
            "workers": [self.worker.state()],
        }

    def push(self, life: str, sequence: int, grants: dict[str, int], deadline: float | None) -> dict[str, Any]:
        return self.worker.push(life, sequence, grants, deadline)

    async def command(self, name: str) -> None:
        if name == "drain":
            self.terminate()
        elif name == "restart":
            raise LookupError("a pod's worker is restarted by deleting the pod")
        else:
            getattr(self.worker, name)()

    def terminate(self) -> None:
        """Drain as on SIGTERM; a second time: end now."""
        if self.worker.draining:
            self._over.set()
        else:
            self.worker.tasks.spawn(self._drain(), "drain")

    async def _drain(self) -> None:
        drain = self.worker.pool.spec.drain
        await self.worker.drain(drain.delay, drain.timeout)
        self._over.set()

    def reload(self) -> None:
        self._seen = None
        self._reload.set()

    async def follow_document(self) -> None:
        """Take the document anew when its file changes; keep the last good one where it can't be taken."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._reload.wait()
            self._reload.clear()
            seen = file_state(self._path)
            if seen == self._seen:
                continue
            self._seen = seen
            try:
                await self.worker.apply(load(read_text(self._path), form="local"))
            except (DocumentError, FileError, OSError) as error:
                self.worker.reload_success = False
                log.error("%s is not taken, the last good document stays in force:\n%s", self._path, error)
            except Exception:  # a mistake of ours must not end this, and not go unseen
                self.worker.reload_success = False
                log.exception("%s could not be taken", self._path)
            else:
                self.worker.reload_success = True
                log.info("%s is in force", self._path)

    async def over(self) -> None:
        await self._over.wait()


async def run(path: Path, pool: ProxyPool, memory: Path, host: str, port: int, token: str) -> None:
    """Serve until terminated. Raises StartError."""
    raise_limit()
    try:
        secret = hmac.digest(token.encode(), b"the pool's secret", "sha256")  # the pool's pods have the same token
        worker = Worker(pool, Memory.at(memory), os.environ.get("FOREBAY_POD_UID", ""), secret)
        await worker.start()
    except (FileError, MemoryLocked) as error:
        raise StartError(str(error)) from None
    except OSError as error:
        raise StartError(f"{memory}: {reason(error)}") from None
    pod = Pod(worker, path)
    listen = pool.spec.listen
    try:
        sock = listening(listen.address, listen.port)
    except OSError as error:
        raise StartError(f"can't listen on {listen.address}:{listen.port}: {reason(error)}") from None
    try:
        runner, admin_port = await admin.serve(pod, token, host, port)
    except OSError as error:
        raise StartError(f"can't listen on {host}:{port}: {reason(error)}") from None
    address, service = os.environ.get("FOREBAY_POD_IP"), os.environ.get("FOREBAY_PEERS")
    if isinstance(worker.proxy, PgProxy) and address and service:
        worker.proxy.join(address, service, sock.getsockname()[1])
    await worker.listen(sock)
    worker.tasks.spawn(close_when_deaf(worker, sock), "listening socket")
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, pod.terminate)
    loop.add_signal_handler(signal.SIGINT, pod.terminate)
    loop.add_signal_handler(signal.SIGHUP, pod.reload)
    worker.tasks.spawn(pod.follow_document(), "document")
    log.info("listening on %s:%d, admin on %s:%d", listen.address, sock.getsockname()[1], host, admin_port)
    await pod.over()
    leave_word(worker)
    await runner.cleanup()
    await worker.close()
    sock.close()


def leave_word(worker: Worker) -> None:
    """Tell the kubelet what this life still held when it ended: the container's termination message, which the
    operator takes as proof. Only a drained life can say so."""
    if worker.memory.draining and TERMINATION_LOG.exists():
        answer = worker.answer()
        TERMINATION_LOG.write_text(json.dumps({"life": answer["life"], "held": answer["held"]}), "utf-8")


async def close_when_deaf(worker: Worker, sock: socket.socket) -> None:
    """A drained worker accepts nobody: whoever comes then is refused, and does not hang."""
    await worker.listeners.deaf.wait()
    sock.close()
