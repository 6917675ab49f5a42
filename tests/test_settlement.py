"""Finished requests are counted and logged in batches, with their usage."""

from pathlib import Path
from random import Random

import orjson
import pytest

from sidecar.accounts import Accounts
from sidecar.attempt import Attempt
from sidecar.clock import Ticker
from sidecar.config.load import parse
from sidecar.config.model import Config
from sidecar.exchange import Usage
from sidecar.routing.plan import Plan
from sidecar.runtime import Runtime
from sidecar.settlement import BATCH, MAX_KEPT_BYTES, Settlement
from sidecar.telemetry.access_log import AccessLog
from sidecar.telemetry.metrics import Metrics
from sidecar.tries import Target, Tries
from sidecar.upstream.verdict import SERVER_FAILED
from tests.routing.support import asking
from tests.support.exchanges import finished
from tests.support.running import ENVIRON, config_for

ANSWER = orjson.dumps({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}})


def settlement(target: str = "off") -> tuple[Settlement, Metrics, AccessLog]:
    metrics, log = Metrics("0"), AccessLog(target)
    accounts = Accounts(desk_config(), None)
    return Settlement(metrics, log, accounts), metrics, log


def desk_config() -> Config:
    return parse(orjson.dumps(config_for("http://p.example/v1")), ENVIRON).config


def target_of(config: Config) -> Target:
    runtime = Runtime(Ticker(lambda: 10.0), Metrics("0"), "t")
    runtime.apply(config)
    plan = runtime.snapshot.router.plan(*asking("m"))
    assert plan is not None
    (candidate,) = plan.candidates
    return Target(candidate, candidate.provider.endpoints[0])


def test_requests_gather_and_are_counted_together() -> None:
    desk, metrics, _ = settlement()
    for _ in range(BATCH):
        desk.add(finished(), 11.0)
    assert metrics.requests == 0
    desk.add(finished(), 11.0)
    assert metrics.requests == BATCH


@pytest.mark.parametrize("before", [0, BATCH - 1, BATCH])
def test_a_request_that_is_answered_right_after_is_counted_as_it_was_answered(before: int) -> None:
    desk, metrics, _ = settlement()
    for _ in range(before):
        desk.add(finished(), 11.0)
    failed = finished(status=0)
    desk.add(failed, 11.0)
    failed.status = 500
    desk.flush()
    assert (metrics.requests, metrics.errors) == (before + 1, 1)


def test_tries_that_failed_reach_metrics_and_log(tmp_path: Path) -> None:
    desk, metrics, log = settlement(str(tmp_path / "log"))
    log.start()
    target = target_of(desk_config())
    attempt = Attempt()
    attempt.tries = tries = Tries(Plan((target.candidate,)), finished(), Random(1))
    target.error = "status 503"
    tries.score(target, SERVER_FAILED, 11.0)
    desk.add(finished(), 11.0, b"", attempt)
    desk.add(finished(), 11.0, b"", Attempt())
    desk.flush()
    log.close()
    first, second = [orjson.loads(line) for line in (tmp_path / "log").read_bytes().splitlines()]
    assert [one["error"] for one in first["tries"]] == ["status 503"]
    assert "tries" not in second
    assert sum(metrics.failed.values()) == 1


def test_a_flush_counts_what_there_is_once() -> None:
    desk, metrics, _ = settlement()
    desk.add(finished(), 11.0)
    desk.flush()
    desk.flush()
    assert metrics.requests == 1


def test_usage_is_read_from_the_answer_whatever_its_length() -> None:
    desk, metrics, _ = settlement()
    filler = b'{"text":"%b",' % (b"x" * MAX_KEPT_BYTES)
    desk.add(finished(), 11.0, ANSWER)
    desk.add(finished(), 11.0, filler + ANSWER[1:])
    desk.add(finished(usage=Usage(1, 1)), 11.0)
    desk.add(finished(), 11.0, b"no usage")
    desk.flush()
    (row,) = metrics.rows.values()
    assert row.tokens == [7 + 7 + 1, 5 + 5 + 1]


def test_the_request_is_let_go_and_its_size_kept() -> None:
    desk, _, _ = settlement()
    x = finished(body=b"12345")
    desk.add(x, 11.0)
    assert (x.body, x.bytes_received) == (b"", 5)


def test_the_log_has_the_time_each_request_took(tmp_path: Path) -> None:
    desk, _, log = settlement(str(tmp_path / "log"))
    log.start()
    desk.add(finished(started_s=10.0), 10.25)
    desk.add(finished(started_s=10.0), 12.0)
    desk.flush()
    log.close()
    lines = [orjson.loads(line) for line in (tmp_path / "log").read_bytes().splitlines()]
    assert [line["duration_ms"] for line in lines] == [250.0, 2000.0]
