"""The bench of the operator runs, and counts what it says."""

from pathlib import Path

import pytest
from bench import controlplane
from bench.kinds import ControlPlane

SCENARIO = ControlPlane(name="operator", about="", targets={"2-pools": 2}, replicas=2)


@pytest.mark.slow
async def test_a_small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controlplane, "SETTLED", 3.0)
    figures = await controlplane.control_plane(SCENARIO, ["2-pools"], tmp_path, rounds=1, seconds=4)
    values = {name: series[0] for name, series in figures.values["2-pools"].items()}
    assert 0 < values["cores"] < 1
    assert 20 < values["rss_mib"] < 200
    assert values["status_writes_per_pool_minute"] == 0
    assert 1 <= values["scrapes_per_second"] <= 3
    assert figures.about["2-pools"]["errors"] == 0
