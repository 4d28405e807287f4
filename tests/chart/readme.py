"""The chart's README, made from values.yaml and its comments. `python -m tests.chart.readme` prints it.

A comment stands right above its value.
"""

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

import yaml
from tests.chart.rendered import CHART

KEY = re.compile(r"( *)([A-Za-z]+):(?: (.*))?$")

HEAD = """\
<!-- Made by `python -m tests.chart.readme` from values.yaml. Don't edit. -->
# The chart

The operator of Forebay, with the CustomResourceDefinition, its rights, and what Prometheus and Grafana find. How to
install, scale and watch: [docs/how-to](../../docs/how-to).

```sh
helm install forebay charts/forebay --namespace forebay-system --create-namespace
```

Values are checked against `values.schema.json`: one that does not exist is refused.

| value | default | |
|---|---|---|
"""


class Value(NamedTuple):
    path: str
    default: str  # as JSON
    text: str


def values() -> Iterator[Value]:
    """The leaves of values.yaml. Raises ValueError for a line that is neither a comment nor a value."""
    above: list[tuple[int, str]] = []  # indentation and key of the maps that we are in
    comment: list[str] = []
    for number, line in enumerate((CHART / "values.yaml").read_text().splitlines(), 1):
        if not line.strip():
            comment = []
        elif line.lstrip().startswith("#"):
            comment.append(line.strip().removeprefix("#").strip())
        elif found := KEY.match(line):
            indent, key, value = len(found[1]), found[2], found[3]
            while above and above[-1][0] >= indent:
                above.pop()
            text, comment = " ".join(comment), []
            if value is None:
                above.append((indent, key))
            else:
                path = ".".join([*(parent for _, parent in above), key])
                yield Value(path, json.dumps(yaml.safe_load(value)), text)
        else:
            raise ValueError(f"values.yaml:{number}: {line!r}: expected a comment, or one value on one line")


def rendered() -> str:
    """What README.md has to be."""
    rows = (f"| `{value.path}` | `{value.default}` | {value.text} |\n" for value in values())
    return HEAD + "".join(rows)


if __name__ == "__main__":
    print(rendered(), end="")
