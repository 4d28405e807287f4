"""A name server for a zone of the test, which can answer otherwise the next time: as a rebinding attacker's does.

The C library asks port 53 of what resolv.conf names. So the server binds port 53 of a loopback address of its own, and
the proxy gets its own resolv.conf in a mount namespace: for both one has to be root.
"""

import asyncio
import ipaddress
import os
import random
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import pytest
from tests.support.forebay import Forebay
from tests.support.process import need

A, CNAME, AAAA = 1, 5, 28  # RFC 1035 section 3.2.2, RFC 3596
NXDOMAIN = 3


class NameServer(asyncio.DatagramProtocol):
    """`zone`: by name, its answers in turn, the last one again and again; `aliases`: what names are other names of;
    `answering`: set once it answers."""

    def __init__(
        self,
        zone: Mapping[str, Sequence[Sequence[str]]],
        aliases: Mapping[str, str],
        answering: asyncio.Event | None = None,
    ) -> None:
        self._zone = zone
        self._aliases = aliases
        self._answering = answering
        self._waiting: set[asyncio.Task[None]] = set()
        self.was_asked = asyncio.Event()
        self.asked: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        if os.geteuid() != 0:
            pytest.skip("a name server of the test needs root: port 53 and a mount namespace")
        self.address = f"127.{random.randrange(64, 128)}.{random.randrange(256)}.53"
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(self.address, 53))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._transport.close()
        for task in self._waiting:
            task.cancel()

    def serve(self, forebay: Forebay, directory: Path) -> Forebay:
        """Let the proxy ask here."""
        conf = directory / "resolv.conf"
        conf.write_text(f"nameserver {self.address}\noptions timeout:20 attempts:1\n")
        script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        forebay.argv = [need("unshare"), "--mount", "/bin/sh", "-c", script, str(conf), *forebay.argv]
        return forebay

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.was_asked.set()
        if self._answering is None:
            self._reply(data, addr)
        else:
            self._waiting.add(asyncio.create_task(self._reply_later(data, addr)))

    async def _reply_later(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._answering is not None
        await self._answering.wait()
        self._reply(data, addr)

    def _reply(self, data: bytes, addr: tuple[str, int]) -> None:
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]])
            at += 1 + data[at]
        (kind,) = struct.unpack_from("!H", data, at + 1)
        question = data[12 : at + 5]
        name = b".".join(labels).decode("ascii").lower()
        records, status = self._answer(name, kind)
        head = data[:2] + struct.pack("!HHHHH", 0x8180 | status, 1, len(records), 0, 0)
        self._transport.sendto(head + question + b"".join(records), addr)  # type: ignore[attr-defined]

    def _answer(self, name: str, kind: int) -> tuple[list[bytes], int]:
        records = []
        while name in self._aliases:
            records.append(record(name, CNAME, encoded(self._aliases[name])))
            name = self._aliases[name]
        if name not in self._zone:
            return records, NXDOMAIN
        turns = self._zone[name]
        if kind == A:
            self.asked[name] = self.asked.get(name, 0) + 1
        turn = turns[min(max(self.asked.get(name, 1), 1), len(turns)) - 1]
        for text in turn:
            address = ipaddress.ip_address(text)
            if kind == (A if address.version == 4 else AAAA):
                records.append(record(name, kind, address.packed))
        return records, 0


def encoded(name: str) -> bytes:
    """A name on the wire (RFC 1035 section 3.1), uncompressed."""
    return b"".join(bytes((len(label),)) + label.encode() for label in name.split(".")) + b"\0"


def record(name: str, kind: int, data: bytes) -> bytes:
    """One that is not to be kept: its time to live is 0."""
    return encoded(name) + struct.pack("!HHIH", kind, 1, 0, len(data)) + data
