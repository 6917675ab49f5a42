from __future__ import annotations

from random import Random

import openai
import orjson
import pytest
from openai import AsyncOpenAI

from sidecar.demo.provider import DemoProvider
from sidecar.demo.scenario import Scenario
from sidecar.demo.stream import Pace
from tests.demo.support import QUESTION, STREAM, Sleeps, chunks, deltas, talk

# Its events: the role, three tokens, the finish reason, [DONE].
THREE = {"answer": "one two three"}


async def test_a_stream_waits_for_the_first_token_and_between_tokens(
    provider: DemoProvider, sleeps: Sleeps
) -> None:
    provider.scenario.update({**THREE, "head_s": 3, "first_token_s": 2, "token_interval_s": 0.5})
    await talk(provider, STREAM)
    assert sleeps.positive() == [3, 2, 0.5, 0.5]


async def test_a_plain_answer_takes_as_long_as_its_stream(provider: DemoProvider, sleeps: Sleeps) -> None:
    provider.scenario.update({**THREE, "head_s": 3, "first_token_s": 2, "token_interval_s": 0.5})
    await talk(provider, QUESTION)
    assert sum(sleeps.positive()) == 6


async def test_jitter_stretches_and_shrinks_by_its_share_and_repeats_with_the_seed() -> None:
    async def waits() -> list[float]:
        sleeps = Sleeps()
        pace = Pace(Scenario(jitter=0.5), sleeps, Random(1))
        for _ in range(50):
            await pace.wait(1)
        return sleeps.asked

    first = await waits()
    assert first == await waits()
    assert 0.5 <= min(first) < 0.7 and 1.3 < max(first) <= 1.5


async def test_each_event_is_one_chunk(provider: DemoProvider) -> None:
    provider.scenario.update(THREE)
    seen = await talk(provider, STREAM)
    found, _ = chunks(seen.body)
    assert len(found) == 6 and all(chunk.endswith(b"\n\n") for chunk in found)
    assert seen.has_terminator and not seen.was_reset


async def test_split_bytes_splits_even_characters(provider: DemoProvider) -> None:
    whole = deltas(await talk(provider, STREAM))
    provider.scenario.split_bytes = 1
    seen = await talk(provider, STREAM)
    assert {len(chunk) for chunk in chunks(seen.body)[0]} == {1}
    assert deltas(seen) == whole


async def test_heartbeats_are_comments_while_waiting(provider: DemoProvider) -> None:
    provider.scenario.update({**THREE, "first_token_s": 1, "heartbeat_s": 0.4})
    seen = await talk(provider, STREAM)
    assert seen.events[1:3] == [b": keep-alive"] * 2
    assert deltas(seen) == ["one", " two", " three"]


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_cut_by_reset_lets_the_events_before_it_out(provider: DemoProvider, count: int) -> None:
    provider.scenario.update({"cut_after_events": count})
    seen = await talk(provider, STREAM)
    assert seen.was_reset and not seen.has_terminator
    assert len(seen.events) == count


async def test_cut_by_close_ends_inside_the_chunks(provider: DemoProvider) -> None:
    provider.scenario.update({"cut_after_events": 3, "cut_mode": "close"})
    seen = await talk(provider, STREAM)
    assert (len(seen.events), seen.has_terminator, seen.was_reset) == (3, False, False)


async def test_cut_by_end_looks_complete_but_for_done(provider: DemoProvider) -> None:
    provider.scenario.update({"cut_after_events": 3, "cut_mode": "end"})
    seen = await talk(provider, STREAM)
    assert (len(seen.events), seen.has_terminator) == (3, True)
    assert b"[DONE]" not in seen.body


async def test_cut_mid_event_lets_half_of_the_next_one_out(provider: DemoProvider) -> None:
    provider.scenario.update({"cut_after_events": 3, "cut_mode": "end", "cut_mid_event": True})
    seen = await talk(provider, STREAM)
    tail = b"".join(chunks(seen.body)[0]).split(b"\n\n")[-1]
    assert len(seen.events) == 3
    assert tail.startswith(b'data: {"id"') and not tail.endswith(b"}")


