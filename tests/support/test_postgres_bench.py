"""The bench of PostgreSQL runs against real programs: what it counts is there, what can't be measured is named."""

import dataclasses
from pathlib import Path

import pytest
from bench import postgres, report, run
from bench.kinds import Cpu, Memory
from bench.scenarios import SCENARIOS
from tests.support.process import need

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def programs() -> None:
    need("pgbench"), need("pgbouncer")


def cpu_scenario(name: str) -> Cpu:
    scenario = SCENARIOS[name]
    assert isinstance(scenario, Cpu)
    return scenario


@pytest.mark.parametrize("name", ["postgres-simple", "postgres-rows"])
async def test_a_round_beside_pgbouncer(tmp_path: Path, name: str) -> None:
    found = await run.cpu(cpu_scenario(name), ["pgbouncer", "forebay"], tmp_path, rounds=1, seconds=1)
    assert found.missing == {}
    for values in found.values.values():
        assert 1 < values["us_per_transaction"][0] < 100_000
        assert 0 < values["cores"][0] < 1.1
        assert values["transactions_per_second"][0] > 10
        assert values["upstream_connections_opened"] == [0]  # the warm-up has opened them, and they are kept
    assert len(report.ratios(found, "forebay", "pgbouncer", "us_per_transaction")) == 1


async def test_an_old_pgbouncer_is_not_measured_and_its_limit_is_left_out(tmp_path: Path) -> None:
    scenario = cpu_scenario("postgres-prepared")
    scenario = dataclasses.replace(
        scenario, targets={**scenario.targets, "pgbouncer": postgres.pgbouncer(least=(99, 0))}
    )
    found = await run.cpu(scenario, ["pgbouncer", "forebay"], tmp_path, rounds=1, seconds=1)
    assert "no prepared statements in transaction mode" in found.missing["pgbouncer"]
    assert found.values["forebay"]["us_per_transaction"]
    (verdict,) = report.verdicts(scenario, found)
    assert verdict.ok
    assert str(verdict).startswith("skip forebay us_per_transaction: not measured")


async def test_failed_transactions_spoil_a_measurement(tmp_path: Path) -> None:
    scenario = cpu_scenario("postgres-simple")
    scenario = dataclasses.replace(scenario, load=(*scenario.load[:-1], "nowhere"))
    with pytest.raises(RuntimeError, match=r"pgbouncer: the load failed: .*FATAL"):
        await run.cpu(scenario, ["pgbouncer"], tmp_path, rounds=1, seconds=1)


async def test_idle_clients_are_measured(tmp_path: Path) -> None:
    scenario = SCENARIOS["postgres-memory"]
    assert isinstance(scenario, Memory)
    found = await run.memory(dataclasses.replace(scenario, clients=300), ["pgbouncer", "forebay"], tmp_path)
    assert found.values.keys() == {"pgbouncer", "forebay"}
    for values in found.values.values():
        assert 1 < values["rest_mib"][0] < values["full_mib"][0] < 200
        assert values.keys() == {"rest_mib", "full_mib", "client_bytes_plain"}
