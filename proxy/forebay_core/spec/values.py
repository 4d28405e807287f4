"""The vocabulary of the model: base class, field markers, and the types of single values.

A marker is a key in a field's JSON schema that begins with `x-` and not with `x-kubernetes-`. The generators
and the checks read it; the CRD leaves it out.

| marker       | meaning                                                                        |
|--------------|--------------------------------------------------------------------------------|
| `x-protocol` | the field is refused unless `spec.protocol` is one of these                    |
| `x-defaults` | the field's default with a protocol, where it is another than the schema's      |
| `x-form`     | the field is only for a document in this form: `local` or `cluster`            |
| `x-instead`  | what the other form takes in its place                                         |
| `x-expected` | what a valid value is, in words, where the schema's own keys don't say it well |
"""

import ipaddress
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, Strict
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, core_schema

from forebay_core.spec.quantities import (
    DURATION_LENGTH,
    DURATION_PATTERN,
    SIZE_LENGTH,
    SIZE_PATTERN,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)

Form = Literal["local", "cluster"]
Json = dict[str, Any]
Item = TypeVar("Item")

HTTP_ONLY: Json = {"x-protocol": ["http"]}
HTTP_SPEAKING: Json = {"x-protocol": ["http", "forward"]}
FORWARD_ONLY: Json = {"x-protocol": ["forward"]}
POSTGRES_ONLY: Json = {"x-protocol": ["postgres"]}
# Protocols whose connections serve one client after another; and those of them that know a server ahead of a request.
REUSING: Json = {"x-protocol": ["http", "forward", "postgres"]}
READYING: Json = {"x-protocol": ["http", "postgres"]}
LOCAL_ONLY: Json = {"x-form": "local"}


def cluster_only(instead: str) -> Json:
    """The markers of a field that `forebay run` refuses, with what it takes instead."""
    return {"x-form": "cluster", "x-instead": instead}


