"""Active health checks: what counts as alive, when an endpoint goes and comes back, what is asked."""

import asyncio

import pytest

from sidecar.config.model import HealthCheck
from sidecar.errors import Exhausted, Unreachable
from sidecar.upstream.connection import Connection
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.health import NO_ANSWER, NOT_ASKED, Ask, HealthChecker, asker
from tests.support.manual_clock import ManualClock
from tests.support.upstream import Provider, endpoint_on

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Stage:
    """Two endpoints, what each answers next, and what was reported of them."""

    def __init__(self) -> None:
        ticker = ManualClock().ticker
        self.good, self.bad = endpoint_on(ticker), endpoint_on(ticker)
        self.status = {self.good: 200, self.bad: 200}
        self.out: dict[Endpoint, bool] = {}
        self.slept: list[float] = []
        self.rounds = 0
        self.checker = self.check_with(self.ask)

    def check_with(self, ask: Ask, timeout_s: float = 1.0) -> HealthChecker:
        return HealthChecker(
            [self.good, self.bad],
            HealthCheck(interval_s=10.0, timeout_s=timeout_s),
            ask,
            self.out.__setitem__,
            sleep=self.sleep,
            random=lambda: [0.0, 0.5, 1.0][len(self.slept) % 3],
        )

    async def ask(self, endpoint: Endpoint) -> int:
        return self.status[endpoint]

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if len(self.slept) > self.rounds:
            raise asyncio.CancelledError

    async def run(self, rounds: int) -> None:
        """As many rounds of checks."""
        self.rounds = len(self.slept) + rounds - 1
        with pytest.raises(asyncio.CancelledError):
            await self.checker.run()


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def test_checks_at_once_and_then_every_interval_with_jitter(stage: Stage) -> None:
    await stage.run(1)
    assert stage.out == {stage.good: False, stage.bad: False}
    await stage.run(2)
    assert stage.slept == pytest.approx([8.0, 10.0, 12.0])


@pytest.mark.parametrize("status", [NO_ANSWER, 500, 503, 302, 404])
async def test_three_failures_in_a_row_take_an_endpoint_out(stage: Stage, status: int) -> None:
    stage.status[stage.bad] = status
    await stage.run(2)
    assert stage.out == {stage.good: False}
    await stage.run(1)
    assert stage.out == {stage.good: False, stage.bad: True}


@pytest.mark.parametrize("status", [200, 204, 299, 401, 403, 429])
async def test_one_good_answer_brings_it_back(stage: Stage, status: int) -> None:
    stage.status[stage.bad] = 500
    await stage.run(3)
    stage.status[stage.bad] = status
    await stage.run(1)
    assert stage.out[stage.bad] is False
    stage.status[stage.bad] = 500
    await stage.run(2)
    assert stage.out[stage.bad] is False


async def test_failures_with_a_success_between_them_are_not_in_a_row(stage: Stage) -> None:
    for status in (500, 500, 200, 500, 500):
        stage.status[stage.bad] = status
        await stage.run(1)
    assert stage.out[stage.bad] is False


async def test_who_could_not_be_asked_has_neither_failed_nor_answered(stage: Stage) -> None:
    for status in (500, 500, *[NOT_ASKED] * 5):
        stage.status[stage.bad] = status
        await stage.run(1)
    assert stage.bad not in stage.out
    stage.status[stage.bad] = 500
    await stage.run(1)
    assert stage.out[stage.bad] is True
    stage.status[stage.bad] = NOT_ASKED
    await stage.run(1)
    assert stage.out[stage.bad] is True


async def test_who_does_not_answer_in_time_has_failed_and_holds_up_nobody(stage: Stage) -> None:
    left: list[Endpoint] = []

    async def ask(endpoint: Endpoint) -> int:
        if endpoint is stage.bad:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                left.append(endpoint)
        return 200

    stage.checker = stage.check_with(ask, timeout_s=0.01)
    await stage.run(3)
    await asyncio.sleep(0)
    assert stage.out == {stage.good: False, stage.bad: True}
    assert left == [stage.bad] * 3


async def test_a_check_that_breaks_is_a_failure_and_not_the_end(stage: Stage) -> None:
    async def ask(endpoint: Endpoint) -> int:
        if endpoint is stage.bad:
            raise RuntimeError("a bug")
        return 200

    stage.checker = stage.check_with(ask)
    await stage.run(3)
    assert stage.out == {stage.good: False, stage.bad: True}


async def test_ends_when_it_is_cancelled_in_the_middle_of_a_check(stage: Stage) -> None:
    async def ask(endpoint: Endpoint) -> int:
        await asyncio.get_running_loop().create_future()
        return 200

    tasks = len(asyncio.all_tasks())
    run = asyncio.create_task(stage.check_with(ask).run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == tasks
    assert stage.out == {}


# --- what is asked --------------------------------------------------------------------------------------


class Dialled:
    """A check of one endpoint, whose dial leads to `provider`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ask: Ask, outcome: Unreachable | None = None) -> None:
        self.provider = Provider()
        endpoint = endpoint_on(ManualClock().ticker)

        async def connect() -> Connection | Unreachable:
            return outcome or self.provider.connection

        monkeypatch.setattr(endpoint.pool, "connect", connect)
        self.task = asyncio.ensure_future(ask(endpoint))


async def test_asks_for_the_path_with_the_providers_key_and_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    check = Dialled(monkeypatch, asker("/models", "sk-1", {"x-team": "platform"}))
    await asyncio.sleep(0)
    lines = check.provider.transport.take().split(b"\r\n")
    assert lines[0] == b"GET /v1/models HTTP/1.1"
    assert {b"host: provider", b"authorization: Bearer sk-1", b"x-team: platform"} <= set(lines)
    assert lines[-2:] == [b"", b""]
    check.provider.says(OK)
    assert await check.task == 200
    assert check.provider.is_reusable


async def test_sends_no_credential_where_the_callers_own_is_forwarded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check = Dialled(monkeypatch, asker("/models", None, {}))
    await asyncio.sleep(0)
    assert b"authorization" not in check.provider.transport.take()
    check.provider.says(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    assert await check.task == 401


@pytest.mark.parametrize("said", [b"", OK[:-1], b"garbage\r\n\r\n"])
async def test_an_answer_that_is_not_whole_is_none(monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    check = Dialled(monkeypatch, asker("/models", None, {}))
    await asyncio.sleep(0)
    if said:
        check.provider.says(said)
    check.provider.hangs_up()
    assert await check.task == NO_ANSWER


async def test_an_endpoint_that_cannot_be_dialled_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    check = Dialled(monkeypatch, asker("/models", None, {}), Unreachable("The provider refused."))
    assert await check.task == NO_ANSWER


async def test_where_the_sidecar_has_nothing_to_dial_with_nobody_was_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check = Dialled(monkeypatch, asker("/models", None, {}), Exhausted("EMFILE"))
    assert await check.task == NOT_ASKED


async def test_a_check_given_up_closes_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    check = Dialled(monkeypatch, asker("/models", None, {}))
    await asyncio.sleep(0)
    check.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await check.task
    assert check.provider.transport.is_aborted
