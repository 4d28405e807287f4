"""Why we lose where we do: for the page of results. Figures are of the machine that the page names."""

INTERPRETER = (
    "Three quarters of what a request costs are the kernel's, in all three alike: two reads, two writes. What is "
    "left is 4 to 5 µs in each (1 KiB answers, perf): in Forebay half of it the interpreter (some 450 bytecodes in 7 "
    "calls for a request), 0.7 µs uvloop and as much the compiled codec. And where processes share cores, one that "
    "computes longer is more often interrupted by those that it writes to: its part of the kernel's time grows too."
)

CONNECTING = (
    "The kernel takes nearly as long for us as for nginx; outside of it a connection with its request takes 9.5 µs, "
    "where nginx takes 4.8: a transport is made and closed with its handles, both addresses are asked of the "
    "kernel and TCP_NODELAY is set for each, its deadline goes to the timer wheel. A connection comes corked out of "
    "its listening socket (TCP_CORK), so that its last answer and its end are one packet: 1.2 "
    "where it was 1.4 with two packets. Tried without effect: TCP_DEFER_ACCEPT, libuv without io_uring, more than one "
    "accept in a turn of the loop."
)

HANDSHAKE = (
    "OpenSSL's part is the same in all. Of the difference some 40 µs are Python's ssl module's and 13 uvloop's: a "
    "transport for TLS over one for TCP, both made and closed, buffers between them, an exception for each time "
    "that a handshake waits. We no longer wait for the client's close_notify, which had cost 8 % more."
)

BUFFERS = (
    "uvloop's TLS reads and writes through buffers in memory (ssl.MemoryBIO), so that all bytes are copied once "
    "more in each direction and on each side."
)

RELAYING = (
    "A message is two reads and two writes in all of them. Ours are uvloop's, with a call into Python for each read; "
    "no codec looks at it."
)

QUERIES = (
    "The kernel takes some 13 µs of a transaction of pgbench -S in both. PgBouncer adds 1 µs of C to that; we some 2 "
    "more, of which two reads and two writes of uvloop's are a third. Under this load a turn of the loop reads some 20 "
    "times, and what it has read is dealt with together (`turn.py`), answers first: so 7 % of the transactions find no "
    "connection free, where a quarter to half did when each was dealt with as it was read. Tried without effect: "
    "aiofastnet's transports in place of uvloop's, the same files compiled by Cython, an interpreter built with "
    "profile-guided optimisation, huge pages."
)

QUEUED_QUERIES = "Nearly all wait for a connection, which takes more steps in Python than to find one free."

RESETS = (
    "A transaction is two exchanges with the server here. The second, our own, goes through `rinse.py` and the "
    "general way of reading answers: what is usual has no shorter one there."
)
