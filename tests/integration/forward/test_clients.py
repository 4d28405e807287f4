"""Clients that people use fetch http and https sites through the proxy, with a password."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import aiohttp
import httpx
import pytest
import requests
from tests.integration.forward.harness import document
from tests.integration.forward.test_access import htpasswd
from tests.integration.http.harness import running, upstream_state
from tests.integration.http.test_real_clients import curl
from tests.integration.http.test_tls import listening
from tests.support.certs import CA
from tests.support.forebay import Forebay
from tests.support.origin import Origin
from tests.support.origin_routes import content
from tests.support.process import need

SIZE = 300_000


class Web(NamedTuple):
    """A proxy with its user in the URL, and two sites."""

    forebay: Forebay
    proxy: str
    http: str
    https: str
    ca: str


@pytest.fixture
async def web(tmp_path: Path, ca: CA) -> AsyncIterator[Web]:
    users = htpasswd(tmp_path, anna="s3cret")
    async with Origin() as plain, Origin(tls=ca.server()) as secure:
        pool = document({"ports": [plain.port, secure.port], "credentialsFile": str(users)})
        async with running(tmp_path / "forebay", pool) as forebay:
            yield Web(
                forebay,
                f"http://anna:s3cret@127.0.0.1:{forebay.port}",
                f"http://localhost:{plain.port}/bytes/{SIZE}",
                f"https://localhost:{secure.port}/bytes/{SIZE}",
                str(ca.cert),
            )
            codes = (await upstream_state(forebay, "out"))["codes"]
            assert codes.get("200", 0) >= 2, codes


async def test_curl(web: Web) -> None:
    for url in (web.http, web.https):
        assert await curl("--proxy", web.proxy, "--noproxy", "", "--cacert", web.ca, url, url) == content(SIZE) * 2
        tunnelled = await curl("--proxy", web.proxy, "--noproxy", "", "--proxytunnel", "--cacert", web.ca, url)
        assert tunnelled == content(SIZE)
        asked = ["--proxy-anyauth", "--proxy", web.proxy, "--noproxy", "", "--cacert", web.ca, url]
        assert await curl(*asked) == content(SIZE)  # after the challenge


async def test_curl_to_a_proxy_behind_tls(tmp_path: Path, ca: CA) -> None:
    """So that a password is not to be read: TLS to the proxy, and another inside to the site."""
    users = htpasswd(tmp_path, anna="s3cret")
    async with Origin() as plain, Origin(tls=ca.server(stem="site")) as secure:
        pool = document(
            {"ports": [plain.port, secure.port], "credentialsFile": str(users)}, spec=listening(ca.server(stem="proxy"))
        )
        async with running(tmp_path / "forebay", pool) as forebay:
            proxy = ["--proxy", f"https://anna:s3cret@localhost:{forebay.port}", "--noproxy", ""]
            for url in (f"http://localhost:{plain.port}", f"https://localhost:{secure.port}"):
                trusted = ["--proxy-cacert", str(ca.cert), "--cacert", str(ca.cert)]
                assert await curl(*proxy, *trusted, *[f"{url}/bytes/{SIZE}"] * 2) == content(SIZE) * 2


async def test_requests(web: Web) -> None:
    def fetch() -> None:
        with requests.Session() as session:
            session.trust_env = False
            session.proxies = {"http": web.proxy, "https": web.proxy}
            session.verify = web.ca
            for url in (web.http, web.https):
                for _ in range(2):
                    assert session.get(url, timeout=20).content == content(SIZE)

    await asyncio.to_thread(fetch)


async def test_httpx(web: Web) -> None:
    context = ssl.create_default_context(cafile=web.ca)
    async with httpx.AsyncClient(proxy=web.proxy, verify=context, trust_env=False) as client:
        for url in (web.http, web.https):
            for _ in range(2):
                assert (await client.get(url)).content == content(SIZE)


async def test_aiohttp(web: Web) -> None:
    context = ssl.create_default_context(cafile=web.ca)
    async with aiohttp.ClientSession() as session:
        for url in (web.http, web.https):
            for _ in range(2):
                async with session.get(url, proxy=web.proxy, ssl=context) as answer:
                    assert await answer.read() == content(SIZE)


NODE = """
const { fetch, ProxyAgent } = require("undici");
const [proxy, ...urls] = process.argv.slice(1);
const { username, password, origin } = new URL(proxy);
const token = "Basic " + Buffer.from(`${username}:${password}`).toString("base64");
const dispatcher = new ProxyAgent({ uri: origin, token });
(async () => {
  for (const url of urls) {
    const answer = await fetch(url, { dispatcher });
    console.log(answer.status, (await answer.arrayBuffer()).byteLength);
  }
  await dispatcher.close();
})();
"""


async def test_node(web: Web) -> None:
    """Node's fetch is undici's; its ProxyAgent comes with the package: Debian's, or NODE_PATH has to lead to it."""
    env = {"NODE_PATH": "/usr/share/nodejs", **os.environ, "NODE_EXTRA_CA_CERTS": web.ca}
    found = await asyncio.create_subprocess_exec(need("node"), "-e", 'require("undici")', env=env, stderr=-3)
    if await found.wait():
        pytest.skip("needs undici (Debian: node-undici), or NODE_PATH to lead to it")
    process = await asyncio.create_subprocess_exec(
        need("node"), "-e", NODE, web.proxy, web.http, web.https, env=env, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert out.decode().split("\n") == [f"200 {SIZE}", f"200 {SIZE}", ""]
