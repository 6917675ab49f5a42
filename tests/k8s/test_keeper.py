"""Replicas that share one Secret: they agree, whoever was first, and the API server trusts what they show."""

import asyncio
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sidecar.k8s import keeper as module
from sidecar.k8s.api import Api, ApiError
from sidecar.k8s.certificates import AUTHORITY_LIFE, CERTIFICATE_LIFE, PUBLISH, from_secret
from sidecar.k8s.keeper import Keeper
from sidecar.k8s.tls import Serving
from tests.k8s.fake_api import NAMES, SECRETS, WEBHOOK, FakeApi, fake_api
from tests.k8s.test_certificates import trusts
from tests.support.waiting import until

START = datetime(2026, 1, 1, tzinfo=UTC)


class Replica:
    """One injector's keeper, on a clock of the test's."""

    def __init__(self, api: Api) -> None:
        self.now = START
        self.serving = Serving()
        self.keeper = Keeper(api, NAMES, self.serving, lambda: self.now)

    @property
    def shown(self) -> bytes:
        assert self.keeper._shown is not None
        return self.keeper._shown.certificate


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[FakeApi]:
    async with fake_api(tmp_path) as fake:
        fake.add_webhook()
        yield fake


@pytest.fixture
async def replica(api: FakeApi) -> Replica:
    return Replica(api.client())


def is_trusted(api: FakeApi, replica: Replica) -> bool:
    """Whether the API server, as its webhook configuration stands, trusts what the replica shows."""
    (bundle,) = api.bundles
    return trusts(b64decode(bundle or ""), replica.shown, replica.now, NAMES.hosts[0])


async def test_the_first_round_makes_the_secret_publishes_and_shows(api: FakeApi, replica: Replica) -> None:
    await replica.keeper.once()
    assert from_secret(api.secret["data"]) is not None
    assert replica.serving.is_ready
    assert is_trusted(api, replica)


async def test_a_round_in_which_nothing_is_due_writes_nothing(api: FakeApi, replica: Replica) -> None:
    await replica.keeper.once()
    api.calls.clear()
    await replica.keeper.once()
    assert api.calls == [("GET", f"{SECRETS}/tls"), ("GET", WEBHOOK)]


@pytest.mark.parametrize("count", [2, 5])
async def test_replicas_that_start_at_once_show_the_same_certificate(api: FakeApi, count: int) -> None:
    replicas = [Replica(api.client()) for _ in range(count)]
    api.is_held = asyncio.Event()
    rounds = [asyncio.create_task(replica.keeper.once()) for replica in replicas]
    # All have read that there is no Secret before the first of them writes one.
    await until(lambda: api.count("GET") == count)
    api.is_held.set()
    await asyncio.gather(*rounds)
    assert len({replica.shown for replica in replicas}) == 1
    assert all(is_trusted(api, replica) for replica in replicas)
    assert api.count("POST") == count


async def test_replicas_that_renew_at_once_show_the_same_certificate(api: FakeApi) -> None:
    replicas = [Replica(api.client()) for _ in range(3)]
    for replica in replicas:
        await replica.keeper.once()
        replica.now = START + CERTIFICATE_LIFE * 0.7
    before, reads = replicas[0].shown, api.count("GET")
    api.is_held = asyncio.Event()
    rounds = [asyncio.create_task(replica.keeper.once()) for replica in replicas]
    await until(lambda: api.count("GET") == reads + 3)
    api.is_held.set()
    await asyncio.gather(*rounds)
    assert api.count("PUT") == 3
    (after,) = {replica.shown for replica in replicas}
    assert after != before
    assert is_trusted(api, replicas[0])


async def test_a_replica_that_lags_is_trusted_while_another_changes_the_authority(api: FakeApi) -> None:
    quick, slow = Replica(api.client()), Replica(api.client())
    await quick.keeper.once()
    await slow.keeper.once()
    for _ in range(400):
        quick.now = slow.now = quick.now + timedelta(days=1)
        await quick.keeper.once()
        assert is_trusted(api, slow) and is_trusted(api, quick)
        await slow.keeper.once()
    assert quick.now > START + AUTHORITY_LIFE


async def test_a_secret_that_was_deleted_gets_back_what_is_shown(api: FakeApi, replica: Replica) -> None:
    await replica.keeper.once()
    before = replica.shown
    del api.objects[f"{SECRETS}/tls"]
    await replica.keeper.once()
    assert replica.shown == before
    assert b64decode(api.secret["data"]["tls.crt"]) == before


