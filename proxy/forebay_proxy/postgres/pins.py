"""Why a connection stays with its client: what `forebay_core.postgres.marks` has found in the session's statements."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from forebay_core.pgwire import frontend
from forebay_core.postgres.marks import LEFT_BY_RESET_ALL, NONE, PREPARED_UNDER, Marks, marks_of_call, perhaps
from forebay_core.postgres.settings import is_followed

if TYPE_CHECKING:
    from forebay_proxy.postgres.server import PgConnection

OVERLAP: Final = 64  # bytes of a streamed text that are looked at again: longer than any word that marks


class Pins(set[str]):
    """The reasons. They go when a statement that takes them away has succeeded, but for those of prepared statements,
    which may be executed again."""

    __slots__ = ("_sticky", "_tail", "clears")

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(reasons)
        self.clears = NONE.clears  # what the statement under way takes away, if it succeeds
        self._sticky: set[str] = set()
        self._tail: bytes | None = None  # the last bytes of a text that is being streamed

    def mark(self, found: Marks, connection: "PgConnection", *, lone: bool, clearing: bool = False) -> None:
        """What a text says. `lone`: it is a Query, and nothing else is under way; `clearing`: what is under way is this
        text alone, carried out once, outside of a transaction."""
        if clearing:
            self.clears = found.clears
        for reason in found.reasons:
            if not (reason.startswith("set:") and is_followed(reason[4:], connection.reported)):
                self.add(reason)
                if not lone or reason in found.prepared:
                    self._sticky.add(reason)

    def called(self, connection: "PgConnection", data: bytes, at: int) -> None:
        """The FunctionCall at this offset is. Unlike a statement it can't be executed again."""
        self.mark(marks_of_call(frontend.read_function(data, at)), connection, lone=True)

    def failed(self) -> None:
        """The statement under way has, so nothing is taken away."""
        self.clears = NONE.clears

    def succeeded(self, connection: "PgConnection") -> None:
        """The statement under way has."""
        every_set = "set:" in self.clears
        gone = {pin for pin in self if pin in self.clears or (every_set and pin.startswith("set:"))}
        gone -= self._sticky | (LEFT_BY_RESET_ALL - self.clears)
        self -= gone
        if any(pin.startswith(PREPARED_UNDER) for pin in gone):
            connection.statements.doubt_all()
        self.clears = NONE.clears

    def clip(self, kinds: bytes, texts: Sequence[bytes]) -> None:
        """A message is streamed. If it has a text, marks are looked for in all of it, roughly."""
        self._tail = texts[-1][-OVERLAP:] if kinds[-1:] in (b"Q", b"P") else None

    def streamed(self, data: bytes) -> None:
        """More of what is streamed."""
        if self._tail is None:
            return
        text = self._tail + data
        if perhaps(text):
            self.add("unclear")
        self._tail = text[-OVERLAP:]
