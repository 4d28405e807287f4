"""The table of causes: each row by itself, and the order where two hold."""

from typing import Any

import pytest

from forebay_core.scale.diagnosis import Cause, Facts, diagnose

CALM = Facts(target_wait=0.02, target_cpu=0.7, max_replicas=8)
WAITS: dict[str, Any] = {"wait_p95": 0.5}
ANYWHERE = WAITS | {"anywhere": True, "unreachable": True}


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({}, Cause.NONE),
        ({"wait_p95": 0.02}, Cause.NONE),
        ({"slowdown": 9.0}, Cause.NONE),
        ({"starved": True}, Cause.NONE),
        (WAITS, Cause.CEILING),
        (WAITS | {"everywhere": True}, Cause.CEILING),
        (WAITS | {"budget": 30, "need": 29}, Cause.CEILING),
        (WAITS | {"budget": 30, "need": 30}, Cause.BUDGET),
        (WAITS | {"starved": True}, Cause.POOL),
        (WAITS | {"starved": True, "budget": 30, "need": 30}, Cause.POOL),
        (WAITS | {"starved": True, "budget": 30, "need": 31}, Cause.BUDGET),
        (WAITS | {"slowdown": 1.4}, Cause.CEILING),
        (WAITS | {"slowdown": 1.4, "relieved": True}, Cause.BACKEND),
        (WAITS | {"slowdown": 1.6}, Cause.BACKEND),
        (WAITS | {"slowdown": 1.6, "budget": 30, "need": 40, "starved": True}, Cause.BACKEND),
        (WAITS | {"stuck": 7.0, "patience": 6.0}, Cause.BACKEND),
        (WAITS | {"stuck": 5.0, "patience": 6.0}, Cause.CEILING),
        (WAITS | {"trial_failed": True}, Cause.BACKEND),
        (WAITS | {"paused": True}, Cause.NONE),
        ({"cpu": 0.71}, Cause.REPLICA),
        ({"loop_lag": 0.06}, Cause.REPLICA),
        (WAITS | {"cpu": 0.9, "slowdown": 3.0}, Cause.REPLICA),
        ({"connect_errors": 3, "connects": 12}, Cause.CONNECT),
        ({"connect_errors": 3, "connects": 13}, Cause.NONE),
        ({"connect_errors": 2}, Cause.NONE),
        ({"connect_seconds": 0.6}, Cause.CONNECT),
        ({"connect_seconds": 0.4}, Cause.NONE),
        ({"unreachable": True}, Cause.CONNECT),
        (WAITS | {"unreachable": True, "cpu": 0.9, "slowdown": 3.0}, Cause.CONNECT),
        (ANYWHERE, Cause.CEILING),
        (ANYWHERE | {"connect_errors": 30, "connects": 20, "connect_seconds": 3.0}, Cause.CEILING),
        (ANYWHERE | {"connect_errors": 3, "connects": 0}, Cause.CONNECT),
        (ANYWHERE | {"slowdown": 9.0, "trial_failed": True, "stuck": 99.0, "patience": 6.0}, Cause.CEILING),
        (ANYWHERE | {"cpu": 0.9}, Cause.REPLICA),
    ],
)
def test_cause(fields: dict[str, Any], cause: Cause) -> None:
    found, message = diagnose(CALM._replace(**fields))
    assert found is cause, message
    assert message


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"everywhere": True}, "more replicas, or a larger size"),
        ({"replicas": 8}, "all 8 replicas that there may be"),
        ({}, "a larger size helps"),
    ],
)
def test_the_message_of_a_ceiling_says_what_helps(fields: dict[str, Any], part: str) -> None:
    assert part in diagnose(CALM._replace(**WAITS, **fields))[1]
