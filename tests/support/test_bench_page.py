"""The page of results is what is recorded, and says why where we lose."""

import json
from typing import Any

from bench import page
from bench.scenarios import SCENARIOS

RESULTS = page.load()


def test_page_and_plots_are_fresh() -> None:
    """Else: make docs."""
    files = page.pages(RESULTS)
    for path, text in files.items():
        assert path.read_text() == text, f"{path} is not what bench/results says"
    assert set(page.PLOTS.glob("*.svg")) == files.keys() - {page.PAGE}


def test_where_we_lose_the_page_says_why() -> None:
    for name, result in RESULTS.items():
        over = any(not limit["ok"] for limit in result["limits"])
        if page.lost(SCENARIOS[name], result) or over:
            assert SCENARIOS[name].why, f"{name}: say why, in bench/scenarios.py"


def result(ours: list[float], theirs: list[float], ok: bool) -> dict[str, Any]:
    recorded: dict[str, Any] = json.loads((page.RESULTS / "http-1k.json").read_text())
    figures = {
        name: {"us_per_request": costs, "requests_per_second": [1000.0] * 3, "cores": [0.5] * 3}
        for name, costs in (("nginx", theirs), ("forebay", ours))
    }
    return {**recorded, "figures": figures, "missing": {}, "limits": [{"limit": "OVER it", "value": 1, "ok": ok}]}


def test_a_loss_is_bold_and_a_limit_that_does_not_hold_is_named() -> None:
    slow = page.pages({"http-1k": result([12, 24, 13], [10, 20, 10], ok=False)})[page.PAGE]
    assert "| [http-1k](#http-1k) | **1.20** |" in slow
    assert "| forebay | 13 (12-24) | 1.2 (1.2-1.3) | 1,000 |" in slow
    assert "Forebay takes more than nginx." in slow
    assert "Over its limit: it." in slow


def test_a_tie_is_no_loss() -> None:
    even = page.pages({"http-1k": result([10.3, 20, 10], [10, 20, 10], ok=True)})[page.PAGE]
    assert "| [http-1k](#http-1k) | 1.00 |" in even
    assert "takes more than nginx" not in even