@pytest.mark.parametrize(("mode", "was_reset"), [("reset", True), ("close", False)])
async def test_a_plain_answer_is_cut_short_of_its_length(
    provider: DemoProvider, mode: str, was_reset: bool
) -> None:
    provider.scenario.update({"cut_after_bytes": 20, "cut_mode": mode})
    seen = await talk(provider, QUESTION)
    assert b"content-length: " in seen.head.lower()
    assert (len(seen.body), seen.was_reset) == (20, was_reset)


async def test_a_plain_answer_cut_by_end_is_half_a_document_in_whole_chunks(provider: DemoProvider) -> None:
    provider.scenario.update({"cut_after_bytes": 20, "cut_mode": "end"})
    seen = await talk(provider, QUESTION)
    assert seen.has_terminator and len(chunks(seen.body)[0][0]) == 20


async def test_a_slow_body_drips_at_its_rate(provider: DemoProvider, sleeps: Sleeps) -> None:
    provider.scenario.slow_body_bytes_per_s = 1000
    seen = await talk(provider, QUESTION)
    assert orjson.loads(seen.body)["object"] == "chat.completion"
    assert set(sleeps.positive()) == {0.05}
    assert len(sleeps.positive()) == -(-len(seen.body) // 50)


async def test_a_stall_comes_after_its_events_and_then_the_stream_goes_on(
    provider: DemoProvider, sleeps: Sleeps
) -> None:
    provider.scenario.update({**THREE, "stall_after_events": 2, "stall_s": 90, "heartbeat_s": 40})
    seen = await talk(provider, STREAM)
    assert sleeps.positive() == [40, 40, 10]
    assert seen.events[2:4] == [b": keep-alive"] * 2
    assert deltas(seen) == ["one", " two", " three"]


async def test_garbage_is_one_event_of_its_size_and_the_rest_follows(provider: DemoProvider) -> None:
    provider.scenario.update({**THREE, "garbage_at_event": 2, "garbage_bytes": 1000})
    seen = await talk(provider, STREAM)
    garbage = seen.events.pop(2)
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(garbage.removeprefix(b"data: "))
    assert len(garbage) == len(b"data: ") + 1000
    assert len(seen.events) == 7 and seen.events[-1] == b"data: [DONE]"


async def test_an_error_event_ends_the_stream_and_the_sdk_raises_it(
    provider: DemoProvider, sdk: AsyncOpenAI
) -> None:
    provider.scenario.update({"error_at_event": 2, "error_message": "Lost my thread."})
    stream = await sdk.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "?"}], stream=True
    )
    with pytest.raises(openai.APIError, match=r"Lost my thread\."):
        _ = [chunk async for chunk in stream]


async def test_no_done_ends_cleanly_after_the_finish_reason(provider: DemoProvider) -> None:
    provider.scenario.no_done = True
    seen = await talk(provider, STREAM)
    assert seen.has_terminator and b"[DONE]" not in seen.body
    assert b'"finish_reason":"stop"' in seen.events[-1]


async def test_no_done_withholds_the_end_of_the_other_dialects_too(provider: DemoProvider) -> None:
    provider.scenario.no_done = True
    body = {**STREAM, "input": "hi", "max_tokens": 5}
    for path, last in (("/v1/messages", b"message_delta"), ("/v1/responses", b"response.output_item.done")):
        assert (await talk(provider, body, path)).events[-1].startswith(b"event: " + last + b"\n")


async def test_a_cut_switched_on_late_reaches_an_open_stream() -> None:
    async def sleep_then_cut(_seconds: float) -> None:
        demo.scenario.cut_after_events = 0

    demo = DemoProvider(scenario=Scenario.instant(), sleep=sleep_then_cut)
    await demo.start()
    seen = await talk(demo, STREAM)
    await demo.stop()
    assert seen.was_reset and len(seen.events) == 2
