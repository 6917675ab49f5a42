"""A request's way: who may ask, which provider is asked, what is tried again, what a failure becomes."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import orjson
import pytest

from sidecar.config.load import parse
from sidecar.settlement import BATCH
from tests.support.demo import QUESTION, STREAM, demo_provider
from tests.support.http1 import Answer, ask, client
from tests.support.raw import OK, RawProvider, post, raw_provider
from tests.support.running import ENVIRON, Running, config_for, running
from tests.support.waiting import until

BODY = orjson.dumps(QUESTION)
ASK = post(BODY, close=False)


def error_of(answer: Answer) -> dict[str, Any]:
    error: dict[str, Any] = orjson.loads(answer.body)["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert answer.head.get("content-type") == "application/json"
    return error


def refusing_url() -> str:
    """The address of nobody: bound and closed again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


def get(path: str, headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode()


# --- who may ask ---


async def test_a_host_or_an_origin_is_allowed_only_while_the_configuration_says_so() -> None:
    listen = {"hosts": ["ai.example"], "origins": ["https://app.example"]}
    request = post(BODY, headers="Origin: https://app.example\r\n", close=False).replace(
        b"localhost", b"AI.example:80"
    )
    async with raw_provider() as provider, running(config_for(provider.url, listen=listen)) as sidecar:
        async with client(sidecar.port) as caller:
            for _ in range(2):
                caller.send(request)
                answer = await caller.answer()
                assert answer.status == 200
                assert answer.head.get("access-control-allow-origin") is None
            tree = config_for(provider.url, listen={**listen, "hosts": []})
            sidecar.sidecar.runtime.apply(parse(orjson.dumps(tree), ENVIRON).config)
            caller.send(request)
            assert error_of(await caller.answer())["code"] == "host_not_allowed"
        assert len(provider.requests) == 2


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ("Origin: https://evil.example\r\n", "origin_not_allowed"),
        ("Origin: null\r\n", "origin_not_allowed"),
        ("Origin: http://localhost\r\n", "origin_not_allowed"),
        ("Sec-Fetch-Site: cross-site\r\n", "origin_not_allowed"),
    ],
)
async def test_a_web_page_is_refused(headers: str, code: str) -> None:
    async with raw_provider() as provider, running(config_for(provider.url)) as sidecar:
        answer = await ask(sidecar.port, post(BODY, headers=headers))
    assert (answer.status, error_of(answer)["code"]) == (403, code)
    assert provider.received == []


# --- which provider is asked ---


async def test_the_model_chooses_the_provider_and_everything_else_goes_to_that_of_the_star() -> None:
    async with raw_provider() as first, raw_provider() as second:
        tree = config_for(first.url)
        tree["providers"]["q"] = {"api_key": {"env": "KEY"}, "endpoints": [{"url": second.url}]}
        tree["models"] = {"q/*": {"provider": "q"}, "*": {"provider": "p"}}
        async with running(tree) as sidecar:
            answer = await ask(sidecar.port, post(orjson.dumps({**QUESTION, "model": "q/x"}), close=False))
            assert answer.head.get("x-sidecar-provider") == "q"
            assert len(second.requests) == 1
            for request in (ASK, get("/v1/batches/b"), get("/v1/files/f")):
                assert (await ask(sidecar.port, request)).head.get("x-sidecar-provider") == "p"
    assert (len(first.requests), len(second.requests)) == (3, 1)


async def test_without_a_star_an_unknown_model_or_path_is_a_404() -> None:
    async with raw_provider() as provider:
        tree = config_for(provider.url, models={"known": {"provider": "p"}})
        async with running(tree) as sidecar:
            unknown = error_of(await ask(sidecar.port, ASK))
            assert (unknown["code"], unknown["param"]) == ("model_not_found", "model")
            assert error_of(await ask(sidecar.port, get("/v1/files")))["code"] == "unknown_url"
            known = await ask(sidecar.port, post(orjson.dumps({**QUESTION, "model": "known"})))
            assert known.status == 200
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "/v2/models",
        "/v1/../admin",
        "/v1/./files",
        "/v1//files",
        "/v1/%2e%2e/x",
        "/v1/a%2fb",
        "/v1x",
    ],
)
async def test_a_path_that_is_not_plainly_under_v1_reaches_no_provider(path: str) -> None:
    async with raw_provider() as provider, running(config_for(provider.url)) as sidecar:
        assert (await ask(sidecar.port, get(path))).status in (400, 404)
    assert provider.received == []


