"""A configuration that changes while the sidecar runs: taken when good, refused with one line when not."""

import os
import signal
from pathlib import Path
from typing import Any

import orjson
import pytest

from sidecar.demo.provider import DemoProvider
from tests.support.demo import QUESTION, STREAM, Tap
from tests.support.http1 import ask, client
from tests.support.process import SidecarProcess, sidecar_process, write_config
from tests.support.raw import post
from tests.support.running import config_for
from tests.support.waiting import until

ASK = post(orjson.dumps(QUESTION))
RELOADED = "configuration reloaded"
REFUSED = "reload refused"


@pytest.fixture
def tap() -> Tap:
    return Tap()


class Volume:
    """A folder as Kubernetes mounts one: files are links through `..data`, which is swapped in one step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._version = 0

    def write(self, **files: str) -> None:
        self._version += 1
        data = self.folder / f"..version-{self._version}"
        data.mkdir()
        for name, text in files.items():
            (data / name).write_text(text)
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(Path("..data") / name)
        (self.folder / "..new").symlink_to(data.name)
        os.rename(self.folder / "..new", self.folder / "..data")


def tree_for(provider: DemoProvider, key_file: Path, **changes: Any) -> dict[str, Any]:
    return config_for(provider.url, provider={"api_key": {"file": str(key_file)}}, **changes)


async def key_in_use(process: SidecarProcess, provider: DemoProvider) -> str | None:
    assert (await ask(process.port, ASK)).status == 200
    return provider.requests[-1].api_key


async def test_swapped_files_are_taken_and_a_stream_in_progress_goes_on(
    provider: DemoProvider, tap: Tap, tmp_path: Path
) -> None:
    volume = Volume(tmp_path)
    text = orjson.dumps(tree_for(provider, tmp_path / "key")).decode()
    volume.write(config=text, key="sk-old")
    async with sidecar_process(tmp_path / "config") as process, client(process.port) as caller:
        tap.allow(2)
        caller.send(post(orjson.dumps(STREAM)))
        await caller.head()
        await caller.chunk()
        assert provider.requests[-1].api_key == "sk-old"

        volume.write(config=text, key="sk-new")
        await until(lambda: RELOADED in process.errors)
        tap.open()
        rest = b""
        while piece := await caller.chunk():
            rest += piece
        assert rest.endswith(b"data: [DONE]\n\n")
        assert await key_in_use(process, provider) == "sk-new"
        assert await process.metric('sidecar_config_reloads_total{result="ok"}') == 1
        assert await process.metric("sidecar_config_good") == 1


async def test_sighup_reads_the_files_again_at_once(provider: DemoProvider, tap: Tap, tmp_path: Path) -> None:
    tap.open()
    tree = config_for(provider.url)
    path = write_config(tmp_path / "config", tree)
    async with sidecar_process(path) as process:
        process.send(signal.SIGHUP)
        await until(lambda: process.errors.count(RELOADED) == 1)
        process.send(signal.SIGHUP)
        await until(lambda: process.errors.count(RELOADED) == 2)
        assert await key_in_use(process, provider) == "sk-provider-secret"


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ('{"providers": 1}', "providers"),
        ("providers: [", ""),
        ("", "empty"),
        (None, "cannot be read"),
    ],
    ids=["wrong", "no-yaml", "empty", "gone"],
)
async def test_a_broken_file_keeps_the_last_good_one_says_so_once_and_is_counted(
    provider: DemoProvider, tap: Tap, tmp_path: Path, broken: str | None, said: str
) -> None:
    tap.open()
    tree = config_for(provider.url)
    path = write_config(tmp_path / "config", tree)
    async with sidecar_process(path) as process:
        if broken is None:
            path.unlink()
        else:
            path.write_text(broken)
        await until(lambda: REFUSED in process.errors)
        assert await key_in_use(process, provider) == "sk-provider-secret"
        (line,) = [line for line in process.errors.splitlines() if REFUSED in line]
        assert said in line
        assert await process.metric('sidecar_config_reloads_total{result="failed"}') == 1
        assert await process.metric("sidecar_config_good") == 0

        tree["providers"]["p"]["headers"] = {"x-team": "repaired"}
        write_config(path, tree)
        await until(lambda: RELOADED in process.errors)
        await ask(process.port, ASK)
        assert provider.requests[-1].header("x-team") == "repaired"
        assert await process.metric("sidecar_config_good") == 1
        assert "Traceback" not in process.errors


async def test_a_file_that_moves_a_listener_is_refused_whole(
    provider: DemoProvider, tap: Tap, tmp_path: Path
) -> None:
    tap.open()
    tree = config_for(provider.url)
    path = write_config(tmp_path / "config", tree)
    async with sidecar_process(path) as process:
        tree["listen"]["data"] = "127.0.0.1:1"
        tree["listen"]["control"] = f"unix:{tmp_path}/s"
        tree["providers"]["p"]["headers"] = {"x-team": "half"}
        write_config(path, tree)
        await until(lambda: REFUSED in process.errors)
        assert "listen.data: cannot change while running" in process.errors
        assert f"(it is off, the file says unix:{tmp_path}/s)" in process.errors
        await ask(process.port, ASK)
        assert provider.requests[-1].header("x-team") is None

        del tree["listen"]["control"]
        tree["listen"]["data"] = config_for(provider.url)["listen"]["data"]
        write_config(path, tree)
        await until(lambda: RELOADED in process.errors)
        await ask(process.port, ASK)
        assert provider.requests[-1].header("x-team") == "half"
        assert await process.metric("sidecar_config_good") == 1
