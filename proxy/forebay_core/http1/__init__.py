"""The HTTP/1 codec: strict head scanning and rewriting, and the chunked coding (RFC 9110, RFC 9112).

There are two implementations behind one interface, with the same results and the same errors: `compiled` (Cython) and
`pure`. The compiled one is taken where it was built, unless the environment says `FOREBAY_CODEC=pure`.
"""

import os
from typing import TYPE_CHECKING

from forebay_core.http1.types import CHUNKED, LENGTH, NO_BODY, UNTIL_CLOSE, ProtocolError

if TYPE_CHECKING:
    from forebay_core.http1.pure import ChunkDecoder, RequestHead, ResponseHead, answered, scan_request, scan_response

    IMPLEMENTATION: str
else:
    try:
        if os.environ.get("FOREBAY_CODEC") == "pure":
            raise ImportError("FOREBAY_CODEC=pure")
        from forebay_core.http1.compiled import (
            ChunkDecoder,
            RequestHead,
            ResponseHead,
            answered,
            scan_request,
            scan_response,
        )

        IMPLEMENTATION = "compiled"
    except ImportError:
        from forebay_core.http1.pure import (
            ChunkDecoder,
            RequestHead,
            ResponseHead,
            answered,
            scan_request,
            scan_response,
        )

        IMPLEMENTATION = "pure"

__all__ = [
    "CHUNKED",
    "IMPLEMENTATION",
    "LENGTH",
    "NO_BODY",
    "UNTIL_CLOSE",
    "ChunkDecoder",
    "ProtocolError",
    "RequestHead",
    "ResponseHead",
    "answered",
    "scan_request",
    "scan_response",
]
