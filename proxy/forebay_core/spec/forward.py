"""The forward proxy: who may use it, where it may go, how hard an origin is asked, and parents on the way out."""

import ipaddress
import re
from typing import Annotated

from pydantic import Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from forebay_core.spec.values import (
    IS_NETWORK,
    LOCAL_ONLY,
    CidrNetwork,
    EnvironmentName,
    FilePath,
    Host,
    Json,
    Model,
    ObjectName,
    Parsed,
    Port,
    SecretKey,
    Seq,
    cluster_only,
)

# The last label begins with a letter, as every top-level domain does: a shortened or hexadecimal address is no name.
_LABEL = "[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?"
_PATTERN = rf"^([*][.])?({_LABEL}[.])*[A-Za-z]([-A-Za-z0-9]*[A-Za-z0-9])?$"
_LONGEST = 253  # characters of a name, RFC 1035 section 2.3.4


class _Destination(Parsed):
    """A host's name, all names below one, or the addresses that names resolve to; canonical text in Python."""

    expected = "a host name, *.name for all names below it, or an IP address or network without host bits"

    def parse(self, value: object) -> str:
        if not isinstance(value, str) or len(value) > _LONGEST or "%" in value:
            raise ValueError(f"expected {self.expected}")
        if re.match(_PATTERN, value) and not value.endswith("\n"):
            return value.lower()
        try:
            return str(ipaddress.ip_network(value))
        except ValueError:
            raise ValueError(f"expected {self.expected}") from None

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        return {
            "type": "string",
            "maxLength": _LONGEST,
            "example": "*.example.com",
            "x-expected": self.expected,
            "x-kubernetes-validations": [
                {"rule": f"self.matches('{_PATTERN}') || {IS_NETWORK}", "message": f"expected {self.expected}"}
            ],
        }


Destination = Annotated[str, _Destination()]


class HtpasswdSecret(Model):
    """Users and their hashed passwords, from a Secret."""

    name: ObjectName = Field(description="Name of the Secret, in the ProxyPool's namespace.")
    key: SecretKey = Field("htpasswd", description="Key of the Secret that holds the users.")


class ParentSecret(Model):
    """What the proxy shows to a parent, from a Secret."""

    name: ObjectName = Field(description="Name of the Secret, in the ProxyPool's namespace.")
    key: SecretKey = Field("credentials", description="Key of the Secret that holds user:password.")


class PerOrigin(Model):
    """How hard one origin (a host and port) is asked, per replica."""

    max_connections: Annotated[int, Field(ge=1, le=100_000)] = Field(
        8, description="Connections and tunnels to one origin; who finds them all in use waits."
    )
    requests_per_second: Annotated[float, Field(ge=0, le=1_000_000)] = Field(
        0, description="Requests and new tunnels to one origin, in bursts of a second's worth. 0: no limit."
    )


class Parent(Model):
    """A proxy that requests are passed to instead of to their origins."""

    host: Host = Field(description="Host name or IP address. A name is resolved again every 5 s.")
    port: Port = Field(description="TCP port.")
    credentials_secret: ParentSecret | None = Field(
        None,
        description="The user:password that is shown to it. Absent: none.",
        json_schema_extra=cluster_only("credentialsFile or credentialsEnv"),
    )
    credentials_file: FilePath | None = Field(
        None,
        description="File that holds the user:password that is shown to it. Absent: none.",
        json_schema_extra=LOCAL_ONLY | {"x-instead": "credentialsSecret"},
    )
    credentials_env: EnvironmentName | None = Field(
        None,
        description="Environment variable that holds the user:password that is shown to it. Absent: none.",
        json_schema_extra=LOCAL_ONLY | {"x-instead": "credentialsSecret"},
    )


class Forward(Model):
    """Who may use a forward proxy, and for what."""

    allow_hosts: Annotated[Seq[Destination], Field(max_length=256)] = Field(
        (),
        description="Where requests may go: a name, *.name for all names below it, or a network that the name must "
        "resolve into. An address in a network named here is allowed though denyPrivate denies it, where the network "
        "lies wholly in what is denied. With a network here every name that denyHosts does not name is looked up. With "
        "parents a network is only for addresses that a request names. Empty: everywhere.",
    )
    deny_hosts: Annotated[Seq[Destination], Field(max_length=256)] = Field(
        (), description="Where requests may not go, in the form of allowHosts; it wins over allowHosts."
    )
    deny_private: bool = Field(
        True,
        description="Whether private, loopback, link-local, metadata and all other addresses that are not of the "
        "public Internet are denied, by what a name resolved to. With parents, which resolve by themselves, only "
        "addresses that a request names are looked at.",
    )
    ports: Annotated[Seq[Port], Field(min_length=1, max_length=64)] = Field(
        (80, 443), description="The ports that requests may go to."
    )
    credentials_secret: HtpasswdSecret | None = Field(
        None,
        description="Users who may use the proxy, as htpasswd -5 and openssl passwd -6 write them (SHA-256 and SHA-512 "
        "crypt). A change is taken up live. Absent: no password is asked for.",
        json_schema_extra=cluster_only("credentialsFile"),
    )
    credentials_file: FilePath | None = Field(
        None,
        description="File of the users who may use the proxy, as htpasswd -5 and openssl passwd -6 write them (SHA-256 "
        "and SHA-512 crypt). A change is taken up live. Absent: no password is asked for.",
        json_schema_extra=LOCAL_ONLY | {"x-instead": "credentialsSecret"},
    )
    client_networks: Annotated[Seq[CidrNetwork], Field(max_length=64)] = Field(
        (), description="Networks whose clients may use the proxy. Empty: all."
    )
    per_origin: PerOrigin = Field(PerOrigin(), description="How hard one origin is asked.")
    parents: Annotated[Seq[Parent], Field(max_length=16)] = Field(
        (),
        description="Proxies (HTTP) that requests are passed to, chosen by loadBalancing and watched by healthCheck of "
        "the upstream. Empty: requests go to their origins.",
    )
