"""The dashboard's and the alerts' queries: which metrics they name, and which of them a Prometheus has data for.

`panels_without_data(url)` asks a Prometheus, wherever it runs, what Grafana would ask it.
"""

import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Set
from pathlib import Path
from typing import NamedTuple

from forebay_operator import metrics as operator
from forebay_proxy import metrics as proxy

FILE = Path(__file__).resolve().parents[2] / "charts" / "forebay" / "files" / "dashboard.json"
PROXY = proxy.NAMES
OPERATOR = operator.NAMES
EVERY = PROXY | OPERATOR
# Grafana's variables, with All chosen.
VARIABLES = {"$namespace": ".*", "$proxypool": ".*", "$upstream": ".*", "$__rate_interval": "1m"}


class Query(NamedTuple):
    row: str
    panel: str
    legend: str
    text: str

    @property
    def names(self) -> frozenset[str]:
        return names(self.text)

    def __str__(self) -> str:
        return f"{self.row} / {self.panel} / {self.legend}: {self.text}"


def names(text: str) -> frozenset[str]:
    """The metrics that a text speaks of."""
    return frozenset(re.findall(r"\bforebay_[a-z_]+[a-z]\b", text))


def queries(file: Path = FILE) -> Iterator[Query]:
    """Every query of the dashboard, with its variables put in."""
    row = ""
    for panel in json.loads(file.read_text())["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
        for target in panel.get("targets", []):
            text = target["expr"]
            for variable, value in VARIABLES.items():
                text = text.replace(variable, value)
            yield Query(row, panel["title"], target["legendFormat"], text)


def ask(url: str, query: str) -> list[tuple[dict[str, str], float]]:
    """Labels and values of an instant query now. Raises ValueError with Prometheus' words where it is none."""
    where = f"{url.rstrip('/')}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(where, timeout=10) as answer:
            found = json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        with error:
            raise ValueError(f"{query}: {error.read().decode(errors='replace')}") from None
    return [(one["metric"], float(one["value"][1])) for one in found["result"]]


def series(url: str, query: str) -> list[dict[str, str]]:
    """The labels of what it answers."""
    return [labels for labels, _ in ask(url, query)]


def panels_without_data(url: str, about: Set[str] = EVERY) -> list[str]:
    """The queries, of those that name only metrics of `about`, that the Prometheus at `url` answers with nothing, or
    with nothing but NaN. Raises ValueError where it takes one for nonsense, OSError where it can't be reached."""
    return [
        str(query)
        for query in queries()
        if query.names <= about and all(math.isnan(value) for _, value in ask(url, query.text))
    ]
