"""The log on standard error: what happens, a line each. What a command prints as its result does not come here.

The loop never waits for who reads it. Lines that find no room are lost, which the next that does says.
"""

import logging
from typing import Final

from forebay_core.log_lines import LineFormatter
from forebay_proxy.lines import Lines

PREFIX: Final = "forebay: "
WAITING: Final = 256 << 10  # bytes that are yet to be written: some 2,000 lines, more than anybody reads


class StderrHandler(logging.Handler):
    """Writes to a file descriptor, standard error by default. Built after a fork."""

    def __init__(self, fd: int = 2, waiting: int = WAITING) -> None:
        super().__init__()
        self.setFormatter(LineFormatter(PREFIX))
        self._lines = Lines(fd, waiting, "log", lambda error, lines: None)  # there is nobody to tell
        self._lost = 0  # lines, since the last that was taken

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record) + "\n"
        except Exception:
            self.handleError(record)
            return
        if self._lost:
            text = f"{PREFIX}{self._lost} lines of this log were lost, as it was not read in time\n{text}"
        data = text.encode("utf-8", "backslashreplace")
        if self._lines.accept(len(data)):
            self._lost = 0
            self._lines.put([data])
        else:
            self._lost += 1

    def close(self) -> None:
        """Write what is left. Blocks for a second at most; `logging.shutdown` calls this."""
        self._lines.end()
        self._lines.join(1.0)
        super().close()


def log_to_stderr() -> None:
    """What every entry point begins with."""
    logging.basicConfig(level=logging.INFO, handlers=[StderrHandler()])
