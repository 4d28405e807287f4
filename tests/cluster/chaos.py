"""Runs in an operator's pod in the operator's place: `python -c SOURCE MODE...`. What is done to it:

    kill    it is killed (-9) at one of its first writes, drawn anew for each life: just before it, or just after. A
            write is an object that it applies, a status, or a push of grants to a pod
    pause   it is stopped there for 12 seconds, which is longer than its Lease lasts, and then goes on
    usurp   it leads, whoever holds the Lease
    skew    its clock is up to an hour wrong
    deaf    after some seconds it hears nothing more of what is watched

What was done is a line on standard error: `chaos: kill after patch_status`.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

PAUSE = 12.0  # seconds
HEARING = 10.0  # seconds


def say(text: str) -> None:
    os.write(2, f"chaos: {text}\n".encode())


class Fate:
    """The process ends, or stands still (again and again), at one of its writes: the `left`th that is called `name`."""

    def __init__(self, number: int, name: str, left: int, *, before: bool) -> None:
        self.number = number
        self.name = name
        self.left = left
        self.before = before

    def around(self, write: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def written(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0 and self.before:
                self.strike(f"before {self.name}")
            answer = await write(*arguments, **options)
            if self.left == 0 and not self.before:
                self.strike(f"after {self.name}")
            return answer

        return written

    def strike(self, where: str) -> None:
        say(f"{'pause' if self.number == signal.SIGSTOP else 'kill'} {where}")
        os.kill(os.getpid(), self.number)
        self.left = random.randint(1, 3)


def operate(modes: set[str]) -> None:
    from forebay_operator import __main__, apply, gather, watch
    from forebay_operator.api import Api
    from forebay_operator.lease import Elector

    fatal = [number for mode, number in (("kill", signal.SIGKILL), ("pause", signal.SIGSTOP)) if mode in modes]
    if fatal:
        owner, name = random.choice(((Api, "apply"), (Api, "patch_status"), (Api, "patch_status"), (apply, "_push")))
        fate = Fate(random.choice(fatal), name, random.randint(1, 3), before=random.random() < 0.5)
        setattr(owner, name, fate.around(getattr(owner, name)))
    if "usurp" in modes:

        async def taken(_: Elector) -> bool:
            return True

        Elector._taken = taken
    if "skew" in modes:
        gather.BEGAN += random.uniform(-3600, 3600)
    if "deaf" in modes:
        deaf_from = time.monotonic() + HEARING
        telling = watch._telling

        def deafened(*arguments: Any) -> Callable[..., Any]:
            told = telling(*arguments)

            async def dropped(**event: Any) -> None:
                if time.monotonic() < deaf_from:
                    await told(**event)

            return dropped

        watch._telling = deafened
    sys.argv = ["forebay_operator"]
    raise SystemExit(__main__.main())


def follow(child: int) -> None:
    """Until it has ended; if it stands still, it goes on after a while."""
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            break
        time.sleep(PAUSE)
        os.kill(child, signal.SIGCONT)
    if os.WIFEXITED(status):
        say(f"the operator has exited with {os.WEXITSTATUS(status)}")
        time.sleep(1)


def main(modes: set[str]) -> None:
    # Nobody but the kubelet ends this process: all others of the container end with it.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        child = os.fork()
        if child == 0:
            operate(modes)
        follow(child)


if __name__ == "__main__":
    main(set(sys.argv[1:]))
