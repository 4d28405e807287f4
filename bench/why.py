"""Why we lose where we do: for the page of results. Figures are of the machine that the page names."""

INTERPRETER = (
    "Three quarters of what a request costs are the kernel's, in all three alike: two reads, two writes. What is "
    "left is 4 to 5 µs in each (1 KiB answers, perf): in Forebay half of it the interpreter (some 450 bytecodes in 7 "
    "calls for a request), 0.7 µs uvloop and as much the compiled codec. And where processes share cores, one that "
    "computes longer is more often interrupted by those that it writes to: its part of the kernel's time grows too."
)

CONNECTING = (
    "A connection takes some 8 µs of Python and uvloop beside what its request takes, where nginx takes 1: a "
    "transport is made and closed with its handles, and its deadline goes to the timer wheel. And it takes more "
    "system calls: both addresses are asked of the kernel, and TCP_NODELAY is set, for each. Tried without effect: "
    "TCP_DEFER_ACCEPT, and libuv without io_uring."
)

HANDSHAKE = (
    "OpenSSL's part is the same in all. On top of it come 50 µs in Python's ssl module and 13 in uvloop: a "
    "transport for TLS over one for TCP, both made and closed, buffers between them, an exception for each time "
    "that a handshake waits."
)

BUFFERS = (
    "uvloop's TLS reads and writes through buffers in memory (ssl.MemoryBIO), so that all bytes are copied once "
    "more in each direction and on each side."
)

QUERIES = (
    "A transaction of pgbench -S is some 280 bytecodes of Python in 5 calls, and two reads and two writes of "
    "uvloop's; what PgBouncer does meanwhile is C."
)
