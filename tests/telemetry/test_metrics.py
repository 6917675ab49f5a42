"""Metrics: the names the design promises, right numbers, and labels a caller cannot multiply."""

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from sidecar.exchange import Usage
from sidecar.telemetry.exposition import Limits, expose
from sidecar.telemetry.metrics import MAX_LEARNED_MODELS, FailedTry, Histogram, Metrics
from tests.support.exchanges import finished

NAMES = {
    "sidecar_requests_total",
    "sidecar_request_seconds_bucket",
    "sidecar_first_token_seconds_bucket",
    "sidecar_overhead_seconds_bucket",
    "sidecar_attempts_total",
    "sidecar_tokens_total",
    "sidecar_streams_cut_total",
    "sidecar_build_info",
    "sidecar_config_reloads_total",
}


def scraped(metrics: Metrics) -> list[Sample]:
    text = expose(metrics, [], {}, Limits({}, {}, 0)).decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def values(metrics: Metrics, name: str, *labels: str) -> Iterator[tuple[tuple[str, ...], float]]:
    for sample in scraped(metrics):
        if sample.name == name:
            yield tuple(sample.labels[label] for label in labels), sample.value


def test_all_names_are_there_after_one_request() -> None:
    metrics = Metrics("1.2.3")
    metrics.finished(finished(), 10.5)
    assert {sample.name for sample in scraped(metrics)} >= NAMES
    assert dict(values(metrics, "sidecar_build_info", "version")) == {("1.2.3",): 1.0}


def test_requests_are_counted_by_status_and_place() -> None:
    metrics = Metrics("1")
    metrics.configure(frozenset(["m"]))
    for status in (200, 200, 503):
        metrics.finished(finished(status=status, attempts=2), 10.5)
    metrics.finished(finished(provider="q", region=""), 10.5)
    assert dict(values(metrics, "sidecar_requests_total", "provider", "region", "code")) == {
        ("p", "r", "200"): 2,
        ("p", "r", "503"): 1,
        ("q", "", "200"): 1,
    }
    assert dict(values(metrics, "sidecar_attempts_total", "provider")) == {("p",): 6, ("q",): 1}
    assert (metrics.requests, metrics.errors) == (4, 1)


def failed(
    region: str, *, provider: str = "p", reason: str = "timeout", is_charged: bool = True
) -> FailedTry:
    return FailedTry(("m", provider, region), f"http://{region}.example/v1", reason, "said", is_charged)


def attempts_by_target(metrics: Metrics) -> dict[tuple[str, ...], float]:
    return dict(values(metrics, "sidecar_attempts_total", "provider", "region"))


def test_each_try_is_counted_where_it_went() -> None:
    metrics = Metrics("1")
    metrics.configure(frozenset(["m"]))
    x = finished(region="far", attempts=3)
    metrics.finished(x, 10.5, (failed("near"), failed("near", provider="q")))
    assert attempts_by_target(metrics) == {("p", "far"): 1, ("p", "near"): 1, ("q", "near"): 1}
    assert dict(values(metrics, "sidecar_requests_total", "region", "code")) == {("far", "200"): 1}


def test_a_request_that_failed_everywhere_counts_no_try_twice() -> None:
    metrics = Metrics("1")
    metrics.configure(frozenset(["m"]))
    metrics.finished(finished(region="b", attempts=2, status=503), 10.5, (failed("a"), failed("b")))
    assert attempts_by_target(metrics) == {("p", "a"): 1, ("p", "b"): 1}


def test_tries_of_a_request_whose_caller_left_are_counted_too() -> None:
    metrics = Metrics("1")
    metrics.configure(frozenset(["m"]))
    metrics.finished(finished(provider="", region="", attempts=0, flag="DC"), 10.5, (failed("a"),))
    assert attempts_by_target(metrics) == {("", ""): 0, ("p", "a"): 1}


