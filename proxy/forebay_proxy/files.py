"""What has in common what a document names and does not hold itself: files, and libraries of an extra."""


class FileError(Exception):
    """One can't be used; the message is a line with its name and the fault."""
