"""The operator's environment."""

import pytest

from forebay_operator.settings import Settings, SettingsError


def test_only_the_image_is_required() -> None:
    settings = Settings.of({"FOREBAY_PROXY_IMAGE": "p:1"}, "host")
    assert settings == Settings("p:1", "IfNotPresent", "", "forebay-system", "host")


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, "FOREBAY_PROXY_IMAGE: missing"),
        ({"FOREBAY_PROXY_IMAGE": "p", "FOREBAY_PROXY_PULL_POLICY": "sometimes"}, "FOREBAY_PROXY_PULL_POLICY"),
        ({"FOREBAY_PROXY_IMAGE": "p", "FOREBAY_HEALTH_PORT": "http"}, "FOREBAY_HEALTH_PORT: 'http': expected a port"),
        ({"FOREBAY_PROXY_IMAGE": "p", "FOREBAY_METRICS_PORT": "65536"}, "FOREBAY_METRICS_PORT: '65536': expected a"),
    ],
)
def test_bad_settings_name_the_variable(environ: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        Settings.of(environ, "host")
