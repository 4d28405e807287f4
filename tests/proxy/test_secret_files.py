"""Files and variables that hold what must not be in the document."""

from pathlib import Path

import pytest

from forebay_core.spec.forward import Parent
from forebay_proxy.forward.files import authorization
from forebay_proxy.secret_files import SecretError, read_secret, read_variable


def test_a_file_as_it_is(tmp_path: Path) -> None:
    """Names may be in any encoding."""
    file = tmp_path / "secret"
    file.write_bytes(b"a\xff\n")
    assert read_secret(str(file)).encode("utf-8", "surrogateescape") == b"a\xff\n"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, says in ((tmp_path / "missing", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(SecretError, match=f"^{path}: {says}$"):
            read_secret(str(path))


def test_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_SECRET", "")
    assert read_variable("FOREBAY_SECRET") == ""
    monkeypatch.delenv("FOREBAY_SECRET")
    parent = Parent.model_construct(credentials_env="FOREBAY_SECRET")
    for read in (lambda: read_variable("FOREBAY_SECRET"), lambda: authorization(parent)):
        with pytest.raises(SecretError, match=r"^variable FOREBAY_SECRET: expected it to be set$"):
            read()
