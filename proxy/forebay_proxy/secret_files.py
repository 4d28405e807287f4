"""Files that hold what must not be in the document: users, passwords."""

import os
from pathlib import Path


class SecretError(Exception):
    """A file with users or a password can't be used; a sentence that names it."""


def read_secret(path: str) -> str:
    """Its text. Raises SecretError."""
    try:
        return Path(path).read_text("utf-8", "surrogateescape")
    except OSError as error:
        raise SecretError(f"{path}: {os.strerror(error.errno or 0)}") from None