async def test_the_closest_endpoint_is_asked_and_equals_take_turns() -> None:
    async with raw_provider() as far, raw_provider() as near, raw_provider() as near_too:
        tree = config_for(locality={"region": "eu"})
        tree["providers"]["p"]["endpoints"] = [
            {"url": far.url, "region": "us"},
            {"url": near.url, "region": "eu"},
            {"url": near_too.url, "region": "eu"},
        ]
        async with running(tree) as sidecar:
            for _ in range(40):
                assert (await ask(sidecar.port, ASK)).head.get("x-sidecar-region") == "eu"
    assert far.requests == []
    assert min(len(near.requests), len(near_too.requests)) >= 5


# --- what is tried again ---


async def test_a_refused_dial_moves_on_to_the_next_endpoint() -> None:
    async with raw_provider() as provider:
        tree = config_for(refusing_url(), provider.url, locality={"region": "a"})
        tree["providers"]["p"]["retry"] = {"attempts": 2}
        for region, endpoint in zip("ab", tree["providers"]["p"]["endpoints"], strict=True):
            endpoint["region"] = region
        async with running(tree) as sidecar:
            answer = await ask(sidecar.port, ASK)
            assert sidecar.endpoint(0).failures == 1
    assert (answer.status, answer.head.get("x-sidecar-attempts")) == (200, "2")
    assert answer.head.get("x-sidecar-region") == "b"


async def test_when_nobody_can_be_reached_the_answer_is_503() -> None:
    async with running(config_for(refusing_url(), refusing_url())) as sidecar:
        for question in (QUESTION, STREAM):
            answer = await ask(sidecar.port, post(orjson.dumps(question)))
            error = error_of(answer)
            assert (answer.status, error["code"], error["type"]) == (
                503,
                "upstream_unreachable",
                "server_error",
            )


class Stale:
    """A provider's script: answers one request on each connection and hangs up when the next has come."""

    provider: RawProvider

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.provider.read_request(reader)
        writer.write(OK)
        await self.provider.read_request(reader)


async def test_a_kept_connection_that_was_closed_meanwhile_costs_one_free_try() -> None:
    stale = Stale()
    async with raw_provider(stale) as stale.provider, running(config_for(stale.provider.url)) as sidecar:
        for _ in range(3):
            answer = await ask(sidecar.port, ASK)
            assert (answer.status, answer.head.get("x-sidecar-attempts")) == (200, "1")
        assert sidecar.endpoint().failures == 0
    assert len(stale.provider.received) == 3


@pytest.mark.parametrize("flag", ["store", "background"])
async def test_a_call_that_leaves_something_behind_is_not_sent_twice(flag: str) -> None:
    stale = Stale()
    request = post(orjson.dumps({**QUESTION, flag: True}), close=False)
    async with raw_provider(stale) as stale.provider, running(config_for(stale.provider.url)) as sidecar:
        assert (await ask(sidecar.port, request)).status == 200
        answer = await ask(sidecar.port, request)
        assert (answer.status, error_of(answer)["code"]) == (503, "upstream_reset")
    assert len(stale.provider.requests) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_a_connection_lost_before_the_answer_is_a_503(stream: bool) -> None:
    async with (
        demo_provider(knobs={"reset": "accept"}) as provider,
        running(config_for(provider.url)) as sidecar,
    ):
        answer = await ask(sidecar.port, post(orjson.dumps({**QUESTION, "stream": stream})))
        assert (answer.status, error_of(answer)["code"]) == (503, "upstream_reset")
        await until(lambda: sidecar.endpoint().pool.open_count == 0)


# --- what a failing provider becomes ---


