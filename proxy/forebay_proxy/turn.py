"""What one turn of the loop has read, dealt with together: answers first, then requests.

Between two reads lies the kernel's code, which leaves little of ours in the processor's caches. So who can wait for the
end of the turn only notes what has come, and is dealt with behind the last read, all with the same steps right after
each other; the loop writes behind that what has been written meanwhile, as ever. And what answers free is there for the
requests of the same turn, in whatever order the kernel has told of them: hardly one of those finds a pool empty that is
just large enough. A turn of a loop with little to do has one event, and costs what it did.

(J. R. Larus, M. Parkes: Using Cohort-Scheduling to Enhance Server Performance, USENIX ATC 2002.)
"""

import asyncio
from collections.abc import Iterator
from operator import length_hint
from time import monotonic
from typing import Any, Protocol


class Party(Protocol):
    """What notes bytes for the end of the turn."""

    @staticmethod
    def deal(parties: Iterator[Any], now: float) -> None:
        """With what each of these, all of one class, has noted. `now`: of the turn, monotonic seconds."""

    def broke(self) -> None:
        """Dealing with what it had noted has raised: it is to be closed at once."""


class Turn:
    """Of one loop. All of `answers` are of one class, and all of `requests`. Who adds the first calls `begin`."""

    __slots__ = ("_loop", "answers", "requests")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.answers: list[Party] = []
        self.requests: list[Party] = []

    def begin(self) -> None:
        """There is something to deal with, of one side, before anything is added to it."""
        if not self.answers and not self.requests:
            self._loop.call_soon(self.end)

    def end(self) -> None:
        """Deal with all that has come. What is added meanwhile has a turn of its own."""
        now = monotonic()
        answers, self.answers = self.answers, []
        requests, self.requests = self.requests, []
        for came in (answers, requests):
            if came:
                self._deal(came, now)

    def _deal(self, came: list[Party], now: float) -> None:
        parties = iter(came)
        while True:
            try:
                came[0].deal(parties, now)
            except Exception as error:  # one's mistake must not cost the others their answers
                self._end_broken(came[-1 - length_hint(parties)], error)
            else:
                break

    def _end_broken(self, party: Party, error: Exception) -> None:
        tell = self._loop.call_exception_handler
        tell({"message": f"a turn of {party!r} failed", "exception": error})
        try:
            party.broke()
        except Exception as worse:
            tell({"message": f"the end of {party!r} failed", "exception": worse})
