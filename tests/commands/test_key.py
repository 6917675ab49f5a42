"""`sidecar key`: keys are made well, and nothing of them is shown where it should not be."""

import argparse
import hashlib
import io
import re
import sys

import pytest
import yaml

from sidecar.commands import key as module
from sidecar.commands.key import add_parser, hash_of
from sidecar.config.secrets import KeyHash
from sidecar.exchange import RequestHead
from sidecar.policy.callers import MAX_KEY_BYTES, Caller, Callers
from tests.config.support import MINIMAL, config_of

GOOD = "sk-" + "x" * 40


class Stdin(io.TextIOWrapper):
    """Standard input with these bytes, from a pipe or a terminal."""

    def __init__(self, content: bytes, is_terminal: bool = False) -> None:
        super().__init__(io.BytesIO(content))
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers(required=True))
    options = parser.parse_args(["key", *arguments])
    code: int = options.command(options)
    return code


def hash_from(content: bytes, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "stdin", Stdin(content))
    return run("hash")


def test_a_new_key_has_256_random_bits_and_its_hash(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("new") == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert re.fullmatch(r"sk-sidecar-[A-Za-z0-9_-]{43}", printed["key"])
    assert KeyHash.parse(printed["hash"]).digest == hashlib.blake2b(printed["key"].encode()).digest()


def test_each_new_key_is_another(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(20):
        run("new")
    assert len(set(re.findall(r"key: (\S+)", capsys.readouterr().out))) == 20


def test_a_new_key_lets_its_caller_in(capsys: pytest.CaptureFixture[str]) -> None:
    run("new")
    printed = yaml.safe_load(capsys.readouterr().out)
    config = config_of(f"{MINIMAL}keys: [{{id: a, hash: '{printed['hash']}'}}]")
    head = RequestHead()
    head.fields[b"authorization"] = b"Bearer " + printed["key"].encode()
    caller = Callers(config, "t").identify(head, 0.0)
    assert isinstance(caller, Caller)
    assert caller.id == "a"


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_hash_of_a_key_is_printed_alone(
    end: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hash_from(f"{GOOD}{end}".encode(), monkeypatch) == 0
    assert capsys.readouterr() == (f"{hash_of(GOOD)}\n", "")


def test_at_a_terminal_the_key_is_asked_for_and_not_echoed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(b"not this", is_terminal=True))
    monkeypatch.setattr(module, "getpass", lambda prompt: GOOD)
    assert run("hash") == 0
    assert capsys.readouterr().out == f"{hash_of(GOOD)}\n"


def test_no_answer_at_a_terminal_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def hung_up(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr(sys, "stdin", Stdin(b"", is_terminal=True))
    monkeypatch.setattr(module, "getpass", hung_up)
    assert run("hash") == 2
    assert capsys.readouterr().err == (
        "sidecar key hash: no key was given: type one, or send it to standard input\n"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"secret-1\nsecret-2\n", "control or non-ASCII"),
        (b" secret", "begins or ends with a space"),
        ("secret-é".encode(), "control or non-ASCII"),
        (b"secret\x00", "control or non-ASCII"),
        (b"secret" * 100_000, f"longer than {MAX_KEY_BYTES} bytes"),
        (f"blake2b:{'0' * 128}".encode(), "is a hash already"),
    ],
)
def test_what_could_never_be_a_key_is_refused_without_repeating_it(
    content: bytes, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hash_from(content, monkeypatch) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert message in errors
    assert "secret-" not in errors
    assert errors.count("\n") == 1


def test_a_key_that_could_be_guessed_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hash_from(b"letmein", monkeypatch) == 0
    out, errors = capsys.readouterr()
    assert out == f"{hash_of('letmein')}\n"
    assert errors.startswith("warning: a key under 32 characters may be guessed")


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("hash", "sk-on-the-command-line")])
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as raised:
        run(*arguments)
    assert raised.value.code == 2
