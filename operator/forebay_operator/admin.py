"""Where a pod's admin port is, and how long it is waited for."""

import aiohttp

from forebay_operator.objects import ADMIN_PORT

PATIENCE = aiohttp.ClientTimeout(total=1.5)  # an answer that is late counts as none


def admin_url(ip: str, path: str) -> str:
    host = f"[{ip}]" if ":" in ip else ip
    return f"http://{host}:{ADMIN_PORT}{path}"
