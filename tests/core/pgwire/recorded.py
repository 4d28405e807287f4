"""The recorded corpus: what `record.py` wrote, parted into start-up and messages."""

from pathlib import Path
from typing import NamedTuple

from forebay_core.pgwire.fields import read_message
from forebay_core.pgwire.startup import Encryption, Packet, read_startup

CORPUS = Path(__file__).parent / "corpus"
NAMES = sorted(path.stem for path in CORPUS.glob("*.client"))
LIMIT = 10_000  # bytes of a message while a connection is set up

Message = tuple[bytes, bytes]  # type and body


class Recording(NamedTuple):
    packets: list[Packet]  # the client's, before its first message
    answers: bytes  # the server's, one byte for each request for encryption
    proofs: list[Message]  # the client's messages of authentication
    greeting: list[Message]  # the server's messages up to and with the first ReadyForQuery
    client: bytes  # all that follows
    server: bytes


def recording(name: str) -> Recording:
    client = (CORPUS / f"{name}.client").read_bytes()
    server = (CORPUS / f"{name}.server").read_bytes()
    packets: list[Packet] = []
    while not packets or isinstance(packets[-1], Encryption):
        packet, end = read_startup(client) or (None, 0)
        assert packet is not None
        packets.append(packet)
        client = client[end:]
    answers, server = server[: len(packets) - 1], server[len(packets) - 1 :]
    proofs: list[Message] = []
    while client[:1] == b"p":
        client = take(client, proofs)
    greeting: list[Message] = []
    while not greeting or greeting[-1][0] != b"Z":
        server = take(server, greeting)
    return Recording(packets, answers, proofs, greeting, client, server)


def take(data: bytes, messages: list[Message]) -> bytes:
    found = read_message(data, 0, LIMIT)
    assert found is not None
    messages.append(found[:2])
    return data[found[2] :]


def divide(data: bytes) -> list[Message]:
    """All messages of a stream, by nothing but their lengths."""
    messages: list[Message] = []
    while data:
        length = int.from_bytes(data[1:5], "big")
        messages.append((data[:1], data[5 : length + 1]))
        data = data[length + 1 :]
    return messages
