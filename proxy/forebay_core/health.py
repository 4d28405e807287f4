"""Is an endpoint fit for traffic? Passive ejection and active checks in one state machine.

There are two states, *in* (``healthy``) and *out*. The rules:

1.  A connect failure, a timeout, a reset before the answer was complete and a malformed answer are errors. A
    5xx is not one: it is the application's answer, often about a single request, and shows that the endpoint
    is alive.
2.  In -> out (passive): ``consecutive_errors`` errors in a row, as long as no more than
    ``max_ejection_percent`` of the group's endpoints are then out. At least one may always go, so a sole
    endpoint may; 0 percent turns ejection off. Out for ``base_ejection_time`` times the number of ejections
    in a row, at most 5 minutes. The row ends once an endpoint has stayed in for as long as it was last out.
3.  In -> out (active): ``unhealthy_threshold`` failed checks in a row. No percentage applies: a check is
    direct evidence, where an error may have been the request's fault.
4.  Half-open: when its time is over, an endpoint that is out takes ONE request as a probe, and the next one
    not before another ``base_ejection_time`` (a probe whose client goes away has no outcome). While the
    whole group is out there is a probe every second: nothing is won by keeping traffic away from where it
    has to go, and a backend that was restarted must not stay out for longer than it was away. A failed check
    puts the probe off by ``base_ejection_time``: the check was the probe. Where checks find no free
    connection, the traffic is the check. Once checks have ended the next request is the probe: nothing else
    would show that an endpoint which they have put out is fit.
5.  Out -> in: the probe succeeds, or ``healthy_threshold`` checks in a row do.
6.  What was in flight when its endpoint went out says nothing new: its outcome is ignored.

Precedents: Envoy's outlier detection (ejection time, percentage, a passed check ends an ejection) and the
circuit breaker's half-open state. Times are monotonic seconds, given by the caller.
"""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_EJECTION = 300.0  # seconds
ALL_OUT = 1.0  # seconds between two probes of an endpoint while there is no other one


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """The thresholds; times in seconds. Values are design defaults of ``spec.upstreams[].healthCheck``."""

    consecutive_errors: int = 5
    base_ejection_time: float = 30.0
    max_ejection_percent: int = 50
    healthy_threshold: int = 2
    unhealthy_threshold: int = 3


