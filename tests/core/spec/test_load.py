"""YAML, messages, robustness, the hash."""

import copy
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.spec.cases import CLUSTER, changed, good
from tests.core.spec.test_postgres import WHOLE

from forebay_core.spec.load import LARGEST_TEXT, DocumentError, Problem, document_hash, load, parse

SMALL = """\
apiVersion: forebay.dev/v1alpha1
kind: ProxyPool
metadata: {name: a, creationTimestamp: 2025-01-01T00:00:00Z, uid: 1}
spec:
  protocol: http
  listen: {port: 0}
  upstreams:
  - {name: a, dns: {host: a, port: 1}}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(DocumentError) as raised:
        load(text, form="local")
    return str(raised.value).splitlines()


def test_a_document_in_yaml_is_loaded() -> None:
    assert load(SMALL, form="local").metadata.name == "a"


@pytest.mark.parametrize("value", ["!!int two", "!!int ''", "!!bool maybe", "!!float x", "!!map [1]", "!!seq {a: 1}"])
def test_a_value_that_does_not_fit_its_tag_is_refused_where_it_stands(value: str) -> None:
    (problem,) = problems(SMALL.replace("port: 0", f"port: {value}"))
    assert problem.startswith("line 6, column 18: expected valid YAML: ")


@pytest.mark.parametrize(
    "url", ["http://[[/v1", "https://[_.]/", "http://a:99999", "http://a:0", "http://-a", "http://a:", "http://:1"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    (problem,) = problems(f"{SMALL}  telemetry: {{tracing: {{endpoint: '{url}'}}}}\n")
    assert problem.startswith("spec.telemetry.tracing.endpoint")


@pytest.mark.parametrize(
    "url", ["http://a", "https://a.b-c:65535/v1", "http://[fd00::1]:4318", "http://10.0.0.1:1/", "http://a.local.:4318"]
)
def test_what_is_a_url_is_taken(url: str) -> None:
    assert load(f"{SMALL}  telemetry: {{tracing: {{endpoint: '{url}'}}}}\n", form="local").spec.telemetry.tracing


def test_a_byte_order_mark_and_document_markers_are_taken() -> None:
    assert load(f"\ufeff---\n{SMALL}...\n", form="local").metadata.name == "a"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "document: expected one document, found 0"),
        ("---\n" + SMALL + "---\n" + SMALL, "document: expected one document, found 2"),
        ("3", "document: 3: expected a mapping, a ProxyPool"),
        ("[1, 2]", "document: a list of 2: expected a mapping, a ProxyPool"),
        ("a: [", "line 2, column 1: expected valid YAML: did not find expected node content"),
        ("a:\n  b: 1\n  b: 2", 'line 3, column 3: expected valid YAML: the key "b" stands twice'),
        ("a: 1\n80: 2", "line 2, column 1: expected valid YAML: a key must be text"),
        ("[a]: 2", "line 1, column 1: expected valid YAML: a key must be text"),
        ("a: *b", "line 1, column 4: expected valid YAML: found undefined alias"),
        ("a: \0", "document: expected valid YAML: unacceptable character #x0000"),
        ("a: !!python/object:os.system x", "line 1, column 4: expected valid YAML: could not determine"),
        ("a: !!binary aGk=", "line 1, column 4: expected valid YAML: could not determine"),
        ("a: !!set {b, c}", "line 1, column 4: expected valid YAML: could not determine"),
        ("a: &a [*a]", "document: expected at most 100000 values, 100 deep"),
        ("[" * 500_000, "document: expected valid YAML: nested over 100 deep"),
        ("- " * 500_000, "document: expected valid YAML: nested over 100 deep"),
        ("a" * (LARGEST_TEXT + 1), f"document: expected at most {LARGEST_TEXT} characters"),
    ],
    ids=lambda value: value[:20],
)
def test_what_is_no_document_is_refused_in_one_line(text: str, line: str) -> None:
    (found,) = problems(text)
    assert found.startswith(line)


def test_a_small_text_that_stands_for_a_huge_document_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (found,) = problems("\n".join(lines))
    assert found.startswith("document: expected at most 100000 values")


@pytest.mark.parametrize("text", ["on", "yes", "1:30", "2025-01-01", "0x10", "0o10", "010", "1_000", ".inf", "1e9999"])
def test_what_yaml_1_1_would_take_for_another_type_is_text(text: str) -> None:
    (found,) = problems(SMALL + f"  maxClientConnections: {text}\n")
    assert found == f'spec.maxClientConnections: "{text}": expected an integer from 1 to 1000000'


def test_a_huge_number_is_one_problem() -> None:
    (found,) = problems(SMALL + f"  replicas: {'9' * 10_000}\n")
    assert found.startswith('spec.replicas: "9999')
    assert len(found) < 150


def test_null_is_absent() -> None:
    pool = load(SMALL + "  http:\n  routes:\n  autoscaling: ~\n  template: {a: null}\n", form="local")
    assert pool.spec.autoscaling is None
    assert pool.spec.template == {"a": None}
    assert problems(SMALL.replace("port: 0", "port: null")) == [
        "spec.listen.port: missing: expected an integer from 0 to 65535"
    ]


def test_status_is_not_looked_at() -> None:
    assert parse({**good(), "status": {"anything": 1}}, form="cluster") == parse(good(), form="cluster")


def test_secrets_are_not_shown() -> None:
    lines = problems(
        SMALL
        + "  password: hunter2\n"
        + "  auth: {token: hunter2}\n"
        + "  telemetry: {tracing: {endpoint: 'http://user:hunter2@collector'}}\n"
    )
    assert len(lines) == 3
    assert not any("hunter2" in line for line in lines)


def test_a_strange_key_can_not_forge_a_message() -> None:
    (found,) = problems(SMALL + '  "x\\e[2J\\ny: 1": 1\n')
    assert found.startswith('spec["x\\u001b[2J\\ny: 1"]: unknown field')


def test_a_long_value_is_shortened() -> None:
    (found,) = problems(SMALL.replace("host: a", f"host: {'a/' * 5000}"))
    assert len(found) < 200


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in children for place in _places(child, (*path, key)))]


FULL = changed(
    good("local"),
    {
        "metadata.labels": {"a": "b"},
        "spec.listen.tls": {"certFile": "a", "keyFile": "b"},
        "spec.autoscaling.behavior.scaleUp.policies": [{"type": "Pods", "value": 1, "periodSeconds": 1}],
        "spec.upstreams[0].tls": {"caFile": "a", "serverName": "b"},
        "spec.upstreams[0].budget": {"maxConnections": 20, "reserved": 1, "linger": "1s"},
        "spec.upstreams[0].pool": {"size": 3, "minIdle": 1, "recycle": "1h"},
        "spec.upstreams[0].loadBalancing": {"policy": "consistentHash", "consistentHash": {"header": "a"}},
        "spec.upstreams[0].healthCheck": {"active": {"path": "/"}, "passive": {"consecutiveErrors": 1}},
        "spec.routes": [{"host": "a", "upstream": "orders"}],
        "spec.http": {
            "trustedProxies": ["::1"],
            "maxBodyBytes": "1Mi",
            "retries": {"retryOn": ["connectFailure"]},
        },
        "spec.telemetry.tracing": {"endpoint": "http://a:1", "sampleRatio": 0.5},
        "spec.serviceTemplate": {"annotations": {"a": "b"}},
        "spec.strategy": {"maxSurge": 1},
        "spec.template": {"a": [1]},
    },
)
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.lists(st.none() | st.integers(), max_size=20),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from(["tcp", "http", "postgres", "a", "1s", "64Ki", "orders"]),
)


def _junk(document: dict[str, Any]) -> st.SearchStrategy[tuple[dict[str, Any], list[tuple[tuple[Any, ...], Any]]]]:
    pieces = st.tuples(st.sampled_from(_places(document)[1:]), JUNK)
    return st.tuples(st.just(document), st.lists(pieces, min_size=1, max_size=4))


@settings(max_examples=400)
@given(_junk(FULL) | _junk(WHOLE["local"]), st.booleans())
def test_junk_anywhere_gives_a_pool_or_problems(
    junk: tuple[dict[str, Any], list[tuple[tuple[Any, ...], Any]]], cluster: bool
) -> None:
    document = copy.deepcopy(junk[0])
    for place, value in junk[1]:
        holder: Any = document
        try:
            for part in place[:-1]:
                holder = holder[part]
            holder[place[-1]] = value
        except (TypeError, KeyError, IndexError):  # an earlier piece of junk took the place away
            continue
    found: tuple[Problem, ...] = ()
    try:
        parse(document, form="cluster" if cluster else "local")
    except DocumentError as error:
        found = error.problems or pytest.fail("an error without a problem")
    assert all(len(str(problem)) < 600 and "\n" not in str(problem) for problem in found)


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_any_text_gives_problems(text: str) -> None:
    assert problems(text)


@pytest.mark.parametrize("document", [FULL, WHOLE["local"]], ids=["http", "postgres"])
def test_a_written_pool_reads_as_itself(document: dict[str, Any]) -> None:
    pool = parse(document, form="local")
    written = yaml.safe_dump(pool.model_dump(mode="json", exclude_none=True, exclude_unset=True))
    assert load(written, form="local") == pool


def test_the_hash_is_of_what_is_wanted() -> None:
    one = document_hash(parse(good(), form="cluster"))
    spelled = changed(good(), {"spec.drain.delay": "5000ms", "spec.http.maxHeaderBytes": 32768, "spec.replicas": 2})
    assert document_hash(parse(spelled, form="cluster")) == one
    assert document_hash(parse(changed(good(), {"metadata.labels": {"a": "b"}}), form="cluster")) == one
    assert document_hash(parse(changed(good(), {"spec.replicas": 3}), form="cluster")) != one
    assert document_hash(parse(changed(good(), {"spec.autoscaling": {}}), form="cluster")) != one
    assert len(one) == 16


@pytest.mark.parametrize(
    ("path", "own", "other"), [("pool.idleTimeout", "300s", "55s"), ("budget.per", "endpoint", "upstream")]
)
def test_the_hash_knows_the_defaults_of_the_protocol(path: str, own: str, other: str) -> None:
    document = changed(WHOLE["cluster"], {"spec.upstreams[0].pool": {}})

    def hashed(changes: dict[str, Any]) -> str:
        return document_hash(parse(changed(document, changes), form="cluster"))

    assert hashed({f"spec.upstreams[0].{path}": own}) == hashed({})
    assert hashed({f"spec.upstreams[0].{path}": other}) != hashed({})


def test_the_hash_stays_the_same_over_versions() -> None:
    """Operator and replicas of neighbouring versions compare it."""
    assert document_hash(parse(good(), form="cluster")) == "899fa7fe39ef0649"


def test_an_error_says_everything_in_lines() -> None:
    document = changed(CLUSTER[0].document, {"spec.replicas": "x"})
    with pytest.raises(DocumentError) as raised:
        parse(document, form="cluster")
    assert len(str(raised.value).splitlines()) == len(raised.value.problems) == 2
