"""The PostgreSQL wire protocol, version 3 (PostgreSQL docs, chapter 55 "Frontend/Backend Protocol").

The scans, `lone`, `answered`, `Plain` and `rename` are what a relay calls for each chunk. They exist twice behind one
interface, with the same results and the same errors: `compiled` (Cython) and `pure`. The compiled ones are taken where
they were built, unless the environment says `FOREBAY_CODEC=pure`. What is said once per connection is plain Python:
`startup` (the packets before the first message), `frontend` and `backend` (messages of clients and of servers, written
and read).
"""

import os
from typing import TYPE_CHECKING

from forebay_core.pgwire.types import ProtocolError, reporting

if TYPE_CHECKING:
    from forebay_core.pgwire.pure import Plain, answered, lone, rename, scan_client, scan_server

    IMPLEMENTATION: str
else:
    try:
        if os.environ.get("FOREBAY_CODEC") == "pure":
            raise ImportError("FOREBAY_CODEC=pure")
        from forebay_core.pgwire.compiled import Plain, answered, lone, rename, scan_client, scan_server

        IMPLEMENTATION = "compiled"
    except ImportError:
        from forebay_core.pgwire.pure import Plain, answered, lone, rename, scan_client, scan_server

        IMPLEMENTATION = "pure"

__all__ = [
    "IMPLEMENTATION",
    "Plain",
    "ProtocolError",
    "answered",
    "lone",
    "rename",
    "reporting",
    "scan_client",
    "scan_server",
]
