"""Why we lose where we do: for the page of results. Figures are of the machine that the page names."""

INTERPRETER = (
    "Three quarters of what a request costs are the kernel's, in all three alike: two reads, two writes. What is "
    "left is 3.5 to 5 µs in nginx and HAProxy and 6 µs in Forebay, half of it the interpreter (some 1,010 bytecodes "
    "in 20 calls for a request), 0.7 µs uvloop and 0.5 µs the compiled codec. And where processes share cores, one "
    "that computes longer is more often interrupted by those that it writes to: its part of the kernel's time grows "
    "too."
)

CONNECTING = (
    "A connection takes some 12 µs of Python and uvloop beside what its request takes, where nginx and HAProxy take "
    "3: a transport is made and closed with its handles, both addresses are asked of the kernel, the forwarding "
    "fields of a client that has not been seen before are written, its deadlines go to the timer wheel. Tried "
    "without effect: TCP_DEFER_ACCEPT, and libuv without io_uring."
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
    "A transaction of pgbench -S is some 390 bytecodes of Python in 7 calls, and two reads and two writes of "
    "uvloop's; what PgBouncer does meanwhile is C."
)
