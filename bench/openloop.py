"""`openloop.py PORT RATE SECONDS CLIENTS`: requests that arrive when they are due, whoever is slow. Prints JSON.

Requests are due at random times (a Poisson process of a fixed seed: the same in every run). One that finds all
connections busy waits here, and its latency counts from when it was due: a proxy that stalls is charged for all that
came meanwhile, where a client that waits for each answer before it asks again would not have noticed (coordinated
omission). The first tenth is warm-up and not counted.

A plain loop over sockets, as event loops wait in whole milliseconds. What it can do is in what it prints: `late_p99_ms`
is how late it was itself in sending what was due while a connection was free, `cores` is what it used.
"""

import ctypes
import json
import random
import re
import select
import socket
import sys
import time
from collections import deque
from contextlib import ExitStack

PR_SET_TIMERSLACK = 29  # linux/prctl.h
HEAD_END = b"\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
PATIENCE = 5.0  # seconds after the last request is due
REQUEST = (
    b"GET /catalogue/garden/watering/item-4711?variant=green HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    b"Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\nAccept-Encoding: gzip, deflate, br\r\n"
    b"Cookie: session=5f2b8c1d9e3a4f7096b1c2d3e4f5a6b7; theme=dark; consent=2026-01-01T00%%3A00%%3A00Z\r\n\r\n"
)


class Client:
    """One connection, and the answer that it reads."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.due = 0.0
        self.left = -1  # bytes of the body that have not come yet; -1: the head has not
        self.buffer = b""

    def read(self) -> bool:
        """Whether the answer is complete. Raises RuntimeError when it is no 200 of a known length."""
        data = self.sock.recv(1 << 17)
        if not data:
            raise RuntimeError("a connection was closed")
        if self.left < 0:
            data = self.buffer + data
            end = data.find(HEAD_END)
            if end < 0:
                self.buffer = data
                return False
            length = LENGTH.search(data, 0, end + 2)
            if not data.startswith(b"HTTP/1.1 200") or length is None:
                raise RuntimeError(f"the answer was {data[:60]!r}")
            self.buffer = b""
            self.left = int(length[1]) + end + len(HEAD_END)
        self.left -= len(data)
        if self.left:
            return False
        self.left = -1
        return True


def connected(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    return sock


def run(port: int, rate: float, seconds: float, count: int) -> dict[str, float]:
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)  # nanoseconds, instead of 50,000
    with ExitStack() as stack:
        clients = [Client(stack.enter_context(connected(port))) for _ in range(count)]
        return load(clients, stack.enter_context(select.epoll()), REQUEST % port, rate, seconds)


def load(clients: list[Client], epoll: select.epoll, request: bytes, rate: float, seconds: float) -> dict[str, float]:
    count = len(clients)
    idle = deque(clients)
    arrivals = random.Random(4711)
    by_number = {client.sock.fileno(): client for client in clients}
    for number in by_number:
        epoll.register(number, select.EPOLLIN)
    waiting: deque[float] = deque()
    latencies: list[float] = []
    late: list[float] = []
    clock = time.perf_counter
    began = due = clock()
    counted, end, used = began + seconds / 10, began + seconds, time.process_time()
    while due < end or waiting or len(idle) < count:
        now = clock()
        while due <= now and due < end:
            waiting.append(due)
            if idle and due > counted:
                late.append(now - due)
            due += arrivals.expovariate(rate)
        while waiting and idle:
            client = idle.popleft()
            client.due = waiting.popleft()
            client.sock.send(request)
        if now > end + PATIENCE:
            raise RuntimeError(f"{len(waiting) + count - len(idle)} requests have no answer after {PATIENCE:g} s")
        wait = max(0.0, due - clock()) if due < end else 0.1
        if wait and not select.select([epoll], (), (), wait)[0]:  # epoll itself waits in whole milliseconds
            continue
        for number, _ in epoll.poll(0):
            client = by_number[number]
            if client.read():
                if client.due > counted:
                    latencies.append(clock() - client.due)
                idle.append(client)
    elapsed, used = clock() - began, time.process_time() - used
    latencies.sort()
    late.sort()
    return {
        "answered": len(latencies),
        "p50_ms": quantile(latencies, 0.5),
        "p99_ms": quantile(latencies, 0.99),
        "p999_ms": quantile(latencies, 0.999),
        "late_p99_ms": quantile(late, 0.99),
        "cores": used / elapsed,
    }


def quantile(ordered: list[float], share: float) -> float:
    """In milliseconds."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3


def main() -> int:
    port, rate, seconds, count = (float(argument) for argument in sys.argv[1:])
    try:
        print(json.dumps(run(int(port), rate, seconds, int(count))))
    except (OSError, RuntimeError) as error:
        print(f"failed: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
