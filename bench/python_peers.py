"""`python -m bench.python_peers threads|aiohttp PORT BACKEND`: two reverse proxies as any Python
developer would write them.

`threads`: the standard library's server with a thread per client, and a kept connection to the backend in each.
`aiohttp`: its server and its client session, on uvloop. Both add X-Forwarded-For, drop the hop-by-hop fields, and keep
connections on both sides; neither has timeouts, limits, metrics or a bounded pool.
"""

import http.client
import http.server
import socket
import sys

import uvloop
from aiohttp import ClientSession, DummyCookieJar, TCPConnector, web

HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}


def threads(port: int, backend: int) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = 1 << 16

        def setup(self) -> None:
            super().setup()
            self.backend = http.client.HTTPConnection("127.0.0.1", backend)
            self.backend.connect()
            self.backend.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def finish(self) -> None:
            self.backend.close()
            super().finish()

        def do_GET(self) -> None:
            fields = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            self.backend.request("GET", self.path, headers={**fields, "X-Forwarded-For": self.client_address[0]})
            answer = self.backend.getresponse()
            body = answer.read()
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 1024

    Server(("127.0.0.1", port), Handler).serve_forever()


async def aiohttp_application(backend: int) -> web.Application:
    connector = TCPConnector(limit=0, keepalive_timeout=3600)
    session = ClientSession(
        f"http://127.0.0.1:{backend}", connector=connector, auto_decompress=False, cookie_jar=DummyCookieJar()
    )

    async def handle(request: web.Request) -> web.Response:
        fields = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        fields["X-Forwarded-For"] = request.remote or ""
        body = await request.read() if request.can_read_body else None
        async with session.request(
            request.method, request.rel_url, headers=fields, data=body, allow_redirects=False
        ) as answer:
            kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP]
            return web.Response(status=answer.status, headers=dict(kept), body=await answer.read())

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    return application


def main() -> None:
    kind, port, backend = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if kind == "threads":
        threads(port, backend)
    else:
        loop = uvloop.new_event_loop()
        web.run_app(aiohttp_application(backend), host="127.0.0.1", port=port, loop=loop, access_log=None, print=None)


if __name__ == "__main__":
    main()
