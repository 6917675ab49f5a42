"""Defaults of the structs, and the small decisions that stand beside them."""

from datetime import UTC, datetime

import msgspec
import pytest

from sidecar.config.addresses import Address
from sidecar.config.model import (
    CircuitBreaker,
    Concurrency,
    Drain,
    HealthCheck,
    Listen,
    Retry,
    TimeoutOverrides,
    Timeouts,
    find_model,
    matches,
)
from tests.config.support import MINIMAL, config_of, problems_of


def test_defaults_are_the_documented_ones() -> None:
    assert Listen() == Listen(
        data=Address("127.0.0.1", 8080),
        admin=Address("127.0.0.1", 9901),
        health=Address("127.0.0.1", 9902),
        hosts=(),
        origins=(),
        max_body_bytes=32 * 1024 * 1024,
    )
    assert Drain() == Drain(min_s=2, max_s=25)
    assert Timeouts() == Timeouts(connect_s=1, first_token_s=30, idle_s=60, answer_s=300, total_s=600)
    assert Retry() == Retry(attempts=3, budget=0.2, patience_s=2)
    assert CircuitBreaker() == CircuitBreaker(
        consecutive_failures=5, failure_ratio=0.5, min_requests=10, window_s=10, open_for_s=30
    )
    assert Concurrency() == Concurrency(max_requests=256, max_queue=512, queue_timeout_s=5)
    assert HealthCheck() == HealthCheck(path="/models", interval_s=10, timeout_s=2)


def test_optional_features_are_off() -> None:
    config = config_of(MINIMAL)
    assert (config.cache, config.fleet, config.usage, config.break_glass) == (None, None, None, None)
    assert config.providers["a"].health_check is None
    assert (config.routes, config.tiers, config.keys, config.budgets) == ({}, {}, (), ())
    assert (config.auth.mode, config.telemetry.access_log) == ("passthrough", "stdout")


def test_config_cannot_change() -> None:
    with pytest.raises(AttributeError):
        config_of(MINIMAL).drain = Drain()  # type: ignore[misc]


def test_model_overrides_only_the_timeouts_it_names() -> None:
    merged = TimeoutOverrides(idle_s=90.0).over(Timeouts(connect_s=2.0))
    assert merged == msgspec.structs.replace(Timeouts(), connect_s=2.0, idle_s=90.0)


def test_break_glass_by_file_has_an_end_and_a_reason() -> None:
    text = 'break_glass: {until: 2026-11-21T18:00:00Z, reason: "region lost"}'
    said = config_of(MINIMAL + text).break_glass
    assert said is not None
    assert said.until == datetime(2026, 11, 21, 18, tzinfo=UTC)
    assert (said.reason, said.path) == ("region lost", None)


def test_break_glass_by_file_without_a_reason_is_refused() -> None:
    problems = problems_of(MINIMAL + "break_glass: {until: 2026-11-21T18:00:00Z}")
    assert "add reason" in problems["break_glass"]


def test_first_matching_entry_serves_a_model() -> None:
    models = config_of(
        'providers: {a: {endpoints: [{url: "https://a.example/v1"}]}}\n'
        'models: {"Pro/*": {provider: a}, Pro/x: {provider: a}, y: {provider: a}}'
    ).models
    assert find_model(models, "Pro/x") == "Pro/*"
    assert find_model(models, "y") == "y"
    assert find_model(models, "yy") is None


def test_star_matches_any_rest_and_the_empty_one() -> None:
    assert matches("*", "anything")
    assert matches("Pro/*", "Pro/")
    assert not matches("Pro/*", "pro/x")
    assert not matches("Pro", "Pro/x")
