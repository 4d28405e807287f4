"""The operator's own settings, from its environment."""

from collections.abc import Mapping
from dataclasses import dataclass

PULL_POLICIES = ("Always", "IfNotPresent", "Never")


class SettingsError(Exception):
    """The environment is not usable; the text names the variable and what was expected."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`namespace`: the one that is watched, empty for all; `identity`: this process, as the leader's Lease names it;
    a port that is 0 is chosen by the kernel."""

    proxy_image: str
    pull_policy: str
    namespace: str
    operator_namespace: str
    identity: str
    health_port: int = 8080
    metrics_port: int = 9090

    @classmethod
    def of(cls, environ: Mapping[str, str], host: str) -> "Settings":
        """From environment variables; `host` names this process where POD_NAME doesn't. Raises SettingsError."""
        image = environ.get("FOREBAY_PROXY_IMAGE", "")
        if not image:
            raise SettingsError("FOREBAY_PROXY_IMAGE: missing: expected the image that proxy pods run")
        policy = environ.get("FOREBAY_PROXY_PULL_POLICY", "") or "IfNotPresent"
        if policy not in PULL_POLICIES:
            expected = ", ".join(PULL_POLICIES)
            raise SettingsError(f"FOREBAY_PROXY_PULL_POLICY: {policy!r}: expected one of {expected}")
        return cls(
            proxy_image=image,
            pull_policy=policy,
            namespace=environ.get("FOREBAY_NAMESPACE", ""),
            operator_namespace=environ.get("FOREBAY_OPERATOR_NAMESPACE", "") or "forebay-system",
            identity=environ.get("POD_NAME", "") or host,
            health_port=_port(environ, "FOREBAY_HEALTH_PORT", 8080),
            metrics_port=_port(environ, "FOREBAY_METRICS_PORT", 9090),
        )


def _port(environ: Mapping[str, str], variable: str, default: int) -> int:
    text = environ.get(variable, "") or str(default)
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise SettingsError(f"{variable}: {text!r}: expected a port, 0 to 65535")
    return int(text)
