"""Why pods can't start: what the scheduler, the kubelet and the ReplicaSet's controller say. Pure: from plain JSON.

It is said only once it lasts. The first words that are found stand for as long as they are of the same kind: a cluster
repeats itself with other numbers and names, and every change of a condition is a write.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

PATIENCE = 10.0  # seconds that it must last before it is said
CREATING = "ContainerCreating"  # what the kubelet says while it mounts and pulls, and also if it never succeeds
UNTOLD = ("", CREATING, "PodInitializing")
CRASHED = "CrashLoopBackOff"
SAME = {"ErrImagePull": "ImagePullBackOff"}  # the kubelet goes back and forth between the two
MISHAPS = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox")  # which only the pod's events tell
REPLICAS = ""  # in the place of a pod's UID: pods that can't even be made


class Trouble(NamedTuple):
    """In a word, and in words."""

    kind: str
    text: str


class Lasting(NamedTuple):
    """`since`: when there first was any, with no break since then."""

    trouble: Trouble
    since: float


def of_pod(raw: Mapping[str, Any]) -> Trouble | None:
    """From the pod's status. CREATING is none yet: whether it is, its events tell."""
    status = raw.get("status", {})
    creating = None
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled":
            if condition["status"] == "False":
                return Trouble(condition.get("reason", "Unschedulable"), condition.get("message", ""))
            creating = Trouble(CREATING, "") if not status.get("containerStatuses") else None
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        state = container.get("state", {})
        waiting = state.get("waiting", {})
        ended = state.get("terminated") or container.get("lastState", {}).get("terminated")
        reason = waiting.get("reason", "")
        if ended and ended.get("exitCode") and not container.get("ready"):
            return Trouble(CRASHED, f"container {container['name']} has ended with exit code {ended['exitCode']}")
        if reason not in UNTOLD:
            return Trouble(SAME.get(reason, reason), waiting.get("message", ""))
        if "waiting" in state:
            creating = Trouble(CREATING, "")
    return creating


def of_deployment(raw: Mapping[str, Any] | None) -> Trouble | None:
    """That pods are refused: by a quota, or a policy."""
    for condition in raw.get("status", {}).get("conditions", ()) if raw is not None else ():
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return Trouble(condition.get("reason", "FailedCreate"), condition.get("message", ""))
    return None


def of_events(events: Iterable[Mapping[str, Any]]) -> Trouble | None:
    """From the events of a pod that is being created: the latest that says why it takes so long."""
    told = [event for event in events if event.get("reason") in MISHAPS]
    if not told:
        return None
    last = max(told, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
    return Trouble(last["reason"], last.get("message", ""))


def after(found: Mapping[str, Trouble], before: Mapping[str, Lasting], now: float) -> dict[str, Lasting]:
    """What lasts, by the pod's UID, or REPLICAS."""
    lasting = {}
    for uid, trouble in found.items():
        last = before.get(uid)
        if last is None:
            lasting[uid] = Lasting(trouble, now)
        elif trouble.kind == last.trouble.kind or (trouble.kind == CREATING and last.trouble.kind in MISHAPS):
            lasting[uid] = last
        else:
            lasting[uid] = Lasting(trouble, last.since)
    return lasting


def sentences(lasting: Mapping[str, Lasting], names: Mapping[str, str], now: float) -> dict[str, str]:
    """What is to be said, by kind; of several pods with the same trouble the first one's. `names`: of pods, by UID."""
    told: dict[str, list[str]] = {}
    for uid, (trouble, since) in lasting.items():
        if trouble.kind != CREATING and now - since >= PATIENCE:
            told.setdefault(trouble.kind, []).append(uid)
    result = {}
    for kind, (first, *others) in told.items():
        who = "no replica can be added" if first == REPLICAS else f"pod {names[first]} can't start"
        more = f" (and {len(others)} more)" if others else ""
        result[kind] = f"{who}{more}: {kind}: {lasting[first].trouble.text or 'nothing more is known'}"
    return result
