"""A missing ledger is not an empty one.

The record may be lost: status wiped, etcd restored from a copy, the pool deleted and created again, or a budget given
to an upstream that had none. What it knew still holds in the world: lives hold grants, and the dead have left
connections. So a ledger begins, each time, by entering everybody whom anybody can name with a bound of UNKNOWN, and
STRANGERS for the rest; under that no grant can rise. Answers then settle the bounds of the living, proofs those of the
dead, and `linger` (or the upstream itself) that of the strangers.

The new sequence must be above any that was ever used, or what was pushed from the lost record could be taken, and a
life that has seen it would seem to have seen the new one. Nobody may be there to tell how far the lost one had come; so
it is made from the time: a million for each second, which no ledger is written as often.
"""

from collections.abc import Iterable, Mapping

from forebay_core.budget.ledger import UNKNOWN, Answer, Change, Entry, Home, Ledger
from forebay_core.budget.proofs import STRANGERS

PER_SECOND = 2**20  # sequences; 2**53, the largest integer that all of JSON's readers know, comes in the year 2242


def unnamed(pod: str) -> str:
    """The life under which a pod is entered that has not yet told its own."""
    return f"pod/{pod}"


def behind(ledger: Ledger, highest: int, answers: Mapping[str, Answer]) -> bool:
    """Whether somebody has seen a later ledger: `highest` is the last sequence that this writer has read or written.

    A life in the ledger's future shows in what it has seen; a life that has seen something and has no entry, likewise.
    """
    known = ledger.lives()
    seen = max((answer.sequence for answer in answers.values()), default=0)
    unknown = any(a.sequence > 0 and not a.draining and a.life not in known for a in answers.values())
    named = any(unnamed(answer.pod) in known for answer in answers.values())
    return max(highest, seen) > ledger.sequence or (unknown and not named)


def entered(
    ledger: Ledger,
    upstreams: Iterable[str],
    homes: Mapping[str, Home],
    answers: Mapping[str, Answer],
    highest: int,
    now: float,
    *,
    strangers: bool = True,
) -> tuple[int, list[Change]]:
    """The sequence to write, and everybody's entry: of the ledger, of the answers, of pods (`homes` by UID), strangers.

    Who has answered keeps what it holds, which is within what it was granted; others are told 0 until they answer.
    `now` in seconds since 1970. `strangers`: there may be some.
    """
    known = max(ledger.sequence, highest, *(answer.sequence for answer in answers.values()), 0)
    sequence = max(known + 1, int(now) * PER_SECOND)
    lives = ledger.lives()
    for answer in answers.values():
        lives[answer.life] = homes.get(answer.pod) or lives.get(answer.life, Home(answer.pod))
    told = {answer.pod for answer in answers.values()}
    lives |= {unnamed(pod): home for pod, home in homes.items() if pod not in told}
    if strangers:
        lives[STRANGERS] = Home("")
    made = []
    for upstream in upstreams:
        for life, home in lives.items():
            held = answers[life].held.get(upstream, 0) if life in answers else 0
            entry = Entry(held, UNKNOWN, sequence, home)
            made.append(Change("enter", life, upstream, ledger.entries.get((life, upstream)), entry))
    return sequence, made


def named(ledger: Ledger, answers: Mapping[str, Answer]) -> list[Change]:
    """Entries for lives that answer from pods which had not told theirs when the ledger was rebuilt.

    The pod's own entry stays: the life that answers may not be the one that ran then. It is dead by proof from now on.
    """
    made = []
    for (life, upstream), entry in ledger.entries.items():
        for answer in answers.values():
            if life == unnamed(answer.pod) and (answer.life, upstream) not in ledger.entries:
                grant = answer.held.get(upstream, 0)
                new = entry._replace(grant=grant, since=ledger.sequence + 1)
                made.append(Change("enter", answer.life, upstream, None, new))
    return made


def unbounded(
    ledger: Ledger, upstreams: Iterable[str], homes: Mapping[str, Home], answers: Mapping[str, Answer]
) -> list[Change]:
    """Entries for lives that run by a document which does not bound an upstream: an older one, of a mounted file that
    lags. They may hold anything there, and no grant rises until they have the present one."""
    made = []
    for life, answer in answers.items():
        for upstream in upstreams:
            if upstream not in answer.held and (life, upstream) not in ledger.entries and answer.pod in homes:
                entry = Entry(0, UNKNOWN, ledger.sequence + 1, homes[answer.pod])
                made.append(Change("enter", life, upstream, None, entry))
    return made
