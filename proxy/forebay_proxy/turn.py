"""What one turn of the loop has read, dealt with together: answers first, then requests.

Between two reads lies the kernel's code, which leaves little of ours in the processor's caches. So who can wait for the
end of the turn only notes what has come, and is dealt with behind the last read, all with the same steps right after
each other; the loop writes behind that what has been written meanwhile, as ever. And what answers free is there for the
requests of the same turn, in whatever order the kernel has told of them: hardly one of those finds a pool empty that is
just large enough.

A loop that has little to do reads once or twice in a turn: there is nothing to be won, and the end of a turn has a
price. So while turns are short, what comes is dealt with at once, and every now and then a turn tells whether they
still are.

(J. R. Larus, M. Parkes: Using Cohort-Scheduling to Enhance Server Performance, USENIX ATC 2002.)
"""

import asyncio
from collections.abc import Iterator
from operator import length_hint
from time import monotonic
from typing import Any, Final, Protocol

SHORT: Final = 4.0  # reads in a turn, on average
WEIGHT: Final = 0.125  # of the newest turn in that
AT_ONCE: Final = 64  # reads between two turns that are looked at, while they are short


class Party(Protocol):
    """What notes bytes, before it asks whether they are for the end of the turn."""

    @staticmethod
    def deal(parties: Iterator[Any], now: float) -> None:
        """With what each of these, all of one class, has noted. `now`: of the turn, monotonic seconds."""

    def broke(self) -> None:
        """Dealing at the end of a turn with what it had noted has raised: it is to be closed at once."""


class Turn:
    """Of one loop. All of `answers` are of one class, and all of `requests`. Who is the first to be added to one of
    them asks `begin`."""

    __slots__ = ("_at_once", "_length", "_loop", "_partly", "answers", "requests")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._length = 0.0  # reads in a turn, on average
        self._at_once = 0  # so many more reads are dealt with at once
        self._partly = False  # of this turn, or the next one, reads have been dealt with at once
        self.answers: list[Party] = []
        self.requests: list[Party] = []

    def begin(self, party: Party) -> bool:
        """Before anything is added to a side that is empty. False: turns are short, and what it has noted has been
        dealt with."""
        if self._at_once:
            self._at_once -= 1
            party.deal(iter((party,)), monotonic())
            return False
        if not self.answers and not self.requests:
            self._loop.call_soon(self.end)
        return True

    def end(self) -> None:
        """Deal with all that has come. What is added meanwhile has a turn of its own."""
        now = monotonic()
        answers, self.answers = self.answers, []
        requests, self.requests = self.requests, []
        for came in (answers, requests):
            if came:
                self._deal(came, now)
        self._look_at(len(answers) + len(requests))

    def _look_at(self, length: int) -> None:
        """At how long this turn was."""
        if not length:
            return
        if self._partly:
            self._partly = False
            return
        self._length += (length - self._length) * WEIGHT
        if self._length < SHORT:
            self._at_once, self._partly = AT_ONCE, True

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
