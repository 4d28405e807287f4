"""A backend with a capacity curve: fast until a knee, then slower, then refusing.

Up to `knee` requests at a time each takes its own time. Beyond it they share what there is: twice as many at a time
take twice as long each (and a little more: `thrash`), so that completions per second stay flat, and then fall.
"""

from dataclasses import dataclass
from math import inf
from random import Random


@dataclass
class Backend:
    """Its state may be changed while it runs: that is how a trace plants a fault."""

    service: float = 0.2  # seconds of a request alone, mean
    knee: float = inf  # requests at a time
    thrash: float = 0.1
    max_open: float = inf  # connections; the next one is refused
    slow_share: float = 0.0  # of the requests that are long ones ...
    slow_factor: float = 1.0  # ... and how many times longer
    connect: float = 0.002  # seconds to open a connection
    refuse_share: float = 0.0  # of the attempts to connect that are refused

    active: int = 0
    open: int = 0
    peak_open: int = 0

    def size(self, random: Random) -> float:
        """A request's own time at the backend, seconds: log-normal (sigma 0.5) around the mean."""
        size = self.service * random.lognormvariate(-0.125, 0.5)
        return size * self.slow_factor if self.slow_share and random.random() < self.slow_share else size

    def begin(self, size: float) -> float:
        """A request arrives at the backend: how many seconds it takes, from what is going on there."""
        self.active += 1
        crowd = self.active / self.knee
        return size if crowd <= 1 else size * crowd ** (1 + self.thrash)

    def end(self) -> None:
        """A request is answered."""
        self.active -= 1

    def connected(self, random: Random) -> bool:
        """An attempt to connect arrives: is it taken?"""
        if self.open >= self.max_open or (self.refuse_share and random.random() < self.refuse_share):
            return False
        self.open += 1
        self.peak_open = max(self.peak_open, self.open)
        return True

    def closed(self) -> None:
        """A connection has ended."""
        self.open -= 1

    @property
    def saturated(self) -> bool:
        """The truth that the autoscaler has to find out."""
        return self.active >= self.knee
