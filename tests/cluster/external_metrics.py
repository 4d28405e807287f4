"""Runs in a pod: a stub of the external metrics API, where every metric is VALUE: `python external_metrics.py VALUE`.

HTTPS on port 8443 with the certificate in /tls; the API server's aggregator asks it for the HPA controller.
"""

import asyncio
import datetime
import ssl
import sys

from aiohttp import web

GROUP = "external.metrics.k8s.io/v1beta1"


def application(value: str) -> web.Application:
    async def resources(_: web.Request) -> web.Response:
        listed = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP, "resources": []}
        return web.json_response(listed)

    async def metric(request: web.Request) -> web.Response:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        item = {"metricName": request.match_info["metric"], "metricLabels": {}, "timestamp": now, "value": value}
        return web.json_response(
            {"kind": "ExternalMetricValueList", "apiVersion": GROUP, "metadata": {}, "items": [item]}
        )

    made = web.Application()
    made.add_routes(
        [web.get(f"/apis/{GROUP}", resources), web.get(f"/apis/{GROUP}/namespaces/{{namespace}}/{{metric}}", metric)]
    )
    return made


async def main(value: str) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
    runner = web.AppRunner(application(value), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", 8443, ssl_context=tls).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
