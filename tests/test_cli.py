"""The command line: what each command prints, and its exit code."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from sidecar import __version__, proxy
from sidecar.cli import main
from tests.support.process import finished, write_config
from tests.support.running import ENVIRON, config_for
from tests.test_waiting import broken_packages

GOOD = config_for("https://api.example/v1")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as raised:
        main(list(arguments))
    code = raised.value.code
    assert isinstance(code, int)
    return code


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "sk-provider-secret")
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "SIDECAR_REGION", "SIDECAR_ZONE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path / "config.yaml", GOOD)


def test_a_good_file_passes_its_check(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", str(config)) == 0
    assert capsys.readouterr() == (f"{config}: good\n", "")


def test_warnings_are_printed_and_do_not_fail_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path / "config", config_for("http://api.example/v1"))
    assert run("check", str(path)) == 0
    out = capsys.readouterr().out
    assert "warning: providers.p.endpoints[0].url: sends the key in clear: use https\n" in out
    assert out.endswith(f"{path}: good\n")


def test_every_problem_of_a_file_is_a_line_with_its_field_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree: dict[str, Any] = {
        **GOOD,
        "drain": {"min": "soon"},
        "models": {"*": {"provider": "p", "surplus": 1}},
    }
    assert run("check", str(write_config(tmp_path / "config", tree))) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    lines = errors.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("sidecar: ") for line in lines)
    assert any("drain.min" in line for line in lines)
    assert any("surplus" in line for line in lines)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", str(tmp_path / "none")) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_check_wants_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check") == 2
    assert "give a FILE" in capsys.readouterr().err


def test_the_schema_is_json_and_knows_the_sections(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "--schema") == 0
    schema = orjson.loads(capsys.readouterr().out)
    assert "providers" in orjson.dumps(schema).decode()


def test_version_says_whether_the_data_path_is_compiled(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    form = "pure Python" if proxy.__file__.endswith(".py") else "compiled"
    assert capsys.readouterr().out == f"sidecar {__version__}, {form}\n"


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("run", "--nonsense"), ("run", "--config")])
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert capsys.readouterr().err.startswith("usage: sidecar")


def test_run_with_nothing_set_says_in_one_line_what_to_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("run") == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.count("\n") == 1
    assert "OPENAI_API_KEY" in errors
    assert "sidecar demo" in errors


def test_run_does_not_start_on_a_broken_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_config(tmp_path / "config", {**GOOD, "providers": {}})
    assert run("run", "--config", str(path)) == 2
    assert "providers" in capsys.readouterr().err


async def test_a_good_configuration_whose_model_cannot_be_loaded_is_one_line_too(tmp_path: Path) -> None:
    path = write_config(tmp_path / "config", {**GOOD, "cache": {"match": "semantic"}})
    environ = ENVIRON | {"PYTHONPATH": broken_packages(tmp_path)}
    code, out, errors = await finished("run", "--config", str(path), environ=environ)
    assert (code, out) == (2, "")
    assert errors.count("\n") == 1
    assert errors.startswith("sidecar: cache.semantic: cannot be used: numpy is installed")


async def test_a_log_that_cannot_be_written_is_named_by_its_setting(tmp_path: Path) -> None:
    log = tmp_path / "none" / "log"
    path = write_config(tmp_path / "config", {**GOOD, "telemetry": {"access_log": str(log)}})
    code, out, errors = await finished("run", "--config", str(path))
    assert (code, out) == (1, "")
    assert errors.count("\n") == 1
    assert errors.startswith("sidecar: cannot start: ")
    assert f"telemetry.access_log: {log}: " in errors


async def test_as_a_program_it_needs_nothing_from_its_environment(config: Path) -> None:
    code, out, errors = await finished("check", str(config))
    assert (code, out, errors) == (0, f"{config}: good\n", "")


async def test_a_missing_secret_is_named_by_field_and_variable(config: Path) -> None:
    code, out, errors = await finished("check", str(config), environ={})
    assert (code, out) == (2, "")
    assert "providers.p.api_key" in errors
    assert "KEY" in errors
