"""Certificates in files: what changes is shown, what is broken is not."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from sidecar.k8s import given
from sidecar.k8s.given import Given
from sidecar.k8s.tls import Serving
from tests.k8s.pki import Authority, Files
from tests.support.waiting import until


@pytest.fixture
async def serving(files: Files, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serving]:
    """What shows the files, followed quickly."""
    monkeypatch.setattr(given, "POLL_S", 0.01)
    shown = Serving()
    following = Given(str(files.certificate), str(files.key), shown)
    following.load()
    task = asyncio.create_task(following.run())
    yield shown
    task.cancel()


async def test_new_files_are_shown_while_running(
    files: Files, serving: Serving, authority: Authority
) -> None:
    for _ in range(2):
        before = serving._current
        files.write(*authority.pair())
        await until(lambda before=before: serving._current is not before)  # type: ignore[misc]


async def test_a_key_that_comes_after_its_certificate_is_waited_for(
    files: Files, serving: Serving, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    before = serving._current
    chain, key = authority.pair()
    old_key = files.key.read_bytes()
    files.write(chain, old_key)
    await until(lambda: "do not work together" in caplog.text)
    assert serving._current is before
    files.write(chain, key)
    await until(lambda: serving._current is not before)


async def test_files_that_vanish_leave_the_old_certificate(
    files: Files, serving: Serving, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    before = serving._current
    target = files.certificate.resolve()
    target.rename(target.with_suffix(".gone"))
    await until(lambda: "tls.crt cannot be read" in caplog.text)
    assert serving._current is before
    caplog.set_level(logging.INFO)
    files.write(*authority.pair())
    await until(lambda: serving._current is not before)


@pytest.mark.parametrize("missing", ["certificate", "key"])
def test_a_missing_file_is_named_at_start(missing: str, files: Files) -> None:
    getattr(files, missing).unlink()
    with pytest.raises(ValueError, match=r"tls\.(crt|key) cannot be read: No such file"):
        Given(str(files.certificate), str(files.key), Serving()).load()
