"""The access log: one JSON line for each request, and never the reason that a request waits."""

import datetime
import os
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from sidecar.demo.provider import DemoProvider
from sidecar.exchange import CacheNote, Usage
from sidecar.telemetry.access_log import FLUSH_LINES, MAX_TRIES, MAX_WAITING_BYTES, AccessLog
from sidecar.telemetry.metrics import FailedTry
from tests.support.demo import QUESTION, STREAM
from tests.support.exchanges import finished
from tests.support.http1 import ask
from tests.support.raw import post
from tests.support.running import Running, config_for, running
from tests.support.waiting import until

AT_NS = time.time_ns()
FIELDS = [
    "time",
    "request_id",
    "method",
    "path",
    "team",
    "route",
    "model",
    "provider",
    "region",
    "endpoint",
    "status",
    "flags",
    "stream",
    "attempts",
    "duration_ms",
    "first_token_ms",
    "overhead_ms",
    "bytes_received",
    "bytes_sent",
    "tokens_in",
    "tokens_out",
    "tokens_cached",
    "cost_usd",
    "cache",
]


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, each a JSON object of its own."""
    data = path.read_bytes()
    assert data == b"" or data.endswith(b"\n")
    return [orjson.loads(line) for line in data.splitlines()]


def log_of(path: Path) -> AccessLog:
    log = AccessLog(str(path))
    log.start()
    return log


# --- the lines ---


def test_a_line_has_all_fields_and_the_facts_of_its_request(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log")
    x = finished(stream=True, flag="SD", first_token_s=0.25, overhead_s=0.0001, usage=Usage(9, 5, cached=2))
    x.cost_nano_usd = 1500
    x.bytes_sent, x.bytes_received = 600, 400
    log.write(x, 1.5, time.time_ns())
    log.close()
    (line,) = lines_of(tmp_path / "log")
    assert sorted(line) == sorted(FIELDS)
    written = datetime.datetime.fromisoformat(line.pop("time"))
    assert abs(written - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(minutes=1)
    assert line.pop("request_id")
    assert line == {
        "method": "POST",
        "path": "/v1/chat/completions",
        "team": "t",
        "route": "",
        "model": "m",
        "provider": "p",
        "region": "r",
        "endpoint": "http://p.example/v1",
        "status": 200,
        "flags": "SD",
        "stream": True,
        "attempts": 1,
        "duration_ms": 1500.0,
        "first_token_ms": 250.0,
        "overhead_ms": 0.1,
        "bytes_received": 400,
        "bytes_sent": 600,
        "tokens_in": 9,
        "tokens_out": 5,
        "tokens_cached": 2,
        "cost_usd": 0.0000015,
        "cache": None,
    }


def test_a_line_says_what_the_cache_did(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log")
    x = finished()
    x.cache = CacheNote("hit", "canonical", b"cache-status: sidecar; hit", "00ff")
    log.write(x, 0.001, AT_NS)
    log.close()
    (line,) = lines_of(tmp_path / "log")
    assert line["cache"] == {"result": "hit", "detail": "canonical", "key": "00ff"}


def test_a_line_names_the_tries_that_failed_in_order_and_no_more_than_a_few(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log")
    log.write(finished(attempts=1), 0.001, AT_NS)
    tries = [
        FailedTry((f"m{n}", "p", "r"), "http://a.example/v1", "server_error", 'status "500"\n', True)
        for n in range(2 * MAX_TRIES)
    ]
    log.write(finished(attempts=3), 0.001, AT_NS, tries[:2])
    log.write(finished(attempts=99), 0.001, AT_NS, tries)
    log.close()
    usual, several, many = lines_of(tmp_path / "log")
    assert sorted(usual) == sorted(FIELDS)
    assert sorted(several) == sorted([*FIELDS, "tries"])
    place = {"provider": "p", "region": "r", "endpoint": "http://a.example/v1"}
    said = {**place, "reason": "server_error", "error": 'status "500"\n'}
    assert several["tries"] == [{"model": "m0", **said}, {"model": "m1", **said}]
    assert [one["model"] for one in many["tries"]] == [f"m{n}" for n in range(MAX_TRIES)]


def test_what_is_not_known_is_null(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log")
    log.write(finished(), 0.001, AT_NS)
    log.close()
    (line,) = lines_of(tmp_path / "log")
    unknown = ("first_token_ms", "overhead_ms", "tokens_in", "tokens_out", "tokens_cached")
    assert [line[name] for name in unknown] == [None] * 5


@pytest.mark.parametrize("model", ['a"b\\c', "河流 🌊", "line\nbreak", "%d %s {}", "\u2028"])
def test_a_name_from_outside_cannot_break_the_line(tmp_path: Path, model: str) -> None:
    log = log_of(tmp_path / "log")
    log.write(finished(model=model, flag="-"), 0.1, AT_NS)
    log.close()
    (line,) = lines_of(tmp_path / "log")
    assert line["model"] == model


async def test_a_line_tells_of_each_request_that_was_served_or_refused(
    sidecar: Running, log_path: Path
) -> None:
    given = 'x-request-id: caller "17"\r\n'
    await ask(sidecar.port, post(orjson.dumps(QUESTION), headers=given))
    await ask(sidecar.port, post(orjson.dumps(STREAM)))
    await ask(sidecar.port, post(b"no json"))
    await ask(sidecar.port, b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    await ask(sidecar.port, b"NONSENSE\r\n\r\n")
    await until(lambda: len(lines_of(log_path)) == 5)
    plain, stream, bad, host, nonsense = lines_of(log_path)
    assert (plain["status"], plain["stream"], plain["request_id"]) == (200, False, 'caller "17"')
    assert plain["tokens_out"] > 0
    assert plain["bytes_received"] == len(orjson.dumps(QUESTION))
    assert 0 < plain["bytes_sent"] < stream["bytes_sent"]
    assert plain["first_token_ms"] is None
    assert (stream["status"], stream["stream"]) == (200, True)
    assert 0 < stream["first_token_ms"] <= stream["duration_ms"]
    assert [line["status"] for line in (bad, host, nonsense)] == [400, 403, 400]
    assert len({line["request_id"] for line in lines_of(log_path)}) == 5


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
async def sidecar(provider: DemoProvider, log_path: Path) -> AsyncIterator[Running]:
    async with running(config_for(provider.url, telemetry={"access_log": str(log_path)})) as started:
        yield started


# --- where they go ---


def test_a_file_moved_away_is_opened_again(tmp_path: Path) -> None:
    path, moved = tmp_path / "log", tmp_path / "log.1"
    log = log_of(path)
    log.write(finished(model="first"), 0.1, AT_NS)
    log.flush()
    wait_for(lambda: path.stat().st_size > 0)
    path.rename(moved)
    log.write(finished(model="second"), 0.1, AT_NS)
    log.close()
    assert [line["model"] for line in lines_of(moved)] == ["first"]
    assert [line["model"] for line in lines_of(path)] == ["second"]


def test_many_lines_go_out_without_waiting_for_the_second(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = log_of(path)
    for _ in range(FLUSH_LINES):
        log.write(finished(), 0.1, AT_NS)
    wait_for(lambda: len(lines_of(path)) == FLUSH_LINES)
    log.close()


def test_what_was_logged_last_is_written_at_the_end(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log")
    for _ in range(3):
        log.write(finished(), 0.1, AT_NS)
    log.close()
    assert len(lines_of(tmp_path / "log")) == 3


def test_a_log_that_is_off_writes_nothing_and_needs_no_thread() -> None:
    before = threading.active_count()
    log = AccessLog("off")
    log.start()
    log.write(finished(), 0.1, AT_NS)
    log.close()
    assert threading.active_count() == before


def test_a_path_that_cannot_be_written_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        AccessLog(str(tmp_path / "nowhere" / "log")).start()


# --- when the disk does not keep up ---


def test_a_writer_that_is_stuck_holds_nobody_up_and_the_surplus_is_dropped_and_counted(
    tmp_path: Path,
) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = log_of(path)
    written = 0
    try:
        started = time.monotonic()
        while not log.dropped:
            log.write(finished(path="x" * 4000), 0.1, AT_NS)
            written += 1
            assert written * 4000 < 3 * MAX_WAITING_BYTES
        took_s = time.monotonic() - started
        assert took_s < 5  # a stuck write would have held us for good
        assert log.dropped >= FLUSH_LINES
    finally:
        path.unlink()  # what is left goes to a file
        os.close(reader)
        log.close()


async def test_requests_are_served_while_the_log_is_stuck(provider: DemoProvider, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    async with running(config_for(provider.url, telemetry={"access_log": str(path)})) as sidecar:
        for _ in range(2 * FLUSH_LINES):  # more than the pipe takes
            assert (await ask(sidecar.port, post(orjson.dumps(QUESTION)))).status == 200
        path.unlink()
        os.close(reader)


def test_lines_that_could_not_be_written_are_counted_and_said_once_a_batch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    log = log_of(folder / "log")
    (folder / "log").unlink()
    folder.rmdir()
    for _ in range(3):
        log.write(finished(), 0.1, AT_NS)
    log.close()
    assert log.dropped == 3
    assert len(caplog.records) == 1


def wait_for(condition: Any) -> None:
    """Poll for what the log's own thread does."""
    ends = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.002)
