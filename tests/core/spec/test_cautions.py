"""What is said of valid documents."""

from typing import Any

import pytest
from tests.core.spec.cases import changed, good
from tests.core.spec.test_forward import WHOLE as FORWARD
from tests.core.spec.test_postgres import WHOLE

from forebay_core.spec.cautions import cautions
from forebay_core.spec.load import parse


@pytest.mark.parametrize(
    ("document", "paths"),
    [
        (good(), []),
        (WHOLE["cluster"], []),
        (good("cluster", "postgres"), ["spec.postgres.monitor"]),
        (changed(WHOLE["cluster"], {"spec.postgres.auth": {"method": "trust"}}), ["spec.postgres.auth.method"]),
        (good("cluster", "forward"), ["spec.forward.credentialsSecret"]),
        (FORWARD["cluster"], ["spec.forward.parents"]),
        (
            changed(FORWARD["cluster"], {"spec.forward.denyPrivate": False}),
            ["spec.forward.denyPrivate", "spec.forward.parents"],
        ),
    ],
    ids=["http", "whole", "no-monitor", "trust", "no-credentials", "parents", "private"],
)
def test_it_says_what_is_given_up(document: dict[str, Any], paths: list[str]) -> None:
    assert [caution.path for caution in cautions(parse(document, form="cluster"))] == paths