class Model(BaseModel):
    """An object of the document: immutable, no unknown fields, nothing coerced (`"10"` is no integer)."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        validate_by_name=True,  # for Python callers; a document is read by alias only (see load.parse)
        validate_by_alias=True,
        serialize_by_alias=True,
    )


class Schema:
    """Adds keys to the JSON schema of the type that it annotates."""

    def __init__(self, **keys: Any) -> None:
        self.keys = {name.replace("_", "-"): value for name, value in keys.items()}

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        return {**handler(schema), **self.keys}


class Parsed:
    """A type that is read by `parse`, which raises ValueError, and written by `write`."""

    write: Callable[[Any], object] = str

    def parse(self, value: object) -> object:
        raise NotImplementedError

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.parse, serialization=core_schema.plain_serializer_function_ser_schema(self.write)
        )


class _Duration(Parsed):
    """A Gateway API duration between two bounds; seconds in Python."""

    write = staticmethod(format_duration)

    def __init__(self, minimum: str, maximum: str = "8760h") -> None:
        self.minimum, self.maximum = minimum, maximum
        self._least, self._most = parse_duration(minimum), parse_duration(maximum)
        self.expected = f"a duration such as 500ms, 30s or 1m30s, from {minimum} to {maximum}"

    def parse(self, value: object) -> float:
        if not isinstance(value, str):
            raise ValueError(f"expected {self.expected}")
        try:
            seconds = parse_duration(value)
        except ValueError:
            raise ValueError(f"expected {self.expected}") from None
        if not self._least <= seconds <= self._most:
            raise ValueError(f"expected {self.expected}")
        return seconds

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        value = "duration(self)"
        bounds = f"{value} >= duration('{self.minimum}') && {value} <= duration('{self.maximum}')"
        return {
            "type": "string",
            "maxLength": DURATION_LENGTH,
            "pattern": DURATION_PATTERN,
            "x-expected": self.expected,
            "x-kubernetes-validations": [{"rule": bounds, "message": f"expected {self.expected}"}],
        }


class _Size(Parsed):
    """Bytes between two bounds; an integer or a quantity with a binary suffix in the document."""

    write = staticmethod(format_size)

    def __init__(self, minimum: int, maximum: int) -> None:
        self.minimum, self.maximum = minimum, maximum
        self.expected = f"a size in bytes such as 65536 or 64Ki, from {format_size(minimum)} to {format_size(maximum)}"

    def parse(self, value: object) -> int:
        if not isinstance(value, int | str) or isinstance(value, bool):
            raise ValueError(f"expected {self.expected}")
        try:
            size = parse_size(value)
        except ValueError:
            raise ValueError(f"expected {self.expected}") from None
        if not self.minimum <= size <= self.maximum:
            raise ValueError(f"expected {self.expected}")
        return size

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        size = "quantity(string(self))"
        bounds = (
            f"{size}.compareTo(quantity('{self.minimum}')) >= 0 && {size}.compareTo(quantity('{self.maximum}')) <= 0"
        )
        return {
            "x-kubernetes-int-or-string": True,
            "maxLength": SIZE_LENGTH,
            "pattern": SIZE_PATTERN,
            "x-expected": self.expected,
            "x-kubernetes-validations": [{"rule": bounds, "message": f"expected {self.expected}"}],
        }


IS_NETWORK = "isIP(self) || (isCIDR(self) && cidr(self).masked() == cidr(self))"  # in CEL
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class _Network(Parsed):
    """An IP network, or a single address as a network of one."""

    expected = "an IP address or network such as 10.0.0.0/8, without host bits"

    def parse(self, value: object) -> Network:
        # A zone (fe80::1%eth0) has no meaning in a network.
        if not isinstance(value, str) or "%" in value:
            raise ValueError(f"expected {self.expected}")
        try:
            return ipaddress.ip_network(value)
        except ValueError:
            raise ValueError(f"expected {self.expected}") from None

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        return {
            "type": "string",
            "maxLength": 43,
            "example": "10.0.0.0/8",
            "x-expected": self.expected,
            "x-kubernetes-validations": [{"rule": IS_NETWORK, "message": f"expected {self.expected}"}],
        }


# A list of the document is a tuple in Python; only the list itself is converted, its items stay strict.
Seq = Annotated[tuple[Item, ...], Strict(False)]

Duration = Annotated[float, _Duration("0s")]
PositiveDuration = Annotated[float, _Duration("1ms")]
AnySize = Annotated[int, _Size(0, 1 << 50)]
HeaderSize = Annotated[int, _Size(1 << 10, 1 << 20)]
BufferSize = Annotated[int, _Size(1 << 10, 16 << 20)]
CidrNetwork = Annotated[Network, _Network()]

Port = Annotated[int, Field(ge=1, le=65535)]
Connections = Annotated[int, Field(ge=1, le=1_000_000)]
Percent = Annotated[int, Field(ge=0, le=100)]

Label = Annotated[
    str,
    Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"),
    Schema(x_expected="a name of lower-case letters, digits and '-', at most 63 characters (RFC 1123 label)"),
]
ServiceName = Annotated[
    str,
    Field(min_length=1, max_length=63, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$"),
    Schema(x_expected="the name of a Service: lower-case letters, digits and '-', at most 63 characters"),
]
PoolName = Annotated[
    str,
    Field(min_length=1, max_length=45, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$"),
    Schema(x_expected="a name of lower-case letters, digits and '-' that begins with a letter, at most 45 characters"),
]
ObjectName = Annotated[
    str,
    Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"),
    Schema(x_expected="the name of an object: lower-case letters, digits, '-' and '.', at most 253 characters"),
]
SecretKey = Annotated[
    str,
    Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$"),
    Schema(x_expected="a key of a Secret: letters, digits, '-', '_' and '.', at most 253 characters"),
]
Host = Annotated[
    str,
    Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9_:]([-A-Za-z0-9._:]*[A-Za-z0-9.:])?$"),
    Schema(x_expected="a host name or an IP address, without scheme, port or brackets"),
]
HostName = Annotated[
    str,
    Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9_]([-A-Za-z0-9._]*[A-Za-z0-9])?$"),
    Schema(x_expected="a host name without scheme or port"),
]
# RFC 9110 section 5.6.2, token
HeaderName = Annotated[
    str,
    Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"),
    Schema(x_expected="a header name (RFC 9110 token), at most 128 characters"),
]
UrlPath = Annotated[
    str,
    Field(min_length=1, max_length=1024, pattern=r'^/[!"$->@-~]*$'),  # visible ASCII without `#` and `?`
    Schema(x_expected="a path that begins with '/', without query, fragment or spaces, at most 1024 characters"),
]
RequestTarget = Annotated[
    str,
    Field(min_length=1, max_length=1024, pattern=r'^/[!"$-~]*$'),  # visible ASCII without `#`
    Schema(x_expected="a path that begins with '/', without fragment or spaces, at most 1024 characters"),
]
_NAME = r"[A-Za-z0-9_]([-A-Za-z0-9._]*[A-Za-z0-9_])?\.?"
_PORT = r":([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
Url = Annotated[
    str,
    Field(min_length=1, max_length=2048, pattern=rf"^https?://({_NAME}|\[[0-9A-Fa-f:.]+\])({_PORT})?(/[!-~]*)?$"),
    Schema(
        x_expected="a URL such as http://collector:4318/v1/traces, without user or password",
        example="http://collector:4318/v1/traces",
    ),
]
EnvironmentName = Annotated[
    str,
    Field(min_length=1, max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"),
    Schema(x_expected="the name of an environment variable"),
]
FilePath = Annotated[
    str,
    Field(min_length=1, max_length=4096, pattern=r"^[^\x00]+$"),
    Schema(x_expected="the path of a file, at most 4096 characters"),
]
Annotations = Annotated[
    dict[str, Annotated[str, Field(max_length=16384)]],
    Field(max_length=64),
    Schema(x_expected="a mapping of at most 64 names to strings"),
]
