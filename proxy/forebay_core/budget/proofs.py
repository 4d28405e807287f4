"""Proof of death, and what the dead have left.

A life's entry may only go when nothing can be open in its name. A missing pod object, silence and time prove nothing:
a pod that was force-deleted, or whose node is cut off, still runs and still holds what it held. What proves that a
life's process has ended, and will not start again with the same memory:

    - another life answers from the same pod: a pod's lives follow one another, the memory's lock sees to that
    - the kubelet's word: a terminal phase of its own, and every container terminated. Neither alone: pod GC writes
      phases without asking the kubelet (and then says so in a condition), and a container that has ended may start
      again while the pod is to live
    - the node is gone, or has booted since (the memory is in RAM)
    - the pod's object went, and its node's kubelet has been heard for longer than the pod's grace since
    - a person's word

All of these stay true once they are; so a look may be old, as long as it was taken after the ledger was read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from forebay_core.budget.ledger import Answer, Home, Key, Ledger, Terms

STRANGERS = "strangers"  # the life in whose name a rebuilt ledger counts those whom nobody remembers


class Pod(NamedTuple):
    """A pod's object."""

    node: str
    started: bool = True  # a process of it may have begun: it has an address
    terminal: bool = False  # phase Succeeded or Failed, and no condition DisruptionTarget by DeletionByPodGC
    terminated: bool = False  # every container's status is `terminated`


class Node(NamedTuple):
    """A node's object, and the last time at which its kubelet was heard, in seconds: its Lease's renewTime."""

    boot: str
    heard: float


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the API server shows, by pod UID and node name.

    `missing`: when a pod's object was first found to be gone, in seconds. `grace`: the pods' termination grace, in
    seconds. `confirmed`: UIDs of pods that a person says are dead. `unseen`: nodes that were not looked at, which
    prove nothing; any other that is not in `nodes` has been deleted.
    """

    pods: Mapping[str, Pod] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    missing: Mapping[str, float] = field(default_factory=dict)
    confirmed: frozenset[str] = frozenset()
    unseen: frozenset[str] = frozenset()
    grace: float = 0.0


def proof(life: str, home: Home, cluster: Cluster, answers: Mapping[str, Answer]) -> str | None:
    """What proves the life's process dead, for people; None where nothing does."""
    if life == STRANGERS:
        return "nobody by this name answers"
    for answer in answers.values():
        if answer.pod == home.pod and answer.life != life:
            return f"its pod has a new life, {answer.life}"
    if home.pod in cluster.confirmed:
        return "a person has confirmed it"
    pod = cluster.pods.get(home.pod)
    if pod is not None and finished(pod):
        return "its containers have terminated"
    if not home.node or home.node in cluster.unseen:
        return None
    node = cluster.nodes.get(home.node)
    if node is None:
        return f"node {home.node} has been deleted"
    if home.boot and node.boot != home.boot:
        return f"node {home.node} has booted since"
    gone = cluster.missing.get(home.pod)
    if pod is None and gone is not None and node.heard - gone > cluster.grace:
        return f"node {home.node} has been ready for {node.heard - gone:.0f} s since the pod went"
    return None


def finished(pod: Pod) -> bool:
    """Whether the kubelet has said that all of the pod has ended, and will not start again."""
    return pod.terminal and pod.terminated


def dead(ledger: Ledger, cluster: Cluster, answers: Mapping[str, Answer]) -> dict[str, str]:
    """The lives in the ledger that are proven dead, and what proves it."""
    reasons = ((life, proof(life, home, cluster, answers)) for life, home in ledger.lives().items())
    return {life: reason for life, reason in reasons if reason is not None}


def leavings(
    ledger: Ledger,
    since: Mapping[str, float],
    reported: Mapping[Key, int],
    terms: Mapping[str, Terms],
    now: float,
) -> dict[Key, int]:
    """What the dead may still have open.

    `since`: when each life was found dead, in seconds. `reported`: what the kernel of its pod's network namespace, or
    the upstream itself, says is left. Where neither can be asked, the one assumption is made: an upstream lets go of a
    dead client within `linger`.
    """
    left = {}
    for key, entry in ledger.entries.items():
        life, upstream = key
        if life in since and upstream in terms:
            over = now - since[life] > terms[upstream].linger
            left[key] = reported.get(key, 0 if over else entry.bound)
    return left


def orphaned(ledger: Ledger, cluster: Cluster, proven: Mapping[str, str]) -> frozenset[str]:
    """Lives whose pod's object is gone and whose death nothing proves: they keep what they have, until it is."""
    lives = ledger.lives().items()
    return frozenset(life for life, home in lives if life not in proven and home.pod not in cluster.pods)
