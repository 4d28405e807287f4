"""From the book and what is seen, the next book to write: who joins, who goes, and what everyone may open.

Grants are equal here: every replica that serves gets the floor, as long as the maximum of replicas stays the same.
The steps themselves, and why they are safe, are in `forebay_core.ledger`. What is decided here:

- A life joins when its own pod answers, is not leaving, and can't be mistaken for one that holds what nobody counts.
- A life that does not answer keeps what it has: silence proves nothing. It is shrunk with the others, never grown.
- A leaving life (`draining`) keeps its grant, which it serves with until its drain begins (`final`). From then on it
  opens nothing, whatever is pushed, so that its bound may follow what it says to hold.
- An entry goes when its life holds 0 and can't open any more (said while it drained, or as its process's farewell); or
  when its process is dead on the kubelet's word and the backend's linger has passed since then; or on a person's word
  (`forebay.dev/confirm-dead` on the ProxyPool). With none of these it stays: a pod object that is gone proves nothing.
- A lost ledger, or one that a replica is ahead of (restored from a backup), is founded anew: every life that answers
  is entered with the whole budget as bound, at a far higher sequence than any seen, so that pushes of the lost ledger
  that are still on their way are refused; answers bring the bounds down. Until every process that may hold connections
  has answered or ended, nothing is written and nobody is granted anything. What a process left open that ended while
  the ledger was lost is not counted: the sessions of the dead can't be asked yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from forebay_core.ledger import Answer, Entry, Ledger, floor, step
from forebay_operator.book import BLANK, Book, Owner
from forebay_operator.observed import Pod, Report

LEAP = 1_000_000  # sequences; more than a lost ledger can have been ahead of what any replica has seen of it
ALL_SEEN = 1 << 62  # the sequence that a draining life counts as having seen: it takes no push any more


@dataclass(frozen=True, slots=True)
class Seen:
    """`pods` with those that have just gone; `reports` by pod uid; `lingered`: lives whose process has been known
    dead for the backend's linger; `confirmed`: uids of pods that a person says are dead."""

    pods: tuple[Pod, ...]
    reports: Mapping[str, Report]
    lingered: frozenset[str]
    confirmed: frozenset[str]


@dataclass(frozen=True, slots=True)
class Turn:
    """`book`: what holds once it is written; None while a lost ledger can't be founded anew. `changed`: it differs
    from the one that was read. `founded`: it was founded anew. `waits_for`: names of pods that it waits for."""

    book: Book | None
    changed: bool
    founded: bool = False
    waits_for: tuple[str, ...] = ()


def next_turn(book: Book | None, budgets: Mapping[str, int], replicas: int, seen: Seen) -> Turn:
    """The next book. `budgets`: connections per bounded upstream; `replicas`: the most that there may be."""
    reports = {pod.uid: seen.reports[pod.uid] for pod in seen.pods if pod.uid in seen.reports and not pod.ended}
    ahead = max((r.sequence for r in reports.values()), default=0)
    if book is None or ahead > book.ledger.sequence:
        silent = tuple(p.name for p in seen.pods if p.ran and not (p.ended or p.departed) and p.uid not in reports)
        if silent:
            return Turn(None, changed=False, waits_for=silent)
        if book is None and not reports:
            return Turn(BLANK, changed=True)
        return Turn(_founded(book or BLANK, budgets, seen, reports, ahead), changed=True, founded=True)
    after = _after(book, budgets, replicas, seen, reports)
    return Turn(after or book, changed=after is not None)


def pushes(book: Book, report: Report) -> dict[str, int] | None:
    """What is to be told to a life, once the book is written; None: nothing that it doesn't know."""
    answer = Answer(report.sequence, report.held)
    if report.final or report.life not in book.owners or not book.ledger.unanswered(report.life, answer):
        return None
    return book.ledger.grants(report.life)


def _founded(book: Book, budgets: Mapping[str, int], seen: Seen, reports: Mapping[str, Report], ahead: int) -> Book:
    """Every life with the whole budget as bound; see the module's docstring."""
    sequence = max(ahead, book.ledger.sequence) + LEAP
    entries = {
        key: replace(entry, bound=max(entry.bound, budgets.get(key[1], 0)), since=sequence)
        for key, entry in book.ledger.entries.items()
    }
    owners = dict(book.owners)
    for pod in seen.pods:
        report = reports.get(pod.uid)
        if report is None:
            continue
        owners[report.life] = _owner(pod)
        for name, upstream in report.upstreams.items():
            if name in budgets:
                bound = max(budgets[name], upstream.held, upstream.grant)
                entries[report.life, name] = Entry(upstream.grant, bound, sequence)
    return _book(Ledger(sequence, entries), owners)


