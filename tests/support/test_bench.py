"""The bench runner: what the kernel accounts is read rightly, ratios are taken round by round, limits are judged."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench import kernel, peers, place, report, run
from bench.__main__ import arguments
from bench.kinds import Cpu, Latency, Limit, Memory
from bench.run import Figures
from bench.scenarios import HEADERS, SCENARIOS
from tests.support.process import need

HTTP_1K = SCENARIOS["http-1k"]


def test_cpu_time_of_another_process_over_all_its_threads() -> None:
    busy = (
        "import sys, threading, time\n"
        "def spin():\n"
        "    end = time.thread_time() + 0.15\n"
        "    while time.thread_time() < end: pass\n"
        "threads = [threading.Thread(target=spin) for _ in range(2)]\n"
        "for t in threads: t.start()\n"
        "for t in threads: t.join()\n"
        "print(time.process_time(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", busy], stdin=-1, stdout=-1) as child:
        assert child.stdout is not None
        own = float(child.stdout.readline())
        seen = kernel.cpu_seconds([child.pid])
        assert 0.3 <= own <= seen < own + 0.1
        assert kernel.cpu_seconds([child.pid, child.pid]) >= 2 * seen
        child.communicate()
    with pytest.raises(ProcessLookupError):
        kernel.cpu_seconds([child.pid])


def test_resident_memory_and_the_process_tree() -> None:
    script = (
        "import subprocess, sys; b = b'x' * 50_000_000\n"
        "print(subprocess.Popen(['cat']).pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        assert 50_000_000 < kernel.resident_bytes([child.pid]) < 90_000_000
        assert kernel.tree(child.pid) == [child.pid, grandchild]
        child.communicate()


def figures() -> Figures:
    found = Figures()
    for nginx, forebay in ((10.0, 11.0), (20.0, 26.0), (10.0, 12.0)):
        for name, cost in (("nginx", nginx), ("forebay", forebay)):
            found.add(name, us_per_request=cost, requests_per_second=1000, cores=1, rss_mib=10)
            found.add(name, upstream_connections_opened=0)
    found.missing["envoy"] = "it is not installed"
    return found


def test_ratios_are_taken_within_a_round() -> None:
    ratio = report.ratios(figures(), "forebay", "nginx", "us_per_request")
    assert ratio == [1.1, 1.3, 1.2]
    assert report.Spread.of(ratio) == report.Spread(1.1, 1.2, 1.3)
    assert report.ratios(figures(), "envoy", "nginx", "us_per_request") == []


@pytest.mark.parametrize(
    ("limit", "value", "ok"),
    [
        (Limit("forebay", "us_per_request", 1.2, "nginx"), 1.2, True),
        (Limit("forebay", "us_per_request", 1.19, "nginx"), 1.2, False),
        (Limit("forebay", "us_per_request", 11.9), 12.0, False),
        (Limit("forebay", "us_per_request", 9.0, "envoy"), None, False),
        (Limit("envoy", "us_per_request", 9.0), None, False),
        (Limit("forebay", "us_per_request", 9.0, "envoy", lenient=True), None, True),
        (Limit("forebay", "us_per_request", 1.19, "nginx", lenient=True), 1.2, False),
        (Limit("forebay", "us_per_request", against="nginx", plus=2.0), 2.0, True),
        (Limit("forebay", "us_per_request", against="nginx", plus=1.9), 2.0, False),
    ],
)
def test_a_limit_is_judged_and_what_is_missing_fails_it(limit: Limit, value: float | None, ok: bool) -> None:
    scenario = dataclasses.replace(HTTP_1K, limits=(limit,))
    (verdict,) = report.verdicts(scenario, figures())
    assert (verdict.value, verdict.ok) == (value, ok)


def test_limits_are_left_out_of_targets_that_are_not_asked_for() -> None:
    limits = (
        Limit("forebay", "us_per_request", 9.0),
        Limit("forebay", "us_per_request", 9.0, "nginx"),
        Limit("forebay", "us_per_request", 9.0, "envoy"),
        Limit("haproxy", "us_per_request", 9.0, "nginx"),
    )
    scenario = dataclasses.replace(HTTP_1K, limits=limits)
    assert report.narrowed(scenario, {"nginx", "forebay"}).limits == limits[:2]
    assert report.narrowed(scenario, set(HTTP_1K.targets)).limits == limits


def test_only_is_of_the_targets_of_the_chosen_scenarios(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "http-1k", "--only", "nginx,pgbouncer"])
    with pytest.raises(SystemExit):
        arguments()
    assert "--only pgbouncer: expected of " in capsys.readouterr().err


def test_table_and_file_name_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    text = report.table(HTTP_1K, figures())
    assert "envoy               not measured: it is not installed" in text
    path = report.save(HTTP_1K, figures(), record=True)
    saved = json.loads(path.read_text())
    assert path == tmp_path / "http-1k.json"
    assert saved["ratios"]["forebay"] == {"low": 1.1, "median": 1.2, "high": 1.3}
    assert saved["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert report.save(HTTP_1K, figures(), record=False).parent == tmp_path / "scratch"


def test_limits_and_bases_name_targets_and_figures_that_exist() -> None:
    for scenario in SCENARIOS.values():
        names = {name for limit in scenario.limits for name in (limit.target, limit.against or limit.target)}
        assert names <= scenario.targets.keys()
        if isinstance(scenario, Cpu):
            assert scenario.base in scenario.targets
            assert {limit.figure for limit in scenario.limits} <= {scenario.cost}


def test_the_request_is_what_the_scenario_says() -> None:
    assert len(HEADERS) + 1 == 10  # and Host
    assert 600 <= sum(len(field) + 2 for field in HEADERS) <= 750


async def test_a_round_is_measured_on_a_real_peer(tmp_path: Path) -> None:
    need("wrk"), need("nginx"), need("haproxy")

    async def absent(_: place.Place) -> place.Running:
        raise place.Unavailable("of purpose")

    assert isinstance(HTTP_1K, Cpu)
    targets = {"nginx": peers.nginx, "haproxy": peers.haproxy, "absent": absent}
    scenario = dataclasses.replace(HTTP_1K, targets=targets)
    began = time.monotonic()
    found = await run.cpu(scenario, list(targets), tmp_path, rounds=2, seconds=1)
    assert time.monotonic() - began >= 4
    assert found.missing == {"absent": "of purpose"}
    for name in ("nginx", "haproxy"):
        values = found.values[name]
        assert all(0.5 < cost < 1000 for cost in values["us_per_request"]), values
        assert all(0 < cores < 1.1 for cores in values["cores"]), values
        assert all(opened <= 128 for opened in values["upstream_connections_opened"]), values


async def test_failed_requests_spoil_a_measurement(tmp_path: Path) -> None:
    need("wrk"), need("nginx")
    assert isinstance(HTTP_1K, Cpu)
    scenario = dataclasses.replace(
        HTTP_1K, load=("wrk", "-t1", "-c1", "-d1s", "http://127.0.0.1:{port}/connections/x/")
    )

    async def failing(where: place.Place) -> place.Running:
        return await peers.nginx(dataclasses.replace(where, backend=1))  # nothing listens there: 502

    scenario = dataclasses.replace(scenario, targets={"nginx": failing})
    with pytest.raises(RuntimeError, match="nginx: the load failed: Non-2xx"):
        await run.cpu(scenario, ["nginx"], tmp_path, rounds=1, seconds=1)


async def test_idle_clients_are_measured(tmp_path: Path) -> None:
    need("nginx")
    scenario = SCENARIOS["idle-memory"]
    assert isinstance(scenario, Memory)
    found = await run.memory(dataclasses.replace(scenario, clients=200), ["nginx"], tmp_path)
    (values,) = found.values.values()
    assert 1 < values["rest_mib"][0] < 200
    assert values["client_bytes_tls"][0] > values["client_bytes_plain"][0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["http-connect", "http-tls-both", "http-idle", "http-queue", "websocket", "tcp"])
async def test_every_shape_is_served(tmp_path: Path, name: str) -> None:
    """Configurations for TLS on both sides, for a queue, for tunnels and relays do what their scenario asks for."""
    need("wrk"), need("haproxy"), need("nginx")
    scenario = SCENARIOS[name]
    assert isinstance(scenario, Cpu)
    scenario = dataclasses.replace(scenario, idle=min(scenario.idle, 50))
    found = await run.cpu(scenario, ["haproxy", "forebay"], tmp_path, rounds=1, seconds=1)
    assert found.missing == {}
    for values in found.values.values():
        assert 1 < values[scenario.cost][0] < 2000, values
        if scenario.shape.bounded:
            assert values["upstream_connections_opened"][0] <= scenario.shape.connections


async def test_latency_is_measured_beside_the_bare_backend(tmp_path: Path) -> None:
    need("nginx")
    scenario = SCENARIOS["latency-1k"]
    assert isinstance(scenario, Latency)
    scenario = dataclasses.replace(scenario, rate=200, clients=4)
    found = await run.latency(scenario, ["direct", "nginx"], tmp_path, rounds=1, seconds=1)
    direct, nginx = found.values["direct"], found.values["nginx"]
    assert 0 < nginx["p50_ms"][0] < nginx["p99_ms"][0]
    assert nginx["added_p50_ms"] == [nginx["p50_ms"][0] - direct["p50_ms"][0]]
    assert nginx["cores"][0] > 0 == direct["cores"][0]


async def test_a_peer_that_can_not_do_it_says_so(tmp_path: Path) -> None:
    shape = place.Shape(connections=10, bounded=True)
    with pytest.raises(place.Unavailable, match="no queue"):
        await peers.nginx(place.Place(tmp_path, 1, shape=shape))


def test_system_calls_are_read_off_a_report() -> None:
    text = """\
    calls syscall
--------- ----------------
     1203 read
       17 epoll_wait
--------- ----------------
     1220 total
"""
    assert kernel.system_calls(text) == {"read": 1203, "epoll_wait": 17}
