"""What has in common what a document names and does not hold itself (files, and libraries of an extra), and what the
system says of a fault.
"""

import os
from pathlib import Path


class FileError(Exception):
    """One can't be used; the message is a line with its name and the fault."""


def read_text(path: Path) -> str:
    """A file's text. Raises FileError."""
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise FileError(f"{path}: {reason(error)}") from None
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: byte {error.start} is not UTF-8") from None


def reason(error: OSError) -> str:
    """In the system's words. A look-up's error has a number that is not of errno, and a text of its own."""
    number = error.errno or 0
    return os.strerror(number) if number > 0 else error.strerror or str(error)
