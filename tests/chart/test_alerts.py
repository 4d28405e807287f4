"""Every alert fires when it should and not when it should not, as promtool sees it, and has a runbook about it."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.chart.alerts import CASES, Case
from tests.chart.rendered import CHART, ROOT
from tests.support.process import need

from forebay_core.pool import CLOSE_REASONS
from forebay_core.scale.diagnosis import Cause
from forebay_proxy.connection import CHECKED
from forebay_proxy.http import answers
from forebay_proxy.upstream import CONNECT_ERRORS, OWN_FAULTS

FILE = CHART / "files" / "alerts.yaml"
RUNBOOKS = ROOT / "docs" / "runbooks"
HOW_TO = ROOT / "docs" / "how-to"
PAGES = sorted([*RUNBOOKS.glob("*.md"), *HOW_TO.glob("*.md")])
SECTIONS = ["What it means", "Look", "Do", "Don't"]
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(FILE.read_text())["groups"] for rule in group["rules"]
}


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([need("promtool"), *arguments], text=True, capture_output=True, timeout=60)


def expected(case: Case) -> list[dict[str, Any]]:
    """As promtool wants it: with severity and annotations, whose templates hold labels only."""
    if case.labels is None:
        return []
    rule, labels = RULES[case.alert], case.labels
    told = {
        key: re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels[found[1]], text)
        for key, text in rule["annotations"].items()
    }
    return [{"exp_labels": labels | rule["labels"], "exp_annotations": told}]


def test_the_rules_are_valid() -> None:
    checked = promtool("check", "rules", "--lint=all", "--lint-fatal", str(FILE))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_is_tried_both_ways() -> None:
    assert {case.alert for case in CASES if case.labels is not None} == RULES.keys()
    assert {case.alert for case in CASES if case.labels is None} == RULES.keys()


@pytest.mark.parametrize("alert", RULES)
def test_it_fires_when_it_should(alert: str, tmp_path: Path) -> None:
    tests = [
        {
            "name": case.what,
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
            "alert_rule_test": [
                {"eval_time": f"{case.minute}m", "alertname": alert, "exp_alerts": expected(case)},
            ],
        }
        for case in CASES
        if case.alert == alert
    ]
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(FILE)], "evaluation_interval": "1m", "tests": tests}))
    tested = promtool("test", "rules", str(file))
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_there_is_a_runbook_per_alert_and_no_other() -> None:
    assert {file.stem for file in RUNBOOKS.glob("*.md")} == RULES.keys()


def plain(text: str) -> str:
    return re.sub(r"\s+", "", text)


@pytest.mark.parametrize("alert", RULES)
def test_the_runbook_is_about_the_alert(alert: str) -> None:
    text = (RUNBOOKS / f"{alert}.md").read_text()
    words = " ".join(text.split())
    rule = RULES[alert]
    assert text.startswith(f"# {alert}\n")
    assert plain(rule["expr"]) in plain(text), "it repeats the expression"
    assert f"with severity `{rule['labels']['severity']}` when this has held for {rule['for']}:" in words
    assert rule["annotations"]["description"] in words
    assert [heading for heading in SECTIONS if f"\n## {heading}\n" not in text] == []


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_queries_in_pages_can_be_asked(file: Path, tmp_path: Path) -> None:
    """Blocks of PromQL: the first of a runbook is its alert's expression, of the others every line is a query."""
    blocks = re.findall(r"```promql\n(.*?)```", file.read_text(), re.DOTALL)
    queries = [line for block in blocks[file.parent == RUNBOOKS :] for line in block.splitlines()]
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    rule_file = tmp_path / "rules.yaml"
    rule_file.write_text(yaml.safe_dump({"groups": [{"name": file.stem, "rules": rules}]}))
    checked = promtool("check", "rules", str(rule_file))
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_links_lead_somewhere(file: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", file.read_text())
    assert [link for link in links if not (file.parent / link).exists()] == []


def test_the_page_on_watching_lists_every_alert() -> None:
    assert set(re.findall(r"\[(Forebay\w+)\]", (HOW_TO / "watch.md").read_text())) == RULES.keys()


def test_the_reasons_of_rejections_are_the_proxys() -> None:
    (listed,) = re.findall(r'reason=~"([^"]*)"', RULES["ForebayRejections"]["expr"])
    assert set(listed.split("|")) <= answers.STATUS_OF_REFUSAL.keys() | {answers.MAX_CLIENTS.reason}
    runbook = (RUNBOOKS / "ForebayRejections.md").read_text()
    assert [reason for reason in listed.split("|") if f"`{reason}`" not in runbook] == []


def test_the_runbook_knows_every_reason_why_connecting_fails() -> None:
    runbook = (RUNBOOKS / "ForebayConnectErrors.md").read_text()
    reasons = {reason for reason, _ in CONNECT_ERRORS.values()} | {*OWN_FAULTS, "connect_timeout", "tls"} - {CHECKED}
    assert [reason for reason in sorted(reasons) if f"`{reason}`" not in runbook] == []


def test_the_runbook_knows_every_reason_why_connections_are_closed() -> None:
    runbook = (RUNBOOKS / "ForebayConnectionChurn.md").read_text()
    assert [reason for reason in CLOSE_REASONS if f"`{reason}`" not in runbook] == []


def test_causes_in_expressions_are_the_autoscalers() -> None:
    named = {cause for rule in RULES.values() for cause in re.findall(r'cause="(\w+)"', rule["expr"])}
    assert named == {Cause.BUDGET, Cause.BACKEND, Cause.POOL}
    runbook = (RUNBOOKS / "ForebayWaitOverTarget.md").read_text()
    assert [cause for cause in Cause if f"| {cause}" not in runbook] == []
