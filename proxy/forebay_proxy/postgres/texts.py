"""What the texts of all clients of a worker show: each is read once, and remembered while there is room."""

from collections import OrderedDict
from typing import Final

from forebay_core.postgres.marks import NONE, Marks, marks, marks_either, plain
from forebay_proxy.postgres.extended import EITHER, USUAL, Lexing

# Bytes, of all texts together: a client chooses its user, database and start-up parameters freely, so a bound for each
# would be none. It is room for some 20,000 texts as applications have them.
MOST: Final = 16 << 20
BESIDE: Final = 700  # bytes that a text with a mark takes beside its own, for its entry and its marks, as measured
LONGEST: Final = 4096  # bytes; longer ones are read each time: they have their values in them, and don't come again


class Texts:
    """See the module's docstring. What has not come for longest goes first."""

    __slots__ = ("_found", "_taken")

    def __init__(self) -> None:
        self._found: OrderedDict[bytes, Marks] = OrderedDict()
        self._taken = 0

    def __repr__(self) -> str:
        return f"<Texts: {len(self._found)} that take {self._taken} bytes>"

    def marks(self, text: bytes, lexing: Lexing) -> Marks:
        """What `text` shows, remembered for the usual lexing."""
        if plain(text):
            return NONE
        if lexing is EITHER:
            return marks_either(text)
        if lexing is not USUAL:
            return marks(text, standard_strings=lexing[0], readable=lexing[1] or text.isascii())
        found = self._found.get(text)
        if found is not None:
            self._found.move_to_end(text)
            return found
        found = marks(text)
        if len(text) <= LONGEST:
            self._found[text] = found
            self._taken += len(text) + BESIDE
            while self._taken > MOST:
                gone, _ = self._found.popitem(last=False)
                self._taken -= len(gone) + BESIDE
        return found
