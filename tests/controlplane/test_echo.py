"""What was written must come back through the watch of its kind."""

from typing import Any

from forebay_operator.echo import PATIENCE, Echo

LATER = PATIENCE + 1


def service(version: int, name: str = "orders", kind: str = "Service") -> dict[str, Any]:
    return {"kind": kind, "metadata": {"namespace": "shop", "name": name, "resourceVersion": str(version)}}


def echo() -> Echo:
    return Echo(frozenset({"Service", "Pod"}))


def test_what_never_comes_back_tells_which_watch_is_silent() -> None:
    one = echo()
    one.wrote(service(7), 0.0)
    assert one.silent(PATIENCE) == ""
    assert one.silent(LATER) == "Service"


def test_what_came_back_is_settled_whatever_comes_first() -> None:
    one = echo()
    one.wrote(service(7), 0.0)
    one.heard(service(7))
    one.heard(service(9))
    one.wrote(service(8), 0.0)  # its answer came after the watch had told of it, and of the next
    assert one.silent(LATER) == ""


def test_an_apply_that_changes_nothing_is_not_waited_for() -> None:
    one = echo()
    one.heard(service(7))
    one.wrote(service(7), 0.0)
    assert one.silent(LATER) == ""


def test_each_watch_is_apart() -> None:
    one = echo()
    one.wrote(service(7), 0.0)
    one.heard(service(8, kind="Pod"))
    assert one.silent(LATER) == "Service"


def test_the_first_write_counts_not_the_last() -> None:
    one = echo()
    one.wrote(service(7), 0.0)
    one.wrote(service(8), PATIENCE)
    assert one.silent(LATER) == "Service"


def test_what_is_not_watched_is_not_waited_for() -> None:
    one = echo()
    one.wrote(service(7, kind="Secret"), 0.0)
    assert one.silent(LATER) == ""


def test_an_object_that_was_deleted_may_come_again() -> None:
    one = echo()
    one.heard(service(7))
    one.heard(service(8), deleted=True)
    one.wrote(service(9), 0.0)
    assert one.silent(LATER) == "Service"
