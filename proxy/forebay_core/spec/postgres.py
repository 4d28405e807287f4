"""PostgreSQL: pooling modes, logins, databases and timeouts."""

from typing import Annotated, Literal

from pydantic import Field

from forebay_core.spec.values import (
    LOCAL_ONLY,
    Duration,
    EnvironmentName,
    FilePath,
    Label,
    Model,
    ObjectName,
    Schema,
    SecretKey,
    Seq,
    cluster_only,
)

# PostgreSQL cuts names at 63 bytes; any byte but zero may stand in one.
Name = Annotated[
    str,
    Field(min_length=1, max_length=63, pattern=r"^[^\x00]+$"),
    Schema(x_expected="a name of 1 to 63 characters"),
]
Statement = Annotated[
    str,
    Field(min_length=1, max_length=4096, pattern=r"^[^\x00]*\$1[^\x00]*$"),
    Schema(
        x_expected="a statement of at most 4096 characters with $1 in the place of the user",
        example="SELECT name, secret FROM user_lookup($1)",
    ),
]
Settings = Annotated[
    dict[str, Annotated[str, Field(max_length=1024)]],
    Field(max_length=32),
    Schema(x_expected="a mapping of at most 32 settings to strings"),
]


class UsersSecret(Model):
    """Users and their secrets, from a Secret."""

    name: ObjectName = Field(description="Name of the Secret, in the ProxyPool's namespace.")
    key: SecretKey = Field("userlist.txt", description="Key of the Secret that holds the users file.")


class PasswordSecret(Model):
    """A password, from a Secret."""

    name: ObjectName = Field(description="Name of the Secret, in the ProxyPool's namespace.")
    key: SecretKey = Field("password", description="Key of the Secret that holds the password.")


class ServerUser(Model):
    """A user of the proxy's own at the servers."""

    user: Name = Field(description="User to log in as.")
    password_secret: PasswordSecret | None = Field(
        None,
        description="The user's password. Absent: none.",
        json_schema_extra=cluster_only("passwordFile or passwordEnv"),
    )
    password_file: FilePath | None = Field(
        None,
        description="File that holds the user's password. Absent: none.",
        json_schema_extra=LOCAL_ONLY | {"x-instead": "passwordSecret"},
    )
    password_env: EnvironmentName | None = Field(
        None,
        description="Environment variable that holds the user's password. Absent: none.",
        json_schema_extra=LOCAL_ONLY | {"x-instead": "passwordSecret"},
    )
    database: Name = Field("postgres", description="Database to connect to.")


class Monitor(ServerUser):
    """The proxy's own user at the servers, for the watch over roles."""


class UserQuery(ServerUser):
    """A query for the users that are not in the users file, as PgBouncer's auth_query."""

    statement: Statement = Field(
        description="What is asked, as user in database, at the upstream of the client's database. $1 is the client's "
        "user; a row of two columns is expected, the user and its secret as PostgreSQL stores it; no row, or a null "
        "secret: there is no such user. It is best a SECURITY DEFINER function that only this user may execute.",
    )
    cache_time: Duration = Field(
        10.0,
        description="How long an answer counts. A login with another password than the known one makes the next ask "
        "anew. 0s: each login asks.",
    )


class Auth(Model):
    """How clients log in."""

    method: Literal["scram-sha-256", "md5", "cert", "trust"] = Field(
        "scram-sha-256",
        description="How clients prove who they are. md5: weak, for clients that know no other. cert: by a certificate "
        "whose common name is the user. trust: not at all.",
    )
    users_secret: UsersSecret | None = Field(
        None,
        description="Users and their secrets, in the format of PgBouncer's userlist.txt. A change is taken up live.",
        json_schema_extra=cluster_only("usersFile"),
    )
    users_file: FilePath | None = Field(
        None,
        description="File of users and their secrets, in the format of PgBouncer's userlist.txt. A change is taken up "
        "live.",
        json_schema_extra=LOCAL_ONLY | {"x-instead": "usersSecret"},
    )
    query: UserQuery | None = Field(
        None, description="A query at the server for users that are not in the users file. Absent: there are no others."
    )


class Database(Model):
    """A database as clients name it, and what it is at the servers."""

    name: Name = Field(description="Name that clients connect to.")
    upstream: Label | None = Field(None, description="Upstream that has it. Absent: the first one.")
    database: Name | None = Field(None, description="Name at the server. Absent: the same.")
    user: Name | None = Field(None, description="User to log in to the server as. Absent: the client's.")
    password_secret: PasswordSecret | None = Field(
        None,
        description="Password of user. Absent: the one in the users file.",
        json_schema_extra=cluster_only("passwordFile or passwordEnv"),
    )
    password_file: FilePath | None = Field(
        None,
        description="File that holds the password of user. Absent: the one in the users file.",
        json_schema_extra=LOCAL_ONLY | {"x-instead": "passwordSecret"},
    )
    password_env: EnvironmentName | None = Field(
        None,
        description="Environment variable that holds the password of user. Absent: the one in the users file.",
        json_schema_extra=LOCAL_ONLY | {"x-instead": "passwordSecret"},
    )
    access: Literal["readWrite", "readOnly", "preferReplica"] = Field(
        "readWrite",
        description="Which endpoints serve it: readWrite: the primary; readOnly: replicas; preferReplica: replicas, "
        "the primary where there is none.",
    )
    settings: Settings = Field({}, description="Session parameters that its connections start with.")


class Postgres(Model):
    """Pooling, logins, databases and timeouts of PostgreSQL."""

    pool_mode: Literal["transaction", "session", "statement"] = Field(
        "transaction",
        description="How long a client keeps a connection: for a transaction, for as long as it is connected, or for "
        "a statement (transaction blocks are refused).",
    )
    auth: Auth = Field(
        description="How clients log in.",
        json_schema_extra={"x-expected": "a mapping that says who may log in: users, a query for them, or a method"},
    )
    monitor: Monitor | None = Field(
        None,
        description="The proxy's own user at the servers: asks for their roles, and ends there what killed replicas "
        "have left (it needs pg_monitor and pg_signal_backend for that). Absent: no watch over roles.",
    )
    databases: Annotated[Seq[Database], Field(max_length=256)] = Field(
        (),
        description="The databases that clients may connect to. Empty: every one, under its name and the client's "
        "user, at the first upstream.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    admin_users: Annotated[Seq[Name], Field(max_length=64)] = Field(
        (), description="Users that may do everything in the admin database pgbouncer."
    )
    stats_users: Annotated[Seq[Name], Field(max_length=64)] = Field(
        (), description="Users that may look at the admin database pgbouncer."
    )
    max_prepared_statements: Annotated[int, Field(ge=1, le=10_000)] = Field(
        200, description="Prepared statements that a server connection keeps; the least recently used is closed."
    )
    idle_transaction_timeout: Duration = Field(
        0.0, description="How long a client may leave a transaction idle; then it is rolled back. 0s: no limit."
    )
    query_timeout: Duration = Field(0.0, description="How long a query may take; then it is cancelled. 0s: no limit.")
    client_idle_timeout: Duration = Field(
        0.0, description="How long a client may be connected without a word between transactions. 0s: no limit."
    )
