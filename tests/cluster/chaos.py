"""Runs in an operator's pod in the operator's place: `python -c SOURCE MODE...`. What is done to it:

    kill    it is killed (-9) just before, or just after, one of its first writes: another one in each of its lives. A
            write is an object that it applies, a status, or a push of grants to a pod
    pause   it is stopped there for 12 seconds, which is longer than its Lease lasts, and goes on for a few
    usurp   it leads, whoever holds the Lease
    skew    its clock is up to an hour wrong
    deaf    after some seconds nothing comes any more over any connection that there is then, and nobody says so

What was done is a line on standard error: `chaos: kill after patch_status`.
"""

import itertools
import os
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

PAUSE = 12.0  # seconds
AWAKE = 4.0  # seconds for which it then goes on
HEARING = 10.0  # seconds


def say(text: str) -> None:
    os.write(2, f"chaos: {text}\n".encode())


class Fate:
    """The process ends, or stands still, at the `left`th of its writes that are called `name`."""

    def __init__(self, number: int, name: str, left: int, *, before: bool) -> None:
        self.number = number
        self.name = name
        self.left = left
        self.before = before

    def around(self, write: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def written(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            due = self.left == 0
            if due and self.before:
                self.strike(f"before {self.name}")
            answer = await write(*arguments, **options)
            if due and not self.before:
                self.strike(f"after {self.name}")
            return answer

        return written

    def strike(self, where: str) -> None:
        say(f"{'pause' if self.number == signal.SIGSTOP else 'kill'} {where}")
        os.kill(os.getpid(), self.number)


def operate(modes: set[str], turn: int) -> None:
    from aiohttp import StreamReader

    from forebay_operator import __main__, apply, gather
    from forebay_operator.api import Api
    from forebay_operator.lease import Elector

    fatal = [number for mode, number in (("kill", signal.SIGKILL), ("pause", signal.SIGSTOP)) if mode in modes]
    if fatal:
        writes = ((Api, "apply"), (Api, "patch_status"), (apply, "_push"))
        where = list(itertools.product(writes, (True, False)))
        (owner, name), before = where[turn % len(where)]
        lap = turn // len(where)
        fate = Fate(fatal[(turn + lap) % len(fatal)], name, 1 + lap % 3, before=before)
        setattr(owner, name, fate.around(getattr(owner, name)))
    if "usurp" in modes:

        async def taken(_: Elector) -> bool:
            return True

        Elector._taken = taken
    if "skew" in modes:
        gather.BEGAN += random.uniform(-3600, 3600)
    if "deaf" in modes:
        silent_from = time.monotonic() + HEARING
        since: dict[Any, float] = {}  # of connections
        feed = StreamReader.feed_data

        def fed(reader: Any, data: bytes, *size: int) -> bool:
            now = time.monotonic()
            if since.setdefault(reader._protocol, now) < silent_from < now:
                return False
            return feed(reader, data, *size)

        StreamReader.feed_data = fed
    sys.argv = ["forebay_operator"]
    raise SystemExit(__main__.main())


def follow(child: int) -> None:
    """Until it has ended; if it stands still, it goes on after a while, and is ended a little later."""
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            break
        time.sleep(PAUSE)
        os.kill(child, signal.SIGCONT)
        time.sleep(AWAKE)
        os.kill(child, signal.SIGKILL)
    if os.WIFEXITED(status):
        say(f"the operator has exited with {os.WEXITSTATUS(status)}")
        time.sleep(1)


def main(modes: set[str]) -> None:
    # Nobody but the kubelet ends this process: all others of the container end with it.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    for turn in itertools.count():
        child = os.fork()
        if child == 0:
            operate(modes, turn)
        follow(child)


if __name__ == "__main__":
    main(set(sys.argv[1:]))
