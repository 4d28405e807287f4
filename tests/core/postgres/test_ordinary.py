"""It says of no text that it is ordinary which, read token by token, is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay_core.postgres.lexer import Token, tokens
from forebay_core.postgres.ordinary import Ordinary

ordinary = Ordinary((b"bad", rb"worse(?:_[0-9]+)?"))
NAMES = {b"bad", b"worse", b"worse_3"}
MARKED = {"set", "reset", "listen", "load", "do", "prepare", "declare", "close", "explain", "discard", "deallocate"}
MAKING = {b"create", b"into", b"replace", b"global", b"local"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        ";;",
        "SELECT 1",
        "INSERT INTO t (temp) VALUES ('a', 2), (E'\\'', $$;\nset$$) -- bad\n RETURNING 1; ",
        "UPDATE t\nSET a = 'bad', \"b\" = $1; /* ; set */ UPDATE t\nSET c = -1 / 2",
        "BEGIN; SET LOCAL a = 1; SET /* x */ TRANSACTION READ ONLY; COMMIT",
        "SELECT $a$ $A$;SET a=1; --$a$",
        "SELECT a$b$, badly, worse_x, $x$ $$; SET a $x$",
    ],
)
def test_ordinary(text: str) -> None:
    assert ordinary(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        *("SET a = 1", ";set a = 1", "SELECT 1;--\n/**/SET a = 1", "DO $$ $$", "SELECT bad", "SELECT Worse_3()"),
        *("CREATE TEMP TABLE t ()", "SELECT 1 INTO -- \n LOCAL /* */ TEMPORARY t", 'SELECT U&"a"', 'SELECT "bad"'),
        *("SELECT 'a", "/*", "/* /* */", "SELECT E'\\'';SET a=1;--'", "SELECT E'a'\n'\\'';SET a=1;--'"),
        "SELECT $a$ $A$ $a$;SET a=1; --$A$",
    ],
)  # fmt: skip
def test_not_ordinary(text: str) -> None:
    assert not ordinary(text.encode())


def test_whether_a_backslash_escapes() -> None:
    assert ordinary(b"SELECT 'a\\'';SET a = 1;--'") is not ordinary(b"SELECT 'a\\'';SET a = 1;--'", False)
    assert ordinary(b"SELECT 'a\\';SET a = 1;--'") is not ordinary(b"SELECT 'a\\';SET a = 1;--'", False)


def test_more_than_is_gone_through_is_not() -> None:
    assert ordinary(b"SELECT 1" + b",a" * 16_000)
    assert not ordinary(b"SELECT 1" + b",a" * 17_000)


PIECES = st.sampled_from(
    [
        *("set ", "SET", "local ", "reset ", "do ", "create", "temp", " temp ", "into ", "global ", "bad", "worse_3"),
        *("a", "'", "''", "\\", "'x'", '"', '"bad"', 'u&"', "E'", "e", "$$", "$a$", "$A$", "$1", "a$", "1", ";", ";"),
        *("(", "--", "-", "/*", "*/", "/**/", "/", "*", " ", "\n", "\r", "\t", ".", ",", "é", "select "),
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=14), st.booleans())
def test_what_is_ordinary_is_so_read_token_by_token(pieces: list[str], standard: bool) -> None:
    text = "".join(pieces).encode()
    if not ordinary(text, standard):
        return
    before = Token(";", b";")
    start = True
    for token in tokens(text, standard):
        assert not token.escaped
        assert not (token.kind in "wq" and token.text in NAMES)
        if token.kind == "w":
            assert not (token.text in (b"temp", b"temporary") and before.kind == "w" and before.text in MAKING)
            assert not (before == ("w", b"set", False) and start and token.text != b"local")
            assert not (before.kind == ";" and token.text.decode("latin-1") in MARKED - {"set"})
        start = before.kind == ";"
        before = token
