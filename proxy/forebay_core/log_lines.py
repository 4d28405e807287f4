"""How a message of the log becomes lines, in every process: one line, whatever words of others stand in it.

Servers' and clients' words are logged, and a name may hold a newline: written as it is it would begin a line that looks
like one of ours. So whatever is not printable is escaped, and where a message has several lines (a list of problems, a
traceback), all but the first are indented.
"""

import logging


class LineFormatter(logging.Formatter):
    """`prefix`, then the message. A newline stays one only where the author of the message has written it."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        lines = message.split("\n") if "\n" in str(record.msg) else [message]
        if record.exc_info:
            lines += self.formatException(record.exc_info).split("\n")
        return self._prefix + "\n  ".join(map(printable, lines))


def printable(text: str) -> str:
    """`text` with everything escaped that moves a cursor, or that can't be encoded."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
