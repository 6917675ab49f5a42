"""The image, as far as it can be judged without building it: the recipe, its locks, and how it runs."""

import ast
import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import venv
from collections.abc import AsyncIterator, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from sidecar.k8s.container import CONFIG_FOLDER, USER_ID
from tests.k8s.support_helm import ROOT, script
from tests.support.process import SidecarProcess

TOP = ROOT.parents[1]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())
TEXT = (ROOT / "Dockerfile").read_text()
LOCKS = ("requirements.lock", "build.lock")


def instructions() -> list[tuple[str, str]]:
    """Each instruction with its arguments, continued lines put together."""
    lines = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()
    return [(line.split()[0], line.partition(" ")[2]) for line in lines if line.strip()]


def last_stage() -> dict[str, str]:
    """The instructions of the image that runs."""
    found = instructions()
    start = max(index for index, (name, _) in enumerate(found) if name == "FROM")
    return dict(found[start:])


ENVIRON = dict(part.split("=", 1) for part in last_stage()["ENV"].split())


# --- the recipe ---


def test_base_image_has_a_version_and_can_be_pinned() -> None:
    arguments = dict(value.split("=", 1) for name, value in instructions() if name == "ARG")
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", arguments["PYTHON"])
    assert arguments["BUILDER"] == arguments["PYTHON"].replace("-slim", "")
    bases = [value.split()[0] for name, value in instructions() if name == "FROM"]
    assert set(bases) == {"${BUILDER}", "${PYTHON}", "scratch"}
    version = arguments["PYTHON"].removeprefix("python:").partition("-")[0]
    assert version in PROJECT["project"]["requires-python"] or f"Python :: {version}" in str(PROJECT)


def test_stages_are_named_and_the_image_is_the_last_one() -> None:
    stages = [value.rpartition(" AS ")[2] for name, value in instructions() if name == "FROM"]
    assert stages == ["build", "sbom", "runtime"]


def test_image_runs_as_the_user_that_the_cluster_knows() -> None:
    assert last_stage()["USER"] == f"{USER_ID}:{USER_ID}"


def test_process_is_started_without_a_shell_and_told_to_drain() -> None:
    stage = last_stage()
    assert json.loads(stage["ENTRYPOINT"]) == ["sidecar"]
    assert json.loads(stage["CMD"]) == ["run", "--config", f"{CONFIG_FOLDER}/sidecar.yaml"]
    assert stage["STOPSIGNAL"] == "SIGTERM"
    assert "sidecar" in PROJECT["project"]["scripts"]


def test_running_image_gets_what_was_built_and_runs_nothing_to_be_made() -> None:
    assert last_stage()["COPY"] == "--from=build /venv /venv"
    assert "RUN" not in last_stage()


def test_recipe_keeps_to_the_usual_rules() -> None:
    names = [name for name, _ in instructions()]
    assert "ADD" not in names
    assert "HEALTHCHECK" not in names, "Kubernetes has its own probes"
    for name, value in instructions():
        if name == "WORKDIR":
            assert value.startswith("/")
        if name == "RUN":
            assert not re.search(r"\b(sudo|apt-get|apt|curl|wget|cd)\b|\|", value)
            for command in value.split("&&"):
                if "pip" in command.split()[0] and "install" in command:
                    assert "--no-cache-dir" in command
                    assert ("--require-hashes" in command) != ("--no-index" in command)


def test_build_sees_only_what_it_copies() -> None:
    wanted = {
        source
        for name, value in instructions()
        if name == "COPY" and "--from" not in value
        for source in value.split()[:-1]
    }
    assert all((TOP / source).exists() for source in wanted)
    ignored = (ROOT / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == {source.strip("./") for source in wanted}


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.dockerignore", "build.in", *LOCKS])
def test_no_file_names_where_packages_come_from(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"https?://|index-url|find-links|trusted-host", text)


# --- the locks ---


def locked(name: str) -> dict[str, Requirement]:
    """The requirements of a lock, by name."""
    lines = (ROOT / name).read_text().replace("\\\n", " ").splitlines()
    found = [Requirement(line.partition(" --hash")[0].strip()) for line in lines if line[:1].isalnum()]
    return {requirement.name: requirement for requirement in found}


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_has_one_version_and_hashes(name: str) -> None:
    blocks = re.split(r"\n(?=\S)", (ROOT / name).read_text().strip())
    assert len(blocks) == len(locked(name)) > 5
    for block in blocks:
        assert re.match(r"[a-z0-9-]+==[\w.]+( ;.*)? \\\n", block), block[:60]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (
            "requirements.lock",
            [
                *PROJECT["project"]["dependencies"],
                *PROJECT["project"]["optional-dependencies"]["injector"],
                *PROJECT["project"]["optional-dependencies"]["gateway"],
            ],
        ),
        ("build.lock", [*PROJECT["build-system"]["requires"], "pip"]),
    ],
)
def test_lock_has_all_that_the_project_needs(name: str, wanted: list[str]) -> None:
    found = locked(name)
    for requirement in map(Requirement, wanted):
        pinned = found.get(requirement.name)
        assert pinned, f"{name} lacks {requirement.name}: run `make lock`"
        (version,) = (each.version for each in pinned.specifier)
        assert requirement.specifier.contains(version), f"{name}: {requirement}: run `make lock`"


# --- what it compiles ---


def environment_of_the_locks(folder: Path) -> Path:
    """A Python that sees, of what is installed here, only the packages that the locks name."""
    venv.create(folder)
    site = Path(sysconfig.get_path("purelib", "posix_prefix", {"base": str(folder)}))
    for requirement in {**locked("requirements.lock"), **locked("build.lock")}:
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed = metadata.distribution(requirement)
            for name in {file.parts[0] for file in installed.files or () if file.parts[0] != ".."}:
                if not (site / name).exists():
                    (site / name).symlink_to(str(installed.locate_file(name)))
    return folder / "bin" / "python"


