"""Parent proxies: what they are asked, and what their answers mean.

Parents may lead in a circle, in which one request would go round until it has every connection. So each process has a
name of its own in the Via that parents get, and refuses what bears it (RFC 9110 section 7.6.3). Origins are not told.
"""

from base64 import b64encode
from typing import Literal

from forebay_core.forward.target import Target

Outcome = Literal["open", "next", "answer"]


class ParentCredentialsError(ValueError):
    """The credentials for a parent are refused, with a sentence that does not show them."""


def parse_parent_credentials(text: str) -> bytes:
    """The value of Proxy-Authorization (RFC 7617) from `user:password` and at most one line's end. Raises
    ParentCredentialsError.
    """
    line = text.removesuffix("\n").removesuffix("\r")
    user, colon, _ = line.partition(":")
    if not user or not colon or not line.isprintable():
        raise ParentCredentialsError("expected one line of user:password")
    return b"Basic " + b64encode(line.encode())


def connect_head(target: Target, authorization: bytes, via: bytes) -> bytes:
    """The whole head of the CONNECT that a parent gets. `authorization` is b"" where it asks for none; `via` is whole
    lines.
    """
    name = target.name.encode()
    proof = b"Proxy-Authorization: %s\r\n" % authorization if authorization else b""
    return b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s%s\r\n" % (name, name, via, proof)


def outcome(status: int, connect: bool) -> Outcome:
    """What a parent's final status means. `open`: the tunnel stands, or this is the answer; `next`: the parent refused
    by itself, another may not, and nothing has been done; `answer`: the far side's failure, which every parent would
    see. A plain request's 403 or 5xx may be the origin's own words: they are passed on.
    """
    if connect:
        return "open" if 200 <= status < 300 else "answer" if status == 504 else "next"
    return "next" if status == 407 else "open"
