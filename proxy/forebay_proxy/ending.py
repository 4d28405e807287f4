"""The last bytes of a client's connection, sent together with its end.

A transport that is told to write and then to close does one after the other: two packets, of which the second waits for
the loop's next turn, and over TLS a third, when the client has said goodbye as well. Servers in C do it in the same
breath.

Over TCP the kernel does it for us. A connection comes *corked* into the world, by its listening socket (tcp(7),
TCP_CORK): what does not fill a packet waits for the end, or for `uncork`. So who is answered once and then closed gets
one packet; whoever is written to in another way has to be uncorked before.
"""

import atexit
from socket import AF_INET, IPPROTO_TCP, SO_LINGER, SOCK_STREAM, SOL_SOCKET, TCP_CORK, SocketType
from ssl import SSLError, SSLWantReadError
from struct import pack
from typing import Any

# By descriptor. They own none: whose it is at the time, the transport knows. To make one costs a system call.
_views: dict[int, SocketType] = {}


def _view(fd: int) -> SocketType:
    view = _views[fd] = SocketType(AF_INET, SOCK_STREAM, 0, fd)
    return view


@atexit.register
def _let_go() -> None:
    for view in _views.values():
        view.detach()  # else it would close what it does not own


def uncork(transport: Any) -> None:
    """From now on all is sent at once that is written to an open transport over TCP."""
    fd = transport.get_extra_info("socket").fileno()
    (_views.get(fd) or _view(fd)).setsockopt(IPPROTO_TCP, TCP_CORK, 0)


def reset_at_close(sock: Any) -> None:
    """Its close is a reset from now on, which takes back what has not been sent (socket(7), SO_LINGER)."""
    sock.setsockopt(SOL_SOCKET, SO_LINGER, pack("ii", 1, 0))


def keep_end_behind(transport: Any) -> None:
    """Of a peer over TLS that is not read from for now, take nothing in from the kernel. uvloop would read on, up to
    256 KiB, and where it reads the connection's end it drops what it has not handed over: an answer would lack its
    last part, or a tunnel, with nothing to show it."""
    if transport.get_extra_info("ssl_object") is not None:
        transport.set_read_buffer_limits(1, 0)


def end_tls(transport: Any, data: bytes) -> None:
    """Send `data` with our close_notify, and close without waiting for the client's (RFC 8446 section 6.1). The
    transport has nothing left to send; it may have then, for as long as the client pleases."""
    tls = transport.get_extra_info("ssl_object")
    protocol = transport.get_extra_info("uvloop.sslproto")
    try:
        sent = tls.write(data)
        if sent < len(data):
            transport.write(data[sent:])
        elif protocol is not None:
            tls.unwrap()
    except SSLWantReadError:  # as usual: our close_notify is written, the client's has not come
        protocol.buffer_updated(0)  # sends what is written
        protocol.eof_received()  # as if the client's had come: this closes
        return
    except SSLError:
        pass  # the transport finds out
    transport.close()