def test_failed_tries_are_counted_by_where_and_why_those_of_the_request_itself_are_not() -> None:
    metrics = Metrics("1")
    tries = (failed("a"), failed("a"), failed("a", reason="cut"), failed("b", is_charged=False))
    metrics.finished(finished(attempts=5), 10.5, tries)
    labels = ("provider", "endpoint", "region", "reason")
    assert dict(values(metrics, "sidecar_failed_attempts_total", *labels)) == {
        ("p", "http://a.example/v1", "a", "timeout"): 2,
        ("p", "http://a.example/v1", "a", "cut"): 1,
    }


def test_durations_fall_into_cumulative_buckets() -> None:
    metrics = Metrics("1")
    assert metrics.finished(finished(first_token_s=0.2, overhead_s=0.0002), 10.5) == 0.5
    buckets = {le: value for (le,), value in values(metrics, "sidecar_request_seconds_bucket", "le")}
    assert (buckets["0.25"], buckets["0.5"], buckets["1.0"], buckets["+Inf"]) == (0, 1, 1, 1)
    assert [value for _, value in values(metrics, "sidecar_request_seconds_sum")] == [0.5]
    first = {le: value for (le,), value in values(metrics, "sidecar_first_token_seconds_bucket", "le")}
    assert (first["0.1"], first["0.25"]) == (0, 1)
    overhead = {le: value for (le,), value in values(metrics, "sidecar_overhead_seconds_bucket", "le")}
    assert (overhead["0.0001"], overhead["0.00025"]) == (0, 1)


def test_tokens_are_those_the_provider_reported() -> None:
    metrics = Metrics("1")
    metrics.finished(finished(usage=Usage(100, 7)), 10.5)
    metrics.finished(finished(usage=Usage(1, 2)), 10.5)
    metrics.finished(finished(), 10.5)
    assert dict(values(metrics, "sidecar_tokens_total", "direction")) == {("input",): 101, ("output",): 9}


@pytest.mark.parametrize(
    ("flag", "count"),
    [("UC", 1), ("UPE", 1), ("UT", 1), ("SD", 1), ("SE", 1), ("-", 0), ("DC", 0)],
)
def test_streams_that_died_are_failures_and_those_left_are_not(flag: str, count: int) -> None:
    metrics = Metrics("1")
    metrics.finished(finished(flag=flag, first_token_s=0.1), 10.5)
    assert [value for _, value in values(metrics, "sidecar_streams_cut_total")] == [count]
    assert metrics.errors == count


@pytest.mark.parametrize(("flag", "status"), [("FT", 504), ("UC", 503), ("UC", 200)])
def test_a_failure_is_no_cut_stream_where_none_had_begun(flag: str, status: int) -> None:
    metrics = Metrics("1")
    metrics.finished(finished(flag=flag, status=status), 10.5)
    assert [value for _, value in values(metrics, "sidecar_streams_cut_total")] == [0]
    assert metrics.errors == 1


# --- bounds ---


def test_five_hundred_models_make_a_bounded_number_of_series() -> None:
    metrics = Metrics("1")
    for number in range(500):
        metrics.finished(finished(model=f"model-{number}"), 10.5)
    counted = dict(values(metrics, "sidecar_requests_total", "model"))
    assert len(counted) == MAX_LEARNED_MODELS + 1
    assert counted["other",] == 500 - MAX_LEARNED_MODELS
    assert sum(counted.values()) == 500


def test_a_model_no_provider_knows_is_never_a_label() -> None:
    metrics = Metrics("1")
    for number in range(50):
        metrics.finished(finished(model=f"made-up-{number}", status=404), 10.5)
    assert dict(values(metrics, "sidecar_requests_total", "model")) == {("other",): 50}


def test_a_configured_model_is_a_label_whatever_came_before() -> None:
    metrics = Metrics("1")
    metrics.configure(frozenset(["configured"]))
    for number in range(2 * MAX_LEARNED_MODELS):
        metrics.finished(finished(model=f"model-{number}"), 10.5)
    metrics.finished(finished(model="configured", status=500), 10.5)
    assert dict(values(metrics, "sidecar_requests_total", "model"))["configured",] == 1


def test_a_value_on_a_bound_belongs_to_its_bucket() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        histogram.observe(value)
    assert histogram.cumulative() == [("1.0", 2), ("2.0", 4), ("+Inf", 5)]
    assert histogram.sum_s == 14.0
