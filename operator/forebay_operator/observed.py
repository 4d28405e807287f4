"""What is seen of a pool's pods: the kubelet's word (from the API server), and their own (from the admin port).

Pure: from plain JSON to values; what is malformed in a pod's own answer is a ValueError.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forebay_core.budget import proofs
from forebay_core.budget.ledger import Answer
from forebay_core.scale.readings import Reading, reading
from forebay_operator.objects import DOCUMENT, POOL, PROXY
from forebay_operator.troubles import Trouble, of_pod

BY_POD_GC = "DeletionByPodGC"  # reason of the condition DisruptionTarget where pod GC wrote the phase, unasked


@dataclass(frozen=True, slots=True)
class Pod:
    """`started`, `terminal`, `terminated`: as `forebay_core.budget.proofs` has them. `cores`: what it may use.

    `farewell`: what its last process said when it ended, its life drained: the life, and what it still held.
    `trouble`: why it does not start.
    """

    name: str
    uid: str
    node: str
    ip: str
    ready: bool
    terminating: bool
    started: bool
    terminal: bool
    terminated: bool
    farewell: tuple[str, Mapping[str, int]] | None
    document: str | None
    cores: float = 1.0
    trouble: Trouble | None = None

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "Pod":
        """From the API server's object."""
        metadata, spec, status = raw["metadata"], raw.get("spec", {}), raw.get("status", {})
        containers = status.get("containerStatuses", [])
        terminating = "deletionTimestamp" in metadata
        conditions = {c["type"]: c for c in status.get("conditions", [])}
        own_phase = conditions.get("DisruptionTarget", {}).get("reason") != BY_POD_GC
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            node=spec.get("nodeName", ""),
            ip=status.get("podIP", ""),
            ready=conditions.get("Ready", {}).get("status") == "True" and not terminating,
            terminating=terminating,
            started="podIP" in status or any(not _unborn(c) for c in containers),
            terminal=own_phase and status.get("phase") in ("Succeeded", "Failed"),
            terminated=bool(containers) and all("terminated" in c.get("state", {}) for c in containers),
            farewell=_farewell(containers),
            document=metadata.get("annotations", {}).get(DOCUMENT),
            cores=_cores(spec),
            trouble=of_pod(raw),
        )

    @property
    def as_proof(self) -> proofs.Pod:
        """In the ledger's words."""
        return proofs.Pod(self.node, self.started, self.terminal, self.terminated)

    @property
    def finished(self) -> bool:
        """Whether the kubelet has said that all of it has ended, and will not start again: true for good."""
        return self.terminal and self.terminated


@dataclass(frozen=True, slots=True)
class Report:
    """A pod's own word: to the ledger, to the autoscaler, and the document that it serves.

    `failing`: by upstream, for every endpoint why it fails, "" where it doesn't. `pressed`: it runs a deadline for what
    it holds above its grant.
    """

    answer: Answer
    reading: Reading
    document: str
    failing: Mapping[str, Mapping[str, str]]
    pressed: bool

    @classmethod
    def of(cls, state: Mapping[str, Any], at: float, cores: float = 1.0) -> "Report":
        """From `/state`, read at `at`, of a pod that may use so many cores. Raises ValueError where it isn't one."""
        try:
            worker = state["workers"][0]
            if not worker["pod"]:
                raise ValueError("expected the UID of its pod in pod, which is empty")
            bounded = {name: u["held"] for name, u in worker["upstreams"].items() if u["grant"] is not None}
            answer = Answer(
                str(worker["life"]),
                str(worker["pod"]),
                _count(worker["sequence"]),
                {name: _count(held) for name, held in bounded.items()},
                bool(worker["life_draining"]),
            )
            failing = {name: _failing(upstream["endpoints"]) for name, upstream in worker["upstreams"].items()}
            pressed = any(upstream["pressed"] for upstream in worker["upstreams"].values())
            return cls(answer, reading(worker, at, cores), str(worker["document"]), failing, pressed)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(f"expected the state of a worker, found no usable {error}") from None

    @property
    def paused(self) -> bool:
        return any(upstream.paused for upstream in self.reading.upstreams.values())


def of_pool(raw: Mapping[str, Any]) -> str:
    """The name of the pool that an object belongs to."""
    return str(raw["metadata"].get("labels", {}).get(POOL, ""))


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"expected an integer of 0 or more, found {value!r}")
    return value


def _failing(endpoints: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(e["reason"]) or "failing" if e["failing"] else "" for name, e in endpoints.items()}


def _unborn(container: Mapping[str, Any]) -> bool:
    """Whether no process of it has run yet."""
    return "waiting" in container.get("state", {}) and not container.get("lastState") and not container["restartCount"]


def _farewell(containers: list[Mapping[str, Any]]) -> tuple[str, Mapping[str, int]] | None:
    """The termination message of the container `proxy`: `{"life": text, "held": {upstream: integer}}`."""
    for container in containers:
        for state in (container.get("state", {}), container.get("lastState", {})):
            message = state.get("terminated", {}).get("message", "")
            if container["name"] == PROXY and message:
                try:
                    said = json.loads(message)
                    return str(said["life"]), {str(name): _count(held) for name, held in said["held"].items()}
                except (ValueError, KeyError, TypeError, AttributeError):
                    return None  # an image of ours that says nothing, or not ours
    return None


def _cores(spec: Mapping[str, Any]) -> float:
    """The proxy container's CPU limit, in cores ("2", "0.5") or thousandths ("500m"); without one it may use one."""
    for container in spec.get("containers", ()):
        limit = container.get("resources", {}).get("limits", {}).get("cpu")
        if container.get("name") == PROXY and limit is not None:
            text = str(limit)
            try:
                return float(text.removesuffix("m")) / (1000 if text.endswith("m") else 1) or 1.0
            except ValueError:
                return 1.0
    return 1.0
