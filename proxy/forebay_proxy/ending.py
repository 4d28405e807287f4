"""The last bytes of a client's connection, sent together with its end.

A transport that is told to write and then to close does one after the other: two packets, of which the second waits for
the loop's next turn, and over TLS a third, when the client has said goodbye as well. Servers in C do it in the same
breath, as both functions here do. Both want a transport that has nothing left to send, close it, and return whether
the kernel has all of `data`; where it has not, the transport goes on, for as long as the client pleases.
"""

import atexit
from socket import AF_INET, MSG_DONTWAIT, MSG_MORE, MSG_NOSIGNAL, SHUT_WR, SOCK_STREAM, SocketType
from ssl import SSLError, SSLWantReadError
from typing import Any, Final

WITH_MORE: Final = MSG_MORE | MSG_DONTWAIT | MSG_NOSIGNAL

# By descriptor. They own none: whose it is at the time, the transport knows. To make one costs a system call.
_views: dict[int, SocketType] = {}


def _view(fd: int) -> SocketType:
    view = _views[fd] = SocketType(AF_INET, SOCK_STREAM, 0, fd)
    return view


@atexit.register
def _let_go() -> None:
    for view in _views.values():
        view.detach()  # else it would close what it does not own


def end_tcp(transport: Any, data: bytes) -> bool:
    """Send `data` with the FIN, in one packet where it fits (send(2), MSG_MORE)."""
    fd = transport.get_extra_info("socket").fileno()
    sock = _views.get(fd) or _view(fd)
    sent = 0
    try:
        sent = sock.send(data, WITH_MORE)
        if sent == len(data):
            sock.shutdown(SHUT_WR)
    except OSError:
        pass  # it is full, or gone: the transport finds out
    if sent < len(data):
        transport.write(data[sent:])
    transport.close()
    return sent == len(data)


def end_tls(transport: Any, data: bytes) -> bool:
    """Send `data` with our close_notify, and close without waiting for the client's (RFC 8446 section 6.1)."""
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
        return False
    except SSLError:
        pass  # the transport finds out
    transport.close()
    return False
