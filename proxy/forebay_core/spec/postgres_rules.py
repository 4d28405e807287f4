"""Rules over several fields of `spec.postgres`, as Python and as CEL (see `rules`)."""

import re
from collections.abc import Iterator

from forebay_core.spec.model import Spec
from forebay_core.spec.postgres import Auth, Database, Postgres, ServerUser
from forebay_core.spec.rule import Finding, Rule, names_differ
from forebay_core.spec.schema import Loc
from forebay_core.spec.values import Form

CONSOLE = "pgbouncer"  # the admin database; see forebay_core.postgres.console
_SETTING = r"^[A-Za-z_][A-Za-z0-9_$]*([.][A-Za-z_][A-Za-z0-9_$]*)*$"
# What a start-up packet can't set, or what is said elsewhere in the document.
_NO_SETTINGS = ("user", "database", "replication", "options", "session_authorization", "role", "is_superuser")


def logins_given(spec: Spec, form: Form) -> Iterator[Finding]:
    """A proxy that lets everybody in is never a default."""
    if spec.protocol == "postgres" and spec.postgres is None:
        yield Finding(("postgres",), "expected a mapping with auth, which says who may log in", (("protocol",),))


def users_given(auth: Auth, form: Form) -> Iterator[Finding]:
    by_password = auth.method in ("scram-sha-256", "md5")
    if by_password and not (auth.users_secret or auth.users_file or auth.query):
        field = "usersSecret" if form == "cluster" else "usersFile"
        yield Finding((field,), f"expected {field} or query, which method {auth.method} checks by", (("method",),))
    if auth.query and not by_password:
        yield Finding(("query",), f"expected none with method {auth.method}, which checks no password", (("method",),))


def one_password(holder: ServerUser | Database, form: Form) -> Iterator[Finding]:
    if holder.password_file and holder.password_env:
        yield Finding(("passwordEnv",), "expected either passwordFile or passwordEnv", (("passwordFile",),))


def password_has_a_user(database: Database, form: Form) -> Iterator[Finding]:
    if database.user is None and (database.password_secret or database.password_file or database.password_env):
        yield Finding(("user",), "expected the user that the password is of")


def database_is_not_the_console(database: Database, form: Form) -> Iterator[Finding]:
    if database.name == CONSOLE:
        yield Finding(("name",), f"expected another name than {CONSOLE}, which is the admin database")


def settings_can_be_set(database: Database, form: Form) -> Iterator[Finding]:
    for name in database.settings:
        if not re.match(_SETTING, name):
            yield Finding(("settings", name), "expected the name of a session parameter")
        elif name.lower() in _NO_SETTINGS:
            yield Finding(("settings", name), f"expected a session parameter, {name} can't be set at start-up")


def database_names_differ(postgres: Postgres, form: Form) -> Iterator[Finding]:
    return names_differ("databases", postgres.databases)


def databases_lead_somewhere(spec: Spec, form: Form) -> Iterator[Finding]:
    names = [upstream.name for upstream in spec.upstreams]
    for index, database in enumerate(spec.postgres.databases if spec.postgres else ()):
        if database.upstream not in (None, *names):
            place: Loc = ("postgres", "databases", index, "upstream")
            needs = tuple(("upstreams", other, "name") for other in range(len(names)))
            yield Finding(place, f"expected the name of an upstream: {', '.join(names)}", needs)


def roles_are_watched(postgres: Postgres, form: Form) -> Iterator[Finding]:
    for index, database in enumerate(postgres.databases):
        if database.access != "readWrite" and not postgres.monitor:
            expected = "expected readWrite without monitor, which finds out the roles of endpoints"
            yield Finding(("databases", index, "access"), expected, (("monitor",),))


def certificates_are_asked_for(spec: Spec, form: Form) -> Iterator[Finding]:
    tls = spec.listen.tls
    by_certificate = spec.postgres is not None and spec.postgres.auth.method == "cert"
    if by_certificate and not (tls and (tls.client_ca_secret or tls.client_ca_file)):
        field = "clientCASecret" if form == "cluster" else "clientCAFile"
        expected = "expected the authorities of clients' certificates, which auth.method cert needs"
        yield Finding(("listen", "tls", field), expected, (("postgres", "auth", "method"),))


POSTGRES_RULES = (
    Rule(
        "spec",
        logins_given,
        "self.protocol != 'postgres' || has(self.postgres)",
        "with protocol postgres, expected postgres.auth, which says who may log in",
    ),
    Rule(
        "spec.postgres.auth",
        users_given,
        "self.method in ['cert', 'trust'] ? !has(self.query) : has(self.usersSecret) || has(self.query)",
        "expected usersSecret or query with methods scram-sha-256 and md5, no query with others",
    ),
    Rule(
        "spec.postgres",
        roles_are_watched,
        "has(self.monitor) || !has(self.databases) || self.databases.all(d, d.access == 'readWrite')",
        "expected every database's access to be readWrite without monitor, which finds out the roles of endpoints",
    ),
    Rule("spec.postgres.monitor", one_password),
    Rule("spec.postgres.auth.query", one_password),
    Rule("spec.postgres.databases[]", one_password),
    Rule(
        "spec.postgres.databases[]",
        password_has_a_user,
        "!has(self.passwordSecret) || has(self.user)",
        "expected user, whose password passwordSecret is",
    ),
    Rule(
        "spec.postgres.databases[]",
        database_is_not_the_console,
        f"self.name != '{CONSOLE}'",
        f"expected another name than {CONSOLE}, which is the admin database",
    ),
    Rule(
        "spec.postgres.databases[]",
        settings_can_be_set,
        f"!has(self.settings) || self.settings.all(name, name.matches('{_SETTING}') && "
        f"!(name.lowerAscii() in [{', '.join(repr(name) for name in _NO_SETTINGS)}]))",
        f"expected settings to name session parameters that can be set at start-up, so not {', '.join(_NO_SETTINGS)}",
    ),
    # The API server refuses this by the list's key.
    Rule("spec.postgres", database_names_differ, message="expected every database to have a name of its own"),
    Rule(
        "spec",
        databases_lead_somewhere,
        "!has(self.postgres) || !has(self.postgres.databases) || self.postgres.databases.all(d, !has(d.upstream) || "
        "self.upstreams.exists(u, u.name == d.upstream))",
        "expected every database's upstream to be the name of an upstream",
    ),
    Rule(
        "spec",
        certificates_are_asked_for,
        "!has(self.postgres) || self.postgres.auth.method != 'cert' || "
        "(has(self.listen.tls) && has(self.listen.tls.clientCASecret))",
        "expected listen.tls.clientCASecret, which auth.method cert needs",
    ),
)
