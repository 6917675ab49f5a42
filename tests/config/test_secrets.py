"""Secrets are read where they are and shown nowhere."""

import hashlib
import pickle
from pathlib import Path

import pytest

from sidecar.config.secrets import KeyHash, Secret, resolve


def test_secret_shows_itself_as_stars_and_reveals_only_when_asked() -> None:
    secret = Secret("sk-1")
    assert f"{secret} {secret!r} {[secret]}" == "*** *** [***]"
    assert secret.reveal() == "sk-1"


def test_secrets_are_equal_by_value() -> None:
    assert Secret("a", file="/x") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1


def test_secret_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="in clear"):
        pickle.dumps(Secret("sk-1"))


def test_secret_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-file\r\n")
    assert resolve({"env": "KEY"}, {"KEY": "sk-env"}).reveal() == "sk-env"
    secret = resolve({"file": str(file)}, {})
    assert (secret.reveal(), secret.file) == ("sk-file", str(file))


@pytest.mark.parametrize("raw", ["sk-plain", {}, {"env": "A", "file": "/b"}, {"vault": "x"}, None, 5])
def test_secret_in_the_file_itself_is_refused_without_repeating_it(raw: object) -> None:
    with pytest.raises(ValueError, match=r"expected \{env: NAME\} or \{file: PATH\}") as raised:
        resolve(raw, {"A": "1"})
    assert "sk-plain" not in str(raised.value)


@pytest.mark.parametrize("name", [None, "", 5, "\0"])
def test_secret_needs_a_name(name: object) -> None:
    with pytest.raises(ValueError, match="expected a name"):
        resolve({"env": name}, {})


@pytest.mark.parametrize("value", ["sk\nx-evil: 1", "sk-é", " sk", "sk\t", "sk\x7f"])
def test_secret_that_would_break_a_header_is_refused_without_repeating_it(value: str) -> None:
    with pytest.raises(ValueError, match="variable KEY holds a control or non-ASCII") as raised:
        resolve({"env": "KEY"}, {"KEY": value})
    assert value not in str(raised.value)


def test_missing_or_empty_variable_is_named() -> None:
    with pytest.raises(ValueError, match="variable KEY is not set"):
        resolve({"env": "KEY"}, {})
    with pytest.raises(ValueError, match="variable KEY is empty"):
        resolve({"env": "KEY"}, {"KEY": ""})


def test_bad_file_is_named(tmp_path: Path) -> None:
    empty, binary, large = tmp_path / "empty", tmp_path / "binary", tmp_path / "large"
    empty.write_text("\n")
    binary.write_bytes(b"\xff\xfe")
    large.write_bytes(b"x" * 70_000)
    for path, message in [
        (tmp_path / "absent", "cannot be read: No such file"),
        (tmp_path, "cannot be read: Is a directory"),
        (empty, "is empty"),
        (binary, "non-ASCII"),
        (large, "longer than 64 KiB"),
    ]:
        with pytest.raises(ValueError, match=f"file {path} .*{message}"):
            resolve({"file": str(path)}, {})


def test_key_hash_is_the_digest_and_hides_it() -> None:
    digest = hashlib.blake2b(b"key").digest()
    key_hash = KeyHash.parse(f"blake2b:{digest.hex()}")
    assert key_hash.digest == digest
    assert key_hash == KeyHash(digest)
    assert len({key_hash, KeyHash(digest)}) == 1
    assert repr(key_hash) == "***"


@pytest.mark.parametrize("raw", ["blake2b:12", "sha256:" + "0" * 128, "0" * 128, "blake2b:" + "g" * 128, 1])
def test_what_is_no_key_hash_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match="128 hex digits, as `sidecar key hash` prints them"):
        KeyHash.parse(raw)