@pytest.mark.parametrize(
    ("knobs", "question", "status", "code"),
    [
        ({"html_200": True}, QUESTION, 502, "upstream_empty"),
        ({"empty_200": True}, QUESTION, 502, "upstream_empty"),
        ({"empty_200": True}, STREAM, 502, "upstream_empty"),
        ({"cut_after_bytes": 100}, QUESTION, 502, "upstream_cut"),
        ({"cut_after_events": 1, "cut_mode": "end"}, STREAM, 502, "upstream_empty"),
        ({"garbage_at_event": 0}, STREAM, 502, "upstream_garbage"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) and "model" not in value else None,
)
async def test_an_answer_that_is_none_becomes_an_honest_error(
    knobs: dict[str, Any], question: dict[str, Any], status: int, code: str
) -> None:
    async with demo_provider(knobs=knobs) as provider, running(config_for(provider.url)) as sidecar:
        answer = await ask(sidecar.port, post(orjson.dumps(question)))
    assert (answer.status, error_of(answer)["code"]) == (status, code)


@pytest.mark.parametrize("question", [QUESTION, STREAM], ids=["plain", "stream"])
@pytest.mark.parametrize("hang", ["accept", "headers"])
async def test_a_provider_that_keeps_silent_becomes_a_504(question: dict[str, Any], hang: str) -> None:
    timeouts = {"first_token": "150ms", "answer": "150ms"}
    async with (
        demo_provider(knobs={"hang": hang}) as provider,
        running(config_for(provider.url, provider={"timeouts": timeouts})) as sidecar,
    ):
        answer = await ask(sidecar.port, post(orjson.dumps(question)))
        await until(lambda: provider.open_requests == 0)
    assert (answer.status, error_of(answer)["code"]) == (504, "upstream_timeout")


@pytest.mark.parametrize(
    "knobs",
    [
        {"cut_after_events": 5},
        {"cut_after_events": 5, "cut_mode": "close"},
        {"cut_after_events": 5, "cut_mode": "end"},
        {"cut_after_events": 5, "cut_mid_event": True},
        {"stall_after_events": 5},
        {"garbage_at_event": 5},
    ],
    ids=lambda knobs: "-".join(f"{name}={value}" for name, value in knobs.items()),
)
async def test_a_stream_that_breaks_ends_in_an_error_event_and_a_broken_body(knobs: dict[str, Any]) -> None:
    async with (
        demo_provider(knobs=knobs) as provider,
        running(config_for(provider.url, provider={"timeouts": {"idle": "150ms"}})) as sidecar,
    ):
        answer = await ask(sidecar.port, post(orjson.dumps(STREAM)))
    events = answer.body.split(b"\n\n")
    assert events.pop() == b""
    assert orjson.loads(events[-1].removeprefix(b"data: "))["error"]["type"] == "server_error"
    assert [b'"choices"' in event for event in events] == [True] * 5 + [False]
    assert not answer.is_whole
    assert b"[DONE]" not in answer.body


async def test_a_complete_stream_whose_provider_forgets_done_is_whole_and_gets_none() -> None:
    async with (
        demo_provider(knobs={"no_done": True}) as provider,
        running(config_for(provider.url)) as sidecar,
    ):
        answer = await ask(sidecar.port, post(orjson.dumps(STREAM)))
    assert answer.is_whole
    assert b"[DONE]" not in answer.body


# --- what is counted ---


async def test_tokens_are_counted_for_answers_too_large_to_be_held() -> None:
    body = orjson.dumps(
        {"choices": [], "note": "x" * 3_000_000, "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    )

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await provider.read_request(reader)
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
            )
            writer.write(body)

    async with raw_provider(answer) as provider, running(config_for(provider.url)) as sidecar:
        assert (await ask(sidecar.port, ASK)).body == body
        labels = {"team": "test", "model": "demo", "provider": "p", "region": "", "direction": "output"}
        assert await sidecar.metric("sidecar_tokens_total", **labels) == 4


def logged(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def two_regions(near: str, far: str, **changes: Any) -> dict[str, Any]:
    """Provider `p` in region us, where the sidecar is, and in eu; two tries."""
    provider = {"retry": {"attempts": 2}, **changes.pop("provider", {})}
    tree = config_for(near, far, locality={"region": "us"}, provider=provider, **changes)
    for region, endpoint in zip(("us", "eu"), tree["providers"]["p"]["endpoints"], strict=True):
        endpoint["region"] = region
    return tree


async def attempts_of(sidecar: Running, region: str) -> float | None:
    labels = {"team": "test", "model": "demo", "provider": "p", "region": region}
    return await sidecar.metric("sidecar_attempts_total", **labels)


async def test_each_try_is_counted_and_logged_where_it_went(tmp_path: Path) -> None:
    path = tmp_path / "log"
    async with (
        demo_provider() as near,
        demo_provider() as far,
        running(two_regions(near.url, far.url, telemetry={"access_log": str(path)})) as sidecar,
    ):
        for turn in range(10):
            near.scenario.update({"fail_next": turn % 2, "error_status": 503})
            answer = await ask(sidecar.port, ASK)
            assert (answer.status, answer.head.get("x-sidecar-attempts")) == (200, str(turn % 2 + 1))
        assert (near.attempts, far.attempts) == (10, 5)
        assert [await attempts_of(sidecar, region) for region in ("us", "eu")] == [10, 5]
        place = {"provider": "p", "endpoint": near.url, "region": "us"}
        failures = "sidecar_failed_attempts_total"
        assert await sidecar.metric(failures, reason="server_error", **place) == 5
        await until(lambda: len(logged(path)) == 10)
    usual, moved = logged(path)[:2]
    assert "tries" not in usual
    assert (moved["region"], moved["attempts"]) == ("eu", 2)
    said = {"reason": "server_error", "error": "status 503"}
    assert moved["tries"] == [{"model": "demo", **place, **said}]


@pytest.mark.parametrize("mode", ["error", "resume"])
async def test_a_stream_that_broke_off_counts_against_who_broke_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    path = tmp_path / "log"
    models = {"*": {"provider": "p", "on_stream_cut": mode}}
    breaker = {"circuit_breaker": {"consecutive_failures": 1}}
    knobs = {"answer": "one two three four five six"}
    async with (
        demo_provider(knobs={**knobs, "cut_after_events": 3}) as near,
        demo_provider(knobs=knobs) as far,
    ):
        tree = two_regions(
            near.url, far.url, provider=breaker, models=models, telemetry={"access_log": str(path)}
        )
        async with running(tree) as sidecar:
            answer = await ask(sidecar.port, post(orjson.dumps(STREAM)))
            assert answer.is_whole == (mode == "resume")
            counted = [await attempts_of(sidecar, region) for region in ("us", "eu")]
            assert counted == [1, 1 if mode == "resume" else None]
            place = {"provider": "p", "endpoint": near.url, "region": "us"}
            assert await sidecar.metric("sidecar_failed_attempts_total", reason="cut", **place) == 1
            await until(lambda: path.read_bytes())
    (line,) = logged(path)
    closed = "The provider closed the connection in the middle of its answer."
    assert line["tries"] == [{"model": "demo", **place, "reason": "cut", "error": closed}]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    where = f"provider p, endpoint {near.url} (us)"
    assert record.getMessage() == f"{where}: circuit breaker open for 30.0 s more: {closed}"


async def test_a_failure_of_ours_is_counted_and_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise OverflowError("a bug")

    path, times = tmp_path / "log", BATCH + 5
    async with (
        raw_provider() as provider,
        running(config_for(provider.url, telemetry={"access_log": str(path)})) as sidecar,
    ):
        monkeypatch.setattr(sidecar.sidecar.snapshot.router, "plan", fails)
        for _ in range(times):
            answer = await ask(sidecar.port, ASK)
            assert (answer.status, error_of(answer)["code"]) == (500, "internal_error")
        assert (sidecar.sidecar.metrics.requests, sidecar.sidecar.metrics.errors) == (times, times)
        await until(lambda: len(logged(path)) >= times)
    lines = logged(path)
    assert [line["status"] for line in lines] == [500] * times
    assert len({line["request_id"] for line in lines}) == times
    assert len(caplog.records) == times


# --- requests that look the same ---


@pytest.mark.parametrize("name", ["Content-Length", "content-length", "CONTENT-LENGTH", "Content-length"])
@pytest.mark.parametrize("gap", [" ", "", "  ", "\t"], ids=["space", "none", "two", "tab"])
async def test_a_request_sent_again_and_again_keeps_its_own_body(name: str, gap: str) -> None:
    async with (
        raw_provider() as provider,
        running(config_for(provider.url)) as sidecar,
        client(sidecar.port) as caller,
    ):
        bodies = [orjson.dumps({**QUESTION, "note": note}) for note in ("a", "a", "b", "longer", "a")]
        for body in bodies:
            caller.send(ASK.partition(b"Content-Length")[0])
            caller.send(f"{name}:{gap}{len(body)}\r\n\r\n".encode() + body)
            assert (await caller.answer()).status == 200
    assert [request.partition(b"\r\n\r\n")[2] for request in provider.requests] == bodies


async def test_a_request_that_looks_like_the_last_one_is_still_measured() -> None:
    async with (
        raw_provider() as provider,
        running(config_for(provider.url, listen={"max_body": "1KiB"})) as sidecar,
        client(sidecar.port) as caller,
    ):
        for _ in range(2):
            caller.send(ASK)
            assert (await caller.answer()).status == 200
        caller.send(post(orjson.dumps({**QUESTION, "note": "x" * 2000}), close=False))
        assert (await caller.answer()).status == 413
    assert len(provider.requests) == 2


async def test_each_caller_keeps_its_own_key() -> None:
    async with (
        raw_provider() as provider,
        running(config_for(provider.url, provider={"api_key": None})) as sidecar,
    ):
        for key in ("one", "two", "one"):
            await ask(sidecar.port, post(BODY, headers=f"Authorization: Bearer sk-{key}\r\n"))
    keys = [request.partition(b"Bearer ")[2].split(b"\r\n")[0] for request in provider.requests]
    assert keys == [b"sk-one", b"sk-two", b"sk-one"]
