"""A real nginx with a given snippet, as a backend or as a proxy to compare with."""

import os
import socket
from pathlib import Path
from typing import Self

from tests.support.process import Child, need
from tests.support.raw import fetch, unverified

CONFIG = """\
daemon off;
worker_processes {workers};
pid {directory}/nginx.pid;
error_log stderr warn;
{user}
events {{ worker_connections 8192; }}
http {{
  access_log off;
  keepalive_requests 1000000;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
{http}
  server {{
    listen 127.0.0.1:{port}{ssl};
    location = /nginx-is-ready {{ return 204; }}
{server}
  }}
}}
"""


class Nginx:
    """`async with Nginx(tmp_path, "location / { return 200 hello; }") as nginx: nginx.port`.

    `server` goes into the server block, `http` (upstream blocks and the like) beside it; with `ssl` it listens for
    TLS only, and `server` names the certificate.
    """

    def __init__(self, directory: Path, server: str, *, http: str = "", ssl: bool = False, workers: int = 1) -> None:
        self.directory = directory
        self.server = server
        self.http = http
        self.ssl = ssl
        self.workers = workers

    async def start(self) -> Self:
        """nginx inherits its listening socket, as over an upgrade of its binary: so the port is free for
        sure, and clients that come before it is ready stand in the queue."""
        binary = need("nginx")
        self.directory.mkdir(parents=True, exist_ok=True)
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", 0))
            listener.listen(4096)
            self.port: int = listener.getsockname()[1]
            config = self.directory / "nginx.conf"
            config.write_text(
                CONFIG.format(
                    directory=self.directory,
                    user="user root;" if os.geteuid() == 0 else "",
                    port=self.port,
                    ssl=" ssl" if self.ssl else "",
                    workers=self.workers,
                    http=self.http,
                    server=self.server,
                )
            )
            number = listener.fileno()
            self.child = await Child.start(
                [binary, "-p", str(self.directory), "-e", "stderr", "-c", str(config)],
                env={"NGINX": f"{number};"},
                pass_fds=[number],
            )
        try:
            tls = unverified() if self.ssl else None
            answer = await fetch(self.port, "/nginx-is-ready", tls=tls, within=10)
        except Exception as error:
            await self.close()
            raise AssertionError(f"nginx did not start ({error!r}):\n{self.child.stderr}") from error
        assert answer.status == 204, answer
        return self

    async def close(self) -> None:
        await self.child.end()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()
