"""Files, and variables of the environment, that hold what must not be in the document: users, passwords."""

import os
from pathlib import Path

from forebay_proxy.files import FileError, reason


class SecretError(FileError):
    """Users or a password can't be read, or can't be used."""


def read_secret(path: str) -> str:
    """A file's text. Raises SecretError."""
    try:
        return Path(path).read_text("utf-8", "surrogateescape")
    except OSError as error:
        raise SecretError(f"{path}: {reason(error)}") from None


def read_variable(name: str) -> str:
    """A variable's value. Raises SecretError."""
    try:
        return os.environ[name]
    except KeyError:
        raise SecretError(f"variable {name}: expected it to be set") from None
