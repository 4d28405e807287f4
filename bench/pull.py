"""`pull.py PROXY_PORT ORIGIN_PORT SECONDS`: pull bytes through tunnels for so long. Prints `N MiB pulled`."""

import socket
import sys
import threading
import time

TUNNELS = 4
BLOCK = 1 << 20


def pull(proxy: int, origin: int, until: float, pulled: list[int]) -> None:
    with socket.create_connection(("127.0.0.1", proxy), timeout=20) as sock:
        sock.sendall(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % (origin, origin))
        head = b""
        while not head.endswith(b"\r\n\r\n") and (byte := sock.recv(1)):
            head += byte
        if b" 200 " not in head.split(b"\r\n")[0]:
            print(f"the tunnel was refused: {head!r}")
            return
        sock.sendall(b"GET /zeros HTTP/1.1\r\nHost: origin\r\n\r\n")
        block = bytearray(BLOCK)
        while time.monotonic() < until and (count := sock.recv_into(block)):
            pulled.append(count)


def main() -> None:
    proxy, origin, seconds = map(int, sys.argv[1:])
    pulled: list[int] = []
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=pull, args=(proxy, origin, until, pulled)) for _ in range(TUNNELS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{sum(pulled) >> 20} MiB pulled")


if __name__ == "__main__":
    main()