def test_data_path_passes_the_compilers_checks_with_nothing_but_what_the_locks_have(tmp_path: Path) -> None:
    source = ast.parse((TOP / "deploy" / "compile.py").read_text())
    lists = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in source.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    python = environment_of_the_locks(tmp_path)
    seen = subprocess.run(
        [python, "-c", "import msgspec, numpy"], capture_output=True, text=True, check=False
    )
    assert "No module named 'numpy'" in seen.stderr
    files = [f"sidecar/{name}.py" for name in lists["MODULES"]]
    # The first step of mypyc, in 4 s; `make test-compiled` takes them all.
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--cache-dir", os.devnull, "--python-executable", python),
            *lists["MYPY_OPTIONS"],
            *files,
        ],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert f"{len(files)} source files" in done.stdout


# --- the bill of materials ---


def test_bill_names_everything_that_is_installed(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(ROOT / "sbom.py")], capture_output=True, check=True)
    bill = json.loads(done.stdout)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["name"] == "ai-sidecar"
    parts = {part["name"]: part for part in bill["components"]}
    assert {"aiohttp", "msgspec", "uvloop"} <= set(parts)
    assert "ai-sidecar" not in parts
    assert parts["aiohttp"]["purl"] == f"pkg:pypi/aiohttp@{parts['aiohttp']['version']}"
    references = [part["bom-ref"] for part in bill["components"]]
    assert references == sorted(references, key=lambda reference: reference.partition("@")[0])


def test_licence_that_is_a_whole_text_is_left_out() -> None:
    class Installed:
        version = "1"

        def __init__(self, **metadata: str) -> None:
            self.metadata = {
                "Name": "A_b",
                **{name.replace("_", "-"): text for name, text in metadata.items()},
            }

    bill = script("sbom").bill
    assert bill([Installed(License="MIT " * 100)])["components"][0].get("licenses") is None
    (named,) = bill([Installed(License="MIT")])["components"]
    assert named["licenses"] == [{"license": {"name": "MIT"}}]
    (expressed,) = bill([Installed(License="text", License_Expression="MIT OR Apache-2.0")])["components"]
    assert expressed["licenses"] == [{"expression": "MIT OR Apache-2.0"}]
    assert expressed["name"] == "a-b"


# --- as it runs ---

# Every mount becomes read-only, then the image's user takes over; it may read everywhere, since this Python
# may stand in somebody's home.
AS_IN_A_POD = f"""
set -e
mount --make-rprivate /
cut -d ' ' -f 2 /proc/self/mounts | while read -r place; do mount -o remount,ro,bind "$place" || true; done
if touch "$WRITABLE/probe"; then echo 'still writable' >&2; exit 3; fi
exec setpriv --reuid {USER_ID} --regid {USER_ID} --clear-groups --no-new-privs \
    --inh-caps +dac_read_search --ambient-caps +dac_read_search "$@"
"""


def may_unshare() -> bool:
    if not shutil.which("unshare") or not shutil.which("setpriv"):
        return False
    command = ["unshare", "--mount", "sh", "-c", "mount --make-rprivate / && mount -o remount,ro,bind /"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


needs_unshare = pytest.mark.skipif(
    not may_unshare(), reason="a mount namespace of one's own is not permitted"
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that every user may read, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@contextlib.asynccontextmanager
async def started(folder: Path, config: dict[str, Any]) -> AsyncIterator[SidecarProcess]:
    """The image's command with this configuration, where nothing can be written; killed at the end."""
    (folder / "sidecar.yaml").write_text(json.dumps(config))
    stage = last_stage()
    arguments = [*json.loads(stage["ENTRYPOINT"]), *json.loads(stage["CMD"])]
    arguments = [part.replace(CONFIG_FOLDER, str(folder)) for part in arguments]
    assert arguments[0] == "sidecar"
    environ = {
        **ENVIRON,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "WRITABLE": str(folder),
        "API_KEY": "sk-one",
    }
    running = SidecarProcess(
        await asyncio.create_subprocess_exec(
            *("unshare", "--mount", "sh", "-c", AS_IN_A_POD, "sh", *arguments),
            env=environ,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    )
    try:
        yield running
    finally:
        if running.process.returncode is None:
            running.process.kill()
        await running.exit_code()


def config_of(**parts: Any) -> dict[str, Any]:
    return {
        "listen": dict.fromkeys(("data", "admin", "health"), "127.0.0.1:0"),
        "drain": {"min": "0s", "max": "1s"},
        "providers": {"a": {"api_key": {"env": "API_KEY"}, "endpoints": [{"url": "http://127.0.0.1:9/v1"}]}},
        "models": {"*": {"provider": "a"}},
        **parts,
    }


@needs_unshare
async def test_it_runs_where_nothing_can_be_written_and_leaves_by_its_stop_signal(folder: Path) -> None:
    async with started(folder, config_of()) as running:
        await running.listening()
        assert await running.get(f"{running.health_url}/readyz") == (200, "LIVE\n")
        status = Path(f"/proc/{running.pid}/status").read_text()
        assert re.search(rf"^Uid:\s+{USER_ID}\s+{USER_ID}\s", status, re.MULTILINE)
        running.send(signal.Signals[last_stage()["STOPSIGNAL"]])
        assert await running.exit_code() == 0
        assert "Traceback" not in running.errors


@needs_unshare
async def test_bad_configuration_is_said_and_is_exit_code_2(folder: Path) -> None:
    async with started(folder, config_of(models={})) as running:
        assert await running.exit_code() == 2
        assert "sidecar: models: " in running.errors
        assert "Traceback" not in running.errors
