"""What is seen of a pool's pods: the kubelet's word (from the API server), and their own (from the admin port).

Pure: from plain JSON to values; what is malformed in a pod's own answer is a ValueError.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forebay_operator.objects import DOCUMENT, POOL


@dataclass(frozen=True, slots=True)
class Pod:
    """`ran`: a process of it may have had connections. `ended`: none of its processes runs, or will again.

    `ended` needs the kubelet's word on every container *and* the pod's deletion and final phase: each alone is not
    enough, as pod GC sets the phase without asking, and a container that crashed is started again.
    `farewell`: what its last process said when it ended, (life, connections held).
    `departed`: the object has gone, this is the last that was seen of it.
    """

    name: str
    uid: str
    node: str
    ip: str
    created: str
    ready: bool
    terminating: bool
    ran: bool
    ended: bool
    farewell: tuple[str, int] | None
    document: str | None
    departed: bool = False

    @classmethod
    def of(cls, raw: Mapping[str, Any], *, departed: bool = False) -> "Pod":
        """From the API server's object."""
        metadata, status = raw["metadata"], raw.get("status", {})
        containers = status.get("containerStatuses", [])
        terminating = "deletionTimestamp" in metadata
        dead = bool(containers) and all("terminated" in c.get("state", {}) for c in containers)
        conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            node=raw.get("spec", {}).get("nodeName", ""),
            ip=status.get("podIP", ""),
            created=metadata.get("creationTimestamp", ""),
            ready=conditions.get("Ready") == "True" and not terminating and not departed,
            terminating=terminating,
            ran=any(not _unborn(c) for c in containers),
            ended=dead and terminating and status.get("phase") in ("Succeeded", "Failed"),
            farewell=_farewell(containers),
            document=metadata.get("annotations", {}).get(DOCUMENT),
            departed=departed,
        )


@dataclass(frozen=True, slots=True)
class UpstreamReport:
    """One upstream as a replica sees it. `budgeted`: its document bounds it; `held`: with what the dead left."""

    held: int
    grant: int
    budgeted: bool
    waiting: int
    wait_oldest: float
    paused: bool


@dataclass(frozen=True, slots=True)
class Report:
    """A pod's own word. `draining`: it takes its leave; `final`: its life drains, and opens nothing any more."""

    life: str
    sequence: int
    document: str
    draining: bool
    final: bool
    upstreams: Mapping[str, UpstreamReport]

    @property
    def held(self) -> dict[str, int]:
        return {name: upstream.held for name, upstream in self.upstreams.items()}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Report":
        """From `/state`. Raises ValueError where it isn't one."""
        try:
            worker = state["workers"][0]
            return cls(
                life=str(worker["life"]),
                sequence=int(worker["sequence"]),
                document=str(worker["document"]),
                draining=bool(worker["draining"]),
                final=bool(worker.get("life_draining", False)),
                upstreams={name: _upstream(upstream) for name, upstream in worker["upstreams"].items()},
            )
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(f"expected the state of a worker, found no usable {error}") from None


def of_pool(raw: Mapping[str, Any]) -> str:
    """The name of the pool that an object belongs to."""
    return str(raw["metadata"].get("labels", {}).get(POOL, ""))


def _upstream(state: Mapping[str, Any]) -> UpstreamReport:
    return UpstreamReport(
        held=int(state["held"]),
        grant=int(state["grant"] or 0),
        budgeted=state["budget"] is not None,
        waiting=int(state["waiting"]),
        wait_oldest=float(state["wait_oldest"] or 0.0),
        paused=bool(state["paused"]),
    )


def _unborn(container: Mapping[str, Any]) -> bool:
    """Whether no process of it has run yet."""
    return "waiting" in container.get("state", {}) and not container.get("lastState") and not container["restartCount"]


def _farewell(containers: list[Mapping[str, Any]]) -> tuple[str, int] | None:
    """The termination message of the container `proxy`: `{"life": text, "held": {upstream: integer}}`."""
    for container in containers:
        for state in (container.get("state", {}), container.get("lastState", {})):
            message = state.get("terminated", {}).get("message", "")
            if container["name"] == "proxy" and message:
                try:
                    said = json.loads(message)
                    return str(said["life"]), sum(said["held"].values())
                except (ValueError, KeyError, TypeError, AttributeError):
                    return None  # an image of ours that says nothing, or not ours
    return None