def _after(
    book: Book, budgets: Mapping[str, int], replicas: int, seen: Seen, reports: Mapping[str, Report]
) -> Book | None:
    """The book after one step, or None where nothing changes."""
    by_life = {report.life: report for report in reports.values()}
    owners = {reports[pod.uid].life: _owner(pod) for pod in seen.pods if pod.uid in reports}
    owners |= _owners(book, seen, reports)
    floors = {name: floor(budget, replicas) for name, budget in budgets.items()}
    ledger = _with_uncounted(book.ledger, floors, by_life)
    wanted: dict[str, Mapping[str, int]] = {}
    # Bounds beyond the budget (a cut, a ledger founded anew) may stand for less than they say: no grant rises then,
    # not even within its own bound, or all of these together could be used at once.
    rising = {name for name, budget in budgets.items() if ledger.bounds(name) <= budget}
    for life in book.owners:
        report = by_life.get(life)
        if owners[life].ended or (report is not None and report.final):
            continue
        stays = report is not None and not report.draining
        grants = ledger.grants(life)
        wanted[life] = {
            name: share if stays and name in rising else min(share, grants.get(name, 0))
            for name, share in floors.items()
        }
    for pod in sorted(seen.pods, key=lambda p: (p.created, p.name)):  # more lives than places: the oldest first
        report = reports.get(pod.uid)
        joins = report is not None and not (report.draining or report.final or pod.terminating or pod.departed)
        if report is not None and joins and report.life not in book.owners:
            wanted[report.life] = floors
    answers = {life: _answer(report) for life, report in by_life.items()}
    open_to_all = {name: budget for name, budget in budgets.items() if not _uncountable(name, by_life)}
    after = step(ledger, open_to_all, wanted, answers, _gone(book, owners, seen, by_life))
    if after is None and ledger is not book.ledger:
        after = replace(ledger, sequence=ledger.sequence + 1)
    if after is not None:
        after = _pruned(after, budgets)
    next_book = _book(after or ledger, owners)
    if after is None and next_book.owners != book.owners:  # a death was proven: that is written down before it is used
        return replace(next_book, ledger=replace(ledger, sequence=ledger.sequence + 1))
    return next_book if after is not None else None


def _owners(book: Book, seen: Seen, reports: Mapping[str, Report]) -> dict[str, Owner]:
    """The owners with what is proven by now: a process is dead when its pod has ended, or another life answers
    from the same pod (the memory is locked while its process lives)."""
    ended = {pod.uid for pod in seen.pods if pod.ended}
    return {
        life: replace(owner, ended=True)
        if owner.uid in ended or (owner.uid in reports and reports[owner.uid].life != life)
        else owner
        for life, owner in book.owners.items()
    }


def _gone(book: Book, owners: Mapping[str, Owner], seen: Seen, by_life: Mapping[str, Report]) -> frozenset[str]:
    """Lives that have nothing open and will open nothing."""
    farewells = {pod.farewell[0] for pod in seen.pods if pod.farewell is not None and pod.farewell[1] == 0}
    silent = {life for life, r in by_life.items() if r.final and not any(r.held.values())}
    dead = {life for life in book.owners if owners[life].ended and life in seen.lingered}
    confirmed = {life for life, owner in book.owners.items() if owner.uid in seen.confirmed and life not in by_life}
    return frozenset(farewells | silent | dead | confirmed)


def _with_uncounted(ledger: Ledger, floors: Mapping[str, int], by_life: Mapping[str, Report]) -> Ledger:
    """The ledger with what lives hold at an upstream that they have no entry for: it was not bounded until now."""
    uncounted = {
        (life, name): Entry(min(upstream.held, floors[name]), upstream.held, ledger.sequence + 1)
        for life, report in by_life.items()
        for name, upstream in report.upstreams.items()
        if name in floors and upstream.budgeted and upstream.held and (life, name) not in ledger.entries
    }
    return replace(ledger, entries={**ledger.entries, **uncounted}) if uncounted else ledger


def _uncountable(upstream: str, by_life: Mapping[str, Report]) -> bool:
    """Whether some replica does not know yet that this upstream is bounded, and may open what it likes."""
    return any(upstream in r.upstreams and not r.upstreams[upstream].budgeted for r in by_life.values())


def _answer(report: Report) -> Answer:
    return Answer(ALL_SEEN if report.final else report.sequence, report.held)


def _pruned(ledger: Ledger, budgets: Mapping[str, int]) -> Ledger:
    """Without the entries of upstreams that are no longer bounded, once they are down to nothing."""
    entries = {k: e for k, e in ledger.entries.items() if k[1] in budgets or e.grant or e.bound}
    return replace(ledger, entries=entries)


def _book(ledger: Ledger, owners: Mapping[str, Owner]) -> Book:
    lives = {life for life, _ in ledger.entries}
    return Book(ledger, {life: owner for life, owner in owners.items() if life in lives})


def _owner(pod: Pod) -> Owner:
    return Owner(pod.name, pod.uid, pod.node)
