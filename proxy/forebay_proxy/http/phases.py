"""The phases of a client's connection, each with the deadline that `ClientConnection.expect` gives it."""

from typing import Final

IDLE: Final = 0  # between requests
HEAD: Final = 1  # a request's head has begun
BODY: Final = 2  # its body is being read
QUEUE: Final = 3  # it waits for a connection: the pool has that deadline
ANSWER: Final = 4  # the upstream has it
STREAM: Final = 5  # the answer, or a tunnel, is under way
CLOSING: Final = 6  # answered; what the client still sends is dropped
