"""The files that a PostgreSQL document names: its users, and the passwords of ours at the servers."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from forebay_core.postgres.users import User, UsersError, parse_users
from forebay_core.spec.postgres import Database, Postgres, ServerUser
from forebay_proxy.secret_files import SecretError, read_secret, read_variable

Holder = Database | ServerUser  # what of a document may have a password


class Files(NamedTuple):
    """What they hold; the users as text, since parsing costs and is for what has changed."""

    users: str  # empty where there is no users file
    passwords: Mapping[str, str]  # by `source`

    def password_of(self, holder: Holder) -> str | None:
        """None where there is none, or the document does not name it any more."""
        place = source(holder)
        return None if place is None else self.passwords.get(place)


def source(holder: Holder) -> str | None:
    """Where its password is: a path, or `variable NAME`."""
    return holder.password_file or (f"variable {holder.password_env}" if holder.password_env is not None else None)


def read_files(postgres: Postgres) -> Files:
    """Raises SecretError; what it returns `users_of` may still refuse."""
    path = postgres.auth.users_file
    users = read_secret(path) if path is not None else ""
    return Files(users, dict(_passwords(postgres)))


def users_of(postgres: Postgres, files: Files) -> Mapping[str, User]:
    """The users by name. Raises SecretError."""
    try:
        return parse_users(files.users)
    except UsersError as error:
        raise SecretError(f"{postgres.auth.users_file}: {'; '.join(error.problems)}") from None


def check_files(postgres: Postgres) -> None:
    """Whether all can be used. Raises SecretError."""
    users_of(postgres, read_files(postgres))


def _passwords(postgres: Postgres) -> Iterator[tuple[str, str]]:
    own = filter(None, (postgres.monitor, postgres.auth.query))
    holders: list[Holder] = [*postgres.databases, *own]
    for holder in holders:
        place = source(holder)
        if place is None:
            continue
        if holder.password_file is not None:
            password = read_secret(holder.password_file).removesuffix("\n")
        else:
            assert holder.password_env is not None
            password = read_variable(holder.password_env)
        if not password or "\0" in password:
            raise SecretError(f"{place}: expected a password, found {'a zero byte' if password else 'nothing'}")
        yield place, password
