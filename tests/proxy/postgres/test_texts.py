"""What texts show is remembered, for all databases and within bounds."""

from collections.abc import Awaitable, Callable

import pytest
from tests.proxy.postgres.harness import Rig

from forebay_core.postgres.marks import NONE, UNCLEAR, Marks
from forebay_proxy.postgres import texts
from forebay_proxy.postgres.extended import EITHER, USUAL

Start = Callable[..., Awaitable[Rig]]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The texts that are read, in order."""
    found: list[bytes] = []

    def marks(text: bytes, **_: bool) -> Marks:
        found.append(text)
        return NONE

    monkeypatch.setattr(texts, "marks", marks)
    return found


def test_the_usual_ones_are_read_once(read: list[bytes]) -> None:
    known = texts.Texts()
    for lexing in (USUAL, USUAL, (False, True), (False, True)):
        known.marks(b"SET a = 1", lexing)
    known.marks(b"SELECT 1", USUAL)
    assert read == [b"SET a = 1"] * 3, "one that is plain needs no reading"
    assert known.marks(b"SET a = '\\'", EITHER) == UNCLEAR


def test_those_that_came_last_are_kept(read: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "MOST", 3 * (texts.BESIDE + 3))
    known = texts.Texts()
    for text in (b"a 1", b"b 2", b"c 3", b"a 1", b"d 4", b"a 1", b"b 2"):
        known.marks(text, USUAL)
    assert read == [b"a 1", b"b 2", b"c 3", b"d 4", b"b 2"]


def test_their_bytes_are_bounded(read: list[bytes]) -> None:
    known = texts.Texts()
    for number in range(6000):
        known.marks(b"/* %d */" % number + b"x" * 4000, USUAL)
    assert 3000 < len(known._found) < 4096, known
    known.marks(b"/* too long */" + b"x" * texts.LONGEST, USUAL)
    assert (read[-1] in known._found, read[-2] in known._found) == (False, True)


async def test_all_databases_have_them_in_common(rig: Start, read: list[bytes]) -> None:
    """However many start-up parameters there are: each makes one."""
    r = await rig()
    for number in range(3):
        client = await r.session(geqo_seed=f"0.{number}")
        await client.ask("/* x */ SELECT 1")
    assert len(r.proxy.databases) == 3
    assert read == [b"/* x */ SELECT 1"]
