"""`idle.py PORT COUNT`: so many clients that have had one answer each, and stay connected until stdin ends.

It writes `connected` to stderr. A process of its own, as file descriptors are limited for each process.
"""

import socket
import sys

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def client(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    sock.sendall(REQUEST)
    if not sock.recv(1 << 16).startswith(b"HTTP/1.1 200"):
        raise RuntimeError("the answer to an idle client was not 200")
    return sock


def main() -> None:
    port, count = map(int, sys.argv[1:])
    clients = [client(port) for _ in range(count)]
    print("connected", file=sys.stderr, flush=True)
    sys.stdin.read()
    for sock in clients:
        sock.close()


if __name__ == "__main__":
    main()
