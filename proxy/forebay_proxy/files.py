"""What the files that a document names have in common."""


class FileError(Exception):
    """A file can't be used; the message is a line with the file and the fault."""
