"""What parents are asked, and what they answer."""

import pytest

from forebay_core.forward.parents import ParentCredentialsError, connect_head, outcome, parse_parent_credentials
from forebay_core.forward.target import parse_authority


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_credentials_are_one_line(end: str) -> None:
    assert parse_parent_credentials(f"Aladdin:open sesame{end}") == b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="  # RFC 7617


@pytest.mark.parametrize(
    "text", ["", "user", ":secret", "user:secret\nuser:secret", "user:sec\0ret", "user:secret\n\n"]
)
def test_other_credentials_are_refused_unseen(text: str) -> None:
    with pytest.raises(ParentCredentialsError, match="one line of user:password") as raised:
        parse_parent_credentials(text)
    assert "sec" not in str(raised.value)


def test_a_parent_is_asked_for_a_tunnel() -> None:
    target = parse_authority(b"[::1]:443", None)
    via = b"Via: 1.1 a\r\n"
    assert connect_head(target, b"", via) == b"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\nVia: 1.1 a\r\n\r\n"
    assert connect_head(target, b"Basic x", b"").endswith(b"\r\nProxy-Authorization: Basic x\r\n\r\n")


@pytest.mark.parametrize(
    ("status", "connect", "found"),
    [
        (200, True, "open"),
        (204, True, "open"),
        (301, True, "next"),
        (403, True, "next"),
        (407, True, "next"),
        (502, True, "next"),
        (503, True, "next"),
        (504, True, "answer"),
        (200, False, "open"),
        (403, False, "open"),
        (407, False, "next"),
        (503, False, "open"),
    ],
)
def test_what_an_answer_means(status: int, connect: bool, found: str) -> None:
    assert outcome(status, connect) == found
