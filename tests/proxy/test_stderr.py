"""The log on standard error."""

import fcntl
import logging
import os
import re
import time
from collections.abc import Iterator

import pytest

from forebay_proxy.stderr import StderrHandler


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def say(handler: StderrHandler, message: str) -> None:
    handler.handle(logging.LogRecord("forebay", logging.INFO, "", 0, "%s", (message,), None))


def read_until(reader: int, word: str) -> str:
    text = ""
    while word not in text:
        text += os.read(reader, 1 << 16).decode()
    return text


def test_a_line_comes_at_once(pipe: tuple[int, int]) -> None:
    handler = StderrHandler(pipe[1])
    say(handler, "hello")
    assert read_until(pipe[0], "\n") == "forebay: hello\n"
    handler.close()


def test_words_of_others_make_no_lines(pipe: tuple[int, int]) -> None:
    handler = StderrHandler(pipe[1])
    say(handler, 'database "no\nforebay: listening on elsewhere" does not exist')
    say(handler, "hello")
    text = read_until(pipe[0], "hello\n")
    assert text == 'forebay: database "no\\nforebay: listening on elsewhere" does not exist\nforebay: hello\n'
    handler.close()


def test_nobody_waits_for_a_reader_and_what_is_lost_is_said(pipe: tuple[int, int]) -> None:
    handler = StderrHandler(pipe[1], waiting=20_000)
    for _ in range(10_000):
        say(handler, "message")
    said, text = 10_000, ""
    while "were lost" not in text:  # as soon as there is room, which the thread makes as we read
        text += os.read(pipe[0], 1 << 16).decode()
        say(handler, "message")
        said += 1
    while (
        text.count("forebay: message\n") + sum(map(int, re.findall(r"(\d+) lines of this log were lost", text))) < said
    ):
        text += os.read(pipe[0], 1 << 16).decode()
    assert text.count("forebay: message\n") < 2000
    handler.close()


def test_the_end_waits_for_no_reader_either(pipe: tuple[int, int]) -> None:
    handler = StderrHandler(pipe[1])
    for _ in range(1000):
        say(handler, "message")
    began = time.monotonic()
    handler.close()
    assert time.monotonic() - began < 5
    text = ""
    while text.count("\n") < 1000:  # what it has taken comes when somebody reads after all
        text += os.read(pipe[0], 1 << 16).decode()
