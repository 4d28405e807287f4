"""The files that a forward proxy's document names: its users, and what its parents are shown."""

from collections.abc import Mapping
from typing import NamedTuple

from forebay_core.forward.credentials import CredentialsError, parse_htpasswd
from forebay_core.forward.parents import ParentCredentialsError, parse_parent_credentials
from forebay_core.forward.shacrypt import ShaCrypt
from forebay_core.spec.forward import Forward, Parent
from forebay_proxy.secret_files import SecretError, read_secret, read_variable


class Files(NamedTuple):
    """What they hold."""

    users: Mapping[str, ShaCrypt] | None  # None: no password is asked for
    parents: Mapping[tuple[str, int], bytes]  # by host and port, the value of Proxy-Authorization, b"" for none


def read_files(forward: Forward) -> Files:
    """Raises SecretError."""
    users = None
    if forward.credentials_file is not None:
        try:
            users = parse_htpasswd(read_secret(forward.credentials_file))
        except CredentialsError as error:
            raise SecretError(f"{forward.credentials_file}: {'; '.join(error.problems)}") from None
    return Files(users, {(parent.host, parent.port): authorization(parent) for parent in forward.parents})


def authorization(parent: Parent) -> bytes:
    """What a parent is shown, b"" for nothing. Raises SecretError."""
    if parent.credentials_file is not None:
        place, text = parent.credentials_file, read_secret(parent.credentials_file)
    elif parent.credentials_env is not None:
        place, text = f"variable {parent.credentials_env}", read_variable(parent.credentials_env)
    else:
        return b""
    try:
        return parse_parent_credentials(text)
    except ParentCredentialsError as error:
        raise SecretError(f"{place}: {error}") from None
