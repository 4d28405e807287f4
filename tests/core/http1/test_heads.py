"""Heads of requests and responses, from the conformance tables."""

from types import ModuleType
from typing import Any

import pytest
from tests.conformance.http1_cases import MAX_HEAD, Good, Hostile, request, response
from tests.conformance.http1_requests import GOOD_REQUESTS, HOSTILE_REQUESTS, INCOMPLETE_REQUESTS
from tests.conformance.http1_responses import GOOD_RESPONSES, HOSTILE_RESPONSES, INCOMPLETE_RESPONSES

from forebay_core.http1.types import ProtocolError


def scan_request(codec: ModuleType, data: bytes, trusted: bool = False, max_head: int = MAX_HEAD) -> Any:
    return codec.scan_request(data, max_head, trusted)


def scan_response(codec: ModuleType, data: bytes, to_head_request: bool = False, client_minor: int = 1) -> Any:
    return codec.scan_response(data, MAX_HEAD, to_head_request, client_minor)


@pytest.mark.parametrize("case", GOOD_REQUESTS, ids=lambda case: case.name)
def test_good_requests(codec: ModuleType, case: Good) -> None:
    head = scan_request(codec, case.data, **case.options)
    assert {name: getattr(head, name) for name in case.facts} == case.facts


@pytest.mark.parametrize("case", GOOD_RESPONSES, ids=lambda case: case.name)
def test_good_responses(codec: ModuleType, case: Good) -> None:
    head = scan_response(codec, case.data, **case.options)
    assert {name: getattr(head, name) for name in case.facts} == case.facts


@pytest.mark.parametrize("case", HOSTILE_REQUESTS, ids=lambda case: case.name)
def test_hostile_requests(codec: ModuleType, case: Hostile) -> None:
    with pytest.raises(ProtocolError) as caught:
        scan_request(codec, case.data)
    assert (caught.value.status, case.detail in caught.value.detail) == (case.status, True), caught.value


@pytest.mark.parametrize("case", HOSTILE_RESPONSES, ids=lambda case: case.name)
def test_hostile_responses(codec: ModuleType, case: Hostile) -> None:
    with pytest.raises(ProtocolError) as caught:
        scan_response(codec, case.data)
    assert (caught.value.status, case.detail in caught.value.detail) == (case.status, True), caught.value


@pytest.mark.parametrize("data", INCOMPLETE_REQUESTS)
def test_incomplete_requests(codec: ModuleType, data: bytes) -> None:
    assert scan_request(codec, data) is None


@pytest.mark.parametrize("data", INCOMPLETE_RESPONSES)
def test_incomplete_responses(codec: ModuleType, data: bytes) -> None:
    assert scan_response(codec, data) is None


def test_every_prefix_of_a_good_head_is_incomplete(codec: ModuleType) -> None:
    for case in GOOD_REQUESTS:
        head = scan_request(codec, case.data, **case.options)
        assert all(scan_request(codec, case.data[:cut]) is None for cut in range(head.end)), case.name
    for case in GOOD_RESPONSES:
        head = scan_response(codec, case.data, **case.options)
        assert all(scan_response(codec, case.data[:cut]) is None for cut in range(head.end)), case.name


def test_a_head_may_have_just_its_limit(codec: ModuleType) -> None:
    data = request(b"X: y")
    assert scan_request(codec, data, max_head=len(data)).end == len(data)
    assert scan_request(codec, b"\r\n" + data, max_head=len(data)).end == len(data) + 2
    with pytest.raises(ProtocolError, match="431"):
        scan_request(codec, data, max_head=len(data) - 1)


def test_what_is_written_is_read_the_same(codec: ModuleType) -> None:
    """A rewritten head with its blank line is a good head, and says the same of the body."""
    for case in GOOD_REQUESTS:
        first = scan_request(codec, case.data, **case.options)
        if first.host:
            again = scan_request(codec, first.head + b"\r\n", case.options.get("trusted", False))
            for name in ("method", "target", "host", "content_length", "chunked", "upgrade", "traceparent", "head"):
                assert getattr(again, name) == getattr(first, name), (case.name, name)
    for case in GOOD_RESPONSES:
        first = scan_response(codec, case.data, **case.options)
        again = scan_response(codec, first.head + b"\r\n", case.options.get("to_head_request", False))
        assert again.status == first.status, case.name
        assert again.body == (2 if first.rechunk else 3 if first.close_downstream else first.body), case.name


def test_members_are_read_only(codec: ModuleType) -> None:
    for head in (scan_request(codec, request()), scan_response(codec, response())):
        with pytest.raises(AttributeError):
            head.end = 0


def test_only_bytes_are_scanned(codec: ModuleType) -> None:
    for wrong in ("GET / HTTP/1.1\r\n\r\n", None):
        with pytest.raises((TypeError, AttributeError)):
            scan_request(codec, wrong)  # type: ignore[arg-type]
