"""What the documents tell a reader to type is what the command line takes."""

import re
import shlex
from pathlib import Path

import pytest

from sidecar.cli import _parser

TOP = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "SECURITY.md", "deploy/k8s/README.md", "deploy/k8s/chart/README.md")


def code_of(text: str) -> list[str]:
    """What stands between backticks in a line, and the lines of blocks, indented or fenced."""
    prose, *rest = re.split(r"^```.*\n", text, flags=re.MULTILINE)
    fenced, proses = rest[::2], [prose, *rest[1::2]]
    blocks = [line for block in fenced for line in block.splitlines()]
    for each in proses:
        blocks += re.findall(r"^ {4}(.*)", each, re.MULTILINE)
    return blocks + re.findall(r"`([^`\n]+)`", text)


def commands_of(text: str) -> list[list[str]]:
    """The arguments of each `sidecar ...`, however it is started: with variables, by a path, in a pod."""
    started = re.compile(r"(?:[A-Z_]+=\S+ +)*(?:.* -- )?(?:\S*/)?sidecar (\S.*)")
    found = filter(None, map(started.match, code_of(text)))
    return [shlex.split(match[1], comments=True) for match in found]


COMMANDS = [(name, words) for name in DOCUMENTS for words in commands_of((TOP / name).read_text())]


def test_commands_are_found_in_lines_and_blocks() -> None:
    text = """\
Say `sidecar check FILE`, or `sidecar`:

    KEY=x .venv/bin/sidecar run   # a note
    so that the sidecar goes on

```
kubectl exec app -- sidecar key new
```

    sidecar cache purge --route 'a b'
"""
    assert commands_of(text) == [
        ["key", "new"],
        ["run"],
        ["cache", "purge", "--route", "a b"],
        ["check", "FILE"],
    ]
    assert {name for name, _ in COMMANDS} == {*DOCUMENTS}
    assert len(COMMANDS) > 20


@pytest.mark.parametrize(("document", "words"), COMMANDS, ids=[" ".join(words) for _, words in COMMANDS])
def test_commands_are_taken_as_printed(
    document: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    if len(words) == 1:  # it may only be spoken of, as in "`sidecar admin` and `sidecar explain` ask"
        words = [*words, "--help"]
    try:
        _parser(words).parse_args(words)
    except SystemExit as left:
        assert left.code == 0, f"{document}: {capsys.readouterr().err}"
