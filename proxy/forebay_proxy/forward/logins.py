"""Who is it? The verdicts of the slow password hash, computed beside the loop, one after the other.

One thread, as a hash takes milliseconds, and what waits for it is bounded. Only one thread of a process runs Python at
a time, and the interpreter has another wait for 5 ms before it makes them change: so after every 0.1 ms of hashing the
thread sleeps for a moment. A flood of wrong passwords costs the loop part of its core, and holds no request up long.
"""

import asyncio
import threading
import time
from queue import SimpleQueue
from typing import Final, Protocol

from forebay_core.forward.credentials import Credentials, Login

MOST: Final = 64  # requests that wait for their password to be hashed


def yield_to_loop() -> None:
    """Let go of the interpreter for long enough that a loop with something to do wakes up: sleep(0) may have it back
    before that."""
    time.sleep(1e-6)  # in effect some 50 us, the kernel's timer slack


class Applicant(Protocol):
    """Who waits for a verdict."""

    def verified(self, login: Login) -> None: ...


class Logins:
    """The users of one document, on one loop."""

    def __init__(self, credentials: Credentials) -> None:
        self.known = credentials.known
        self._credentials = credentials
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[bytes, list[Applicant]] = {}
        self._work: SimpleQueue[bytes | None] = SimpleQueue()
        threading.Thread(target=self._run, name="credentials", daemon=True).start()

    def verify(self, value: bytes, applicant: Applicant) -> bool:
        """The applicant is told; False: too many wait already."""
        if sum(map(len, self._waiting.values())) >= MOST and value not in self._waiting:
            return False
        if value in self._waiting:  # one client's many connections begin with the same question
            self._waiting[value].append(applicant)
        else:
            self._waiting[value] = [applicant]
            self._work.put(value)
        return True

    def close(self) -> None:
        """End the thread; who still waits is told what was found."""
        self._work.put(None)

    def _run(self) -> None:
        while (value := self._work.get()) is not None:
            login = self._credentials.verify(value, yield_to_loop)
            try:
                self._loop.call_soon_threadsafe(self._done, value, login)
            except RuntimeError:  # the loop has closed meanwhile: nobody asks any more
                return

    def _done(self, value: bytes, login: Login) -> None:
        self._credentials.remember(value, login)
        for applicant in self._waiting.pop(value):
            applicant.verified(login)