class HealthGroup:
    """The endpoints of one upstream, which share a policy and the limit on how many may be ejected."""

    __slots__ = ("healthy", "members", "policy")

    def __init__(self, policy: HealthPolicy) -> None:
        self.policy = policy
        self.members: list[EndpointHealth] = []
        self.healthy = 0

    def add(self) -> EndpointHealth:
        """A new member, healthy until shown otherwise."""
        member = EndpointHealth(self)
        self.members.append(member)
        self.healthy += 1
        return member

    def remove(self, member: EndpointHealth) -> None:
        """The endpoint is gone, as its name resolves to others; what is in flight on it changes nothing."""
        self.members.remove(member)
        self.healthy -= member.healthy
        # It goes on in a group of its own, so that its late results can't touch the counts of this one.
        member.group = HealthGroup(self.policy)
        member.group.members.append(member)
        member.group.healthy = int(member.healthy)

    def checks_ended(self, now: float) -> None:
        """Nobody checks any more: who is out is due for its probe."""
        for member in self.members:
            member.checks_ended(now)

    def may_eject(self) -> bool:
        """Is there room for one more under ``max_ejection_percent``?"""
        percent, size = self.policy.max_ejection_percent, len(self.members)
        return percent > 0 and size - self.healthy < max(1, size * percent // 100)


class EndpointHealth:
    """One endpoint's state; made by ``HealthGroup.add``.

    For the hot path two attributes may be read directly: ``healthy``, and ``errors``, which is 0 exactly when
    ``succeeded`` has nothing to do.
    """

    __slots__ = (
        "_all_out_due", "_checks", "_due", "_ejected_for", "_in_since", "_probing", "_row",
        "ejections_total", "errors", "group", "healthy", "reason",
    )  # fmt: skip

    def __init__(self, group: HealthGroup) -> None:
        self.group = group
        self.healthy = True
        self.errors = 0  # in a row; never 0 while out
        self.reason = ""  # why it is out, else the last error, if any
        self.ejections_total = 0  # both kinds
        self._checks = 0  # checks in a row with the same result: passed > 0, failed < 0
        self._row = 0  # ejections in a row
        self._ejected_for = 0.0  # how long the last one was to last
        self._in_since = float("-inf")
        self._due = 0.0  # while out: when the next probe may go
        self._all_out_due = 0.0  # the same while the whole group is out
        self._probing = False

    def __repr__(self) -> str:
        state = "healthy" if self.healthy else f"out ({self.reason})"
        return f"<EndpointHealth {state}, {self.errors} errors in a row>"

    @property
    def failing(self) -> bool:
        """Is it out, or would it be if so many of its group might be?"""
        return not self.healthy or self.errors >= self.group.policy.consecutive_errors

    @property
    def probe_at(self) -> float:
        """When the next probe may go. It is out."""
        return self._due if self.group.healthy else self._all_out_due

    def available(self, now: float) -> bool:
        """May a request go there now? It is healthy, or due for a probe (which ``take_probe`` claims)."""
        return self.healthy or now >= self.probe_at

    def take_probe(self, now: float) -> bool:
        """Claim the probe of an endpoint that is out: True for one caller per interval. False: not due, or
        healthy (where a request needs no claim).
        """
        if self.healthy or not self.available(now):
            return False
        self._probing = True
        base = self.group.policy.base_ejection_time
        self._due, self._all_out_due = now + base, now + min(base, ALL_OUT)
        return True

    def succeeded(self, now: float) -> None:
        """A request got its whole answer, whatever its status."""
        if self.healthy:
            self.errors = 0
        elif self._probing:
            self._enter(now)

    def failed(self, now: float, reason: str) -> None:
        """A request failed by rule 1; ``reason`` is for people, as in ``connect refused``."""
        if self.healthy:
            self.errors += 1
            self.reason = reason
            if self.errors >= self.group.policy.consecutive_errors and self.group.may_eject():
                self._eject(now, reason)
        elif self._probing:
            self._eject(now, reason)

    def checked(self, ok: bool, now: float) -> None:
        """An active check came back."""
        policy = self.group.policy
        self._checks = max(self._checks, 0) + 1 if ok else min(self._checks, 0) - 1
        if ok:
            if not self.healthy and self._checks >= policy.healthy_threshold:
                self._enter(now)
            return
        if self.healthy and -self._checks >= policy.unhealthy_threshold:
            self._leave("health check failed")
            self._due = self._all_out_due = now
            self.ejections_total += 1
        if not self.healthy:
            put_off = now + policy.base_ejection_time
            self._due, self._all_out_due = max(self._due, put_off), max(self._all_out_due, put_off)

    def checks_ended(self, now: float) -> None:
        """There will be no active check."""
        self._checks = 0
        self._due, self._all_out_due = min(self._due, now), min(self._all_out_due, now)

    def _eject(self, now: float, reason: str) -> None:
        base = self.group.policy.base_ejection_time
        if self.healthy and now - self._in_since > self._ejected_for:
            self._row = 0
        if self.healthy or self.group.healthy:  # one of the probes while all are out is no other ejection
            self._row += 1
            self.ejections_total += 1
        self._ejected_for = max(base, min(base * self._row, LONGEST_EJECTION))
        self._leave(reason)
        self._due, self._all_out_due = now + self._ejected_for, now + min(base, ALL_OUT)

    def _leave(self, reason: str) -> None:
        self.group.healthy -= self.healthy
        self.healthy = False
        self.errors = max(self.errors, 1)
        self.reason = reason
        self._probing = False
        self._checks = min(self._checks, 0)  # checks that passed before it left don't bring it back

    def _enter(self, now: float) -> None:
        if not self.group.healthy:  # the others may be back as well, and are tried as soon as they would have been
            for member in self.group.members:
                member._due = min(member._due, member._all_out_due)
        self.group.healthy += 1
        self.healthy = True
        self.errors = 0
        self.reason = ""
        self._in_since = now
        self._probing = False
        self._checks = 0
