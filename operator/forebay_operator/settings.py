"""The operator's own settings, from its environment."""

from collections.abc import Mapping
from dataclasses import dataclass

PULL_POLICIES = ("Always", "IfNotPresent", "Never")


class SettingsError(Exception):
    """The environment is not usable; the text names the variable and what was expected."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`namespace`: the one that is watched, empty for all; `identity`: this process, as the leader's Lease names it."""

    proxy_image: str
    pull_policy: str
    namespace: str
    operator_namespace: str
    identity: str

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
        )