@pytest.mark.parametrize("data", [None, {}, {"tls.crt": "AAAA"}, {"tls.crt": "AAAA", "mine": "eA=="}])
async def test_a_secret_without_a_bundle_is_filled_and_keeps_the_rest(
    api: FakeApi, replica: Replica, data: dict[str, str] | None
) -> None:
    labels = {"app.kubernetes.io/managed-by": "Helm"}
    api.put(f"{SECRETS}/tls", {"metadata": {"name": "tls", "labels": labels}, "type": "Opaque", "data": data})
    await replica.keeper.once()
    assert is_trusted(api, replica)
    assert api.secret["metadata"]["labels"] == labels
    assert api.secret["data"].get("mine") == (data or {}).get("mine")


async def test_a_bundle_that_somebody_overwrote_is_put_right(api: FakeApi, replica: Replica) -> None:
    await replica.keeper.once()
    api.add_webhook(entries=3, caBundle=b64encode(b"other").decode())
    await replica.keeper.once()
    assert is_trusted(api, replica)


async def test_a_configuration_that_changes_under_the_patch_is_read_again(
    api: FakeApi, replica: Replica
) -> None:
    api.broken = []
    await replica.keeper.once()
    api.add_webhook()
    change = api._patch

    def changed_first(path: str, operations: object) -> object:
        api.add_webhook(entries=3)
        api._patch = change  # type: ignore[method-assign]
        return change(path, operations)

    api._patch = changed_first  # type: ignore[method-assign, assignment]
    await replica.keeper.once()
    assert api.count("PATCH") == 3
    assert is_trusted(api, replica)
    assert len(api.objects[WEBHOOK]["webhooks"]) == 3


# --- failures ---


async def test_nothing_is_shown_before_it_is_published(api: FakeApi, replica: Replica) -> None:
    del api.objects[WEBHOOK]
    with pytest.raises(ApiError, match="no MutatingWebhookConfiguration ai-sidecar: create it"):
        await replica.keeper.once()
    assert not replica.serving.is_ready


async def test_a_failed_renewal_leaves_the_certificate_that_is_shown(api: FakeApi, replica: Replica) -> None:
    await replica.keeper.once()
    before = replica.shown
    replica.now = START + CERTIFICATE_LIFE * 0.7
    api.broken = [(500, b"")]
    with pytest.raises(ApiError):
        await replica.keeper.once()
    assert replica.shown == before
    await replica.keeper.once()
    assert replica.shown != before


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([(200, b"[]")], "no JSON object"),
        ([(200, b"<html>")], "no JSON object"),
        ([(404, b""), (422, b'{"message": "too long"}')], "Secret tls is refused: too long"),
        ([(404, b""), (409, b"")] * module.TRIES, "changed under each of 5 writes"),
        ([(404, b""), (201, b"{}"), (200, b'{"webhooks": [{}]}')], "cannot be read"),
        ([(404, b""), (201, b"{}"), (200, b'{"webhooks": 5}')], "cannot be read"),
    ],
)
async def test_an_answer_that_makes_no_sense_is_an_error_by_name(
    answers: list[tuple[int, bytes]], message: str, api: FakeApi, replica: Replica
) -> None:
    api.broken = answers
    with pytest.raises(ApiError, match=message):
        await replica.keeper.once()
    assert not replica.serving.is_ready


async def test_the_same_trouble_is_logged_once_and_ends_by_itself(
    api: FakeApi, replica: Replica, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    api.broken = [(403, b'{"message": "secrets is forbidden"}')] * 4
    task = asyncio.create_task(replica.keeper.run())
    await until(lambda: replica.serving.is_ready)
    task.cancel()
    lines = [record.getMessage() for record in caplog.records if "forbidden" in record.getMessage()]
    assert len(lines) == 1
    assert "ServiceAccount" in lines[0]


async def test_a_round_that_is_cancelled_half_way_changes_nothing_shown(
    api: FakeApi, replica: Replica
) -> None:
    await replica.keeper.once()
    before, reads = replica.shown, api.count("GET")
    replica.now = START + CERTIFICATE_LIFE * 0.7 + PUBLISH
    api.is_held = asyncio.Event()
    task = asyncio.create_task(replica.keeper.once())
    await until(lambda: api.count("GET") > reads)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    api.is_held.set()
    assert replica.shown == before
    await replica.keeper.once()
    assert is_trusted(api, replica)
