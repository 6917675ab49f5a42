"""`sidecar inject` and `sidecar injector`, from their arguments to their exit codes."""

import argparse
import io
import json
import signal
import sys
from pathlib import Path

import pytest
import yaml

from sidecar.commands import inject, injector
from tests.k8s.pki import Authority
from tests.k8s.support import IMAGE, pod_of, sidecar_in
from tests.support.process import finished, spawn


def run(*arguments: str) -> int:
    """Run a command in this process; returns its exit code."""
    parser = argparse.ArgumentParser(prog="sidecar")
    commands = parser.add_subparsers()
    inject.add_parser(commands)
    injector.add_parser(commands)
    try:
        options = parser.parse_args(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    code: int = options.command(options)
    return code


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "pod.yaml"
    path.write_text(yaml.safe_dump(pod_of()))
    return str(path)


def test_a_file_goes_to_standard_output_with_the_sidecar(
    manifest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("inject", "--image", IMAGE, "--default", "port=8181", "-f", manifest) == 0
    out, errors = capsys.readouterr()
    assert sidecar_in(yaml.safe_load(out))["image"] == IMAGE
    assert "127.0.0.1:8181" in out
    assert errors == ""


@pytest.mark.parametrize("arguments", [(), ("-f", "-")])
def test_without_a_file_it_reads_standard_input(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = "\ufeff" + yaml.safe_dump(pod_of())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    assert run("inject", "--image", IMAGE, "--mode", "classic", *arguments) == 0
    assert len(yaml.safe_load(capsys.readouterr().out)["spec"]["containers"]) == 2


def test_warnings_go_to_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pod.yaml"
    path.write_text(yaml.safe_dump(pod_of(hostNetwork=True)))
    assert run("inject", "--image", IMAGE, "-f", str(path)) == 0
    out, errors = capsys.readouterr()
    assert yaml.safe_load(out) == pod_of(hostNetwork=True)
    assert errors.startswith("warning: Pod shop/app-1: ai-sidecar is not injected: ")


def test_json_goes_out_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pod.json"
    path.write_text(json.dumps(pod_of(), indent=3))
    assert run("inject", "--image", IMAGE, "--default", "memory-limit=", "-f", str(path)) == 0
    out, errors = capsys.readouterr()
    assert sidecar_in(json.loads(out))["resources"] == {"requests": {"cpu": "50m", "memory": "64Mi"}}
    assert out.startswith('{\n   "apiVersion"')
    assert errors == ""


@pytest.mark.parametrize(
    "content", ["", "# only a comment\n", '{"apiVersion":"v1","kind":"Service"}', "a text\n", "[]"]
)
def test_a_file_without_pods_goes_out_as_it_came_and_that_is_said(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(content)
    assert run("inject", "--image", IMAGE, "-f", str(path)) == 0
    out, errors = capsys.readouterr()
    assert out == content
    assert errors.startswith(f"sidecar inject: {path}: nothing to inject: no Pod, ")
    assert errors.count("\n") == 1


def test_a_pod_that_opts_out_is_no_file_without_pods(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = "# mine\n" + yaml.safe_dump(pod_of(labels={"ai-sidecar/inject": "false"}))
    path = tmp_path / "pod.yaml"
    path.write_text(content)
    assert run("inject", "--image", IMAGE, "-f", str(path)) == 0
    assert capsys.readouterr() == (content, "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "pod.yaml: line 1"),
        (b"\xff\xfe\x00", "not UTF-8 text"),
        (b'{"kind": "Pod"} {', "pod.yaml: line 1, column 18: not valid JSON"),
        (None, "No such file or directory"),
    ],
)
def test_what_cannot_be_read_exits_with_2_and_one_line(
    content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pod.yaml"
    if content is not None:
        path.write_bytes(content)
    assert run("inject", "--image", IMAGE, "-f", str(path)) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert message in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("inject",),
        ("inject", "--image", "Not an image"),
        ("inject", "--image", IMAGE, "--default", "port"),
        ("inject", "--image", IMAGE, "--default", "prot=1"),
        ("inject", "--image", IMAGE, "--mode", "ambient"),
        ("injector",),
        ("injector", "--image", IMAGE),
        ("injector", "--image", IMAGE, "--cert", "c"),
        ("injector", "--image", IMAGE, "--managed", "s", "--service", "n"),
        ("injector", "--image", IMAGE, "--cert", "c", "--key", "k", "--managed", "s"),
        ("injector", "--image", IMAGE, "--cert", "c", "--key", "k", "--port", "70000"),
        ("injector", "--image", IMAGE, "--cert", "c", "--key", "k", "--default", "port=80"),
        ("injector", "--image", IMAGE, "--cert", "c", "--key", "k", "--default", "memory-request=512Mi"),
    ],
)
def test_wrong_arguments_exit_with_2(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert run(*arguments) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors


# --- as processes of their own ---


async def test_inject_is_on_the_command_line(manifest: str) -> None:
    code, out, errors = await finished("inject", "--image", IMAGE, "-f", manifest)
    assert (code, errors) == (0, "")
    assert sidecar_in(yaml.safe_load(out))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_injector_serves_until_it_is_told_to_leave(number: signal.Signals, tmp_path: Path) -> None:
    chain, key = Authority().pair()
    (tmp_path / "c").write_bytes(chain)
    (tmp_path / "k").write_bytes(key)
    arguments = (
        "--cert",
        str(tmp_path / "c"),
        "--key",
        str(tmp_path / "k"),
        "--port",
        "0",
        "--health-port",
        "0",
    )
    process = await spawn("injector", "--image", IMAGE, *arguments)
    assert process.stderr is not None
    lines = [(await process.stderr.readline()).decode() for _ in range(2)]
    assert "serving the certificate" in lines[0]
    assert "listening: webhook" in lines[1]
    process.send_signal(number)
    if number is signal.SIGTERM:
        process.send_signal(number)  # a second one, so that the test need not wait for the patience
    _, rest = await process.communicate()
    assert process.returncode == 0
    assert b"Traceback" not in rest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--cert", "/nowhere/c", "--key", "/nowhere/k"), "/nowhere/c cannot be read"),
        (("--managed", "s", "--service", "n", "--webhook", "w"), "give --cert and --key"),
    ],
)
async def test_an_injector_that_cannot_start_exits_with_1_and_says_why(
    arguments: tuple[str, ...], message: str
) -> None:
    code, _, errors = await finished(
        "injector", "--image", IMAGE, "--port", "0", "--health-port", "0", *arguments
    )
    assert code == 1
    assert message in errors
    assert "Traceback" not in errors
