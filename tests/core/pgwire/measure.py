"""What the scans cost: `python -m tests.core.pgwire.measure`, from the repository, with `proxy` on PYTHONPATH.

Not a test: it prints nanoseconds per chunk and per message, of the least of five runs, for both codecs.
"""

import importlib
from collections.abc import Callable
from timeit import Timer

from forebay_core.pgwire import backend, frontend, reporting

HELD = 1 << 16
WANTED = reporting(b"ACENSGHW")
ANSWERED = reporting(b"ACENSGHW13Z")
TEXT = b"SELECT abalance FROM pgbench_accounts WHERE aid = $1;"

QUERY = frontend.query(TEXT)
RUN = frontend.describe_portal(b"") + frontend.execute() + frontend.SYNC
EXTENDED = frontend.parse(frontend.Statement(b"", TEXT, frontend.NO_TYPES)) + frontend.bind(b"", b"", (b"12345",)) + RUN
BIND = frontend.bind(b"", b"P_0", (b"12345",))
ROWS = (
    backend.row_description([("abalance", backend.INT4_TYPE)])
    + backend.data_row(["0"])
    + backend.command_complete("SELECT 1")
    + backend.ready_for_query(b"I")
)
ROW = backend.data_row(["12345", "x" * 40])
MANY = HELD // len(ROW)


def cases(codec: object) -> dict[str, tuple[int, Callable[[], object]]]:
    """By name: how many messages, and what scans them."""
    client, server, rename = (getattr(codec, name) for name in ("scan_client", "scan_server", "rename"))
    parsed = backend.PARSE_COMPLETE + backend.BIND_COMPLETE + ROWS
    return {
        "Query": (1, lambda: client(QUERY, 0, HELD)),
        "Parse Bind Describe Execute Sync": (5, lambda: client(EXTENDED, 0, HELD)),
        "Bind Describe Execute Sync, named": (4, lambda: client(BIND + RUN, 0, HELD)),
        "rename of a Bind": (1, lambda: rename(BIND, 0, len(BIND), b"forebay_12345678")),
        "answer T D C Z": (4, lambda: server(ROWS, 0, HELD, WANTED)),
        "answer 1 2 T D C Z, two reported": (6, lambda: server(parsed, 0, HELD, ANSWERED)),
        f"64 KiB of {MANY} rows": (MANY, lambda data=ROW * MANY: server(data, 0, HELD, WANTED)),
    }


def main() -> None:
    for implementation in ("compiled", "pure"):
        for name, (messages, scan) in cases(importlib.import_module(f"forebay_core.pgwire.{implementation}")).items():
            timer = Timer(scan)
            count, _ = timer.autorange()
            chunk = min(timer.repeat(5, count)) / count * 1e9
            print(f"{implementation:8}  {name:34} {chunk:9.0f} ns {chunk / messages:8.1f} ns/message")


if __name__ == "__main__":
    main()
