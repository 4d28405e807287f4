"""What is said of a fault."""

import errno
import socket

import pytest

from forebay_proxy.files import reason


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "in words of its own"), "No space left on device"),
        (OSError("out of descriptors"), "out of descriptors"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
    ],
)
def test_a_fault_has_a_reason_with_a_number_or_without(error: OSError, said: str) -> None:
    assert reason(error) == said
