"""The user's `spec.template` laid over the pod template that the operator builds.

Objects merge by key, and the lists of KEYS by what their items are known by, as in a strategic merge patch of
Kubernetes; other lists replace. What the operator's own work rests on can't be overridden, and is put back: selector
labels, ports, the termination grace, the memory, and by what a replica knows its pod.
"""

import copy
import re
from collections.abc import Mapping
from typing import Any

from forebay_core.spec.load import DocumentError, Problem

ROOT = "spec.template"
CONTAINERS = (f"{ROOT}.spec.containers", f"{ROOT}.spec.initContainers")
KEYS = (
    {f"{ROOT}.spec.volumes": "name", **dict.fromkeys(CONTAINERS, "name")}
    | {f"{containers}[].env": "name" for containers in CONTAINERS}
    | {f"{containers}[].volumeMounts": "mountPath" for containers in CONTAINERS}
)
_ITEM = re.compile(r"\[[^]]*\]")


def laid_over(
    base: Mapping[str, Any], over: Mapping[str, Any], *, proxy: str, memory: str, own_env: str
) -> dict[str, Any]:
    """The pod template `base` with `over` on top. `proxy`: the name of our container; `memory`: of its volume;
    `own_env`: of the variable that tells a replica its pod.
    Raises DocumentError where `over` has not the shape of a pod template.
    """
    merged: dict[str, Any] = _merged(base, over, ROOT)
    merged["metadata"]["labels"] |= base["metadata"]["labels"]
    merged["metadata"]["annotations"] |= base["metadata"]["annotations"]
    spec, own = merged["spec"], base["spec"]
    spec["terminationGracePeriodSeconds"] = own["terminationGracePeriodSeconds"]
    _put_back(spec["volumes"], own["volumes"], memory)
    container, own_container = _named(spec["containers"], proxy), _named(own["containers"], proxy)
    container["ports"] = copy.deepcopy(own_container["ports"])
    mount = _named(own_container["volumeMounts"], memory)
    others = [m for m in container["volumeMounts"] if memory != m.get("name") and m["mountPath"] != mount["mountPath"]]
    container["volumeMounts"] = [copy.deepcopy(mount), *others]
    _put_back(container["env"], own_container["env"], own_env)
    return merged


def _merged(base: Any, over: Any, path: str) -> Any:
    if isinstance(base, Mapping):
        if not isinstance(over, Mapping):
            raise _bad(path, "a mapping")
        result = {key: copy.deepcopy(value) for key, value in base.items()}
        for key, value in over.items():
            if value is None:  # null is absent, as everywhere
                continue
            result[key] = _joined(base.get(key), value, f"{path}.{key}")
        return result
    return copy.deepcopy(over)


def _joined(base: Any, over: Any, path: str) -> Any:
    key = KEYS.get(_ITEM.sub("[]", path))
    if key is None:
        return copy.deepcopy(over) if base is None else _merged(base, over, path)
    if not isinstance(over, list) or not all(isinstance(i, Mapping) and isinstance(i.get(key), str) for i in over):
        raise _bad(path, f"a list of objects with a {key}")
    known = {item[key]: item for item in base or ()}
    for item in over:
        known[item[key]] = _merged(known.get(item[key], {}), item, f"{path}[{item[key]}]")
    return list(known.values())


def _put_back(items: list[Any], own: list[Any], name: str) -> None:
    items[:] = [copy.deepcopy(_named(own, name)) if item["name"] == name else item for item in items]


def _named(items: list[Any], name: str) -> Any:
    return next(item for item in items if item["name"] == name)


def _bad(path: str, expected: str) -> DocumentError:
    return DocumentError((Problem(path, "", f"expected {expected}"),))
