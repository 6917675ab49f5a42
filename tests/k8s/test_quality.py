"""Which pods are Guaranteed, and what the sidecar gets so that they stay so."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from sidecar.k8s.pod import Pod
from sidecar.k8s.quality import guaranteed, is_guaranteed
from sidecar.k8s.settings import Settings
from tests.k8s.support import DEFAULTS, pod_of

NO_LIMITS = replace(DEFAULTS, memory_limit=None)


def is_fixed(*resources: Any, first: Any = None) -> bool:
    containers = [{"name": f"c{index}", "resources": one} for index, one in enumerate(resources)]
    pod = pod_of(*containers, initContainers=first)
    return is_guaranteed(msgspec.convert(pod, Pod).spec)


def amounts(cpu: Any, memory: Any) -> dict[str, Any]:
    return {"cpu": cpu, "memory": memory}


FIXED = {"limits": amounts("1", "1Gi")}


# --- which pods are ---


@pytest.mark.parametrize(
    "resources",
    [
        FIXED,
        {"limits": amounts("1", "1Gi"), "requests": amounts("1", "1Gi")},
        {"limits": amounts("1", "1Gi"), "requests": amounts("1000m", "1024Mi")},
        {"limits": amounts("1", "1Gi"), "requests": {"cpu": "1"}},
        {"limits": amounts("1", "1Gi"), "requests": None},
        {"limits": amounts(0.5, 1073741824), "requests": amounts("500m", "1Gi")},
        {"limits": amounts("1", "1Ei"), "requests": amounts("1", "1Ei")},
        {"limits": amounts("1", "1Gi") | {"nvidia.com/gpu": "1"}},
    ],
)
def test_limits_of_both_with_equal_or_no_requests_are_guaranteed(resources: Any) -> None:
    assert is_fixed(resources)


@pytest.mark.parametrize(
    "resources",
    [
        None,
        {},
        {"requests": amounts("1", "1Gi")},
        {"limits": {"memory": "1Gi"}},
        {"limits": {"cpu": "1"}},
        {"limits": amounts("1", None)},
        {"limits": amounts("0", "1Gi")},
        {"limits": amounts("1", "1Gi"), "requests": amounts("1", "512Mi")},
        {"limits": amounts("1", "1Gi"), "requests": amounts("999m", "1Gi")},
        {"limits": amounts("1", "1Gi"), "requests": amounts("0", "1Gi")},
        {"limits": amounts("1", "2Ei"), "requests": amounts("1", "1Ei")},
    ],
)
def test_one_container_that_may_use_more_than_it_asks_for_makes_the_pod_burstable(resources: Any) -> None:
    assert not is_fixed(resources)
    assert not is_fixed(FIXED, resources)
    assert not is_fixed(FIXED, first=[{"name": "i", "resources": resources}])


def test_init_containers_that_are_fixed_change_nothing() -> None:
    assert is_fixed(FIXED, FIXED, first=[{"name": "i", "resources": FIXED}])


# --- what the sidecar gets ---


def given(settings: Settings, own: str) -> tuple[tuple[Any, ...], str]:
    """The amounts (requests, then limits) and what is said."""
    fitted, told = guaranteed(settings, frozenset(own.split()))
    assert len(told) <= 1
    found = (fitted.cpu_request, fitted.memory_request, fitted.cpu_limit, fitted.memory_limit)
    return found, "".join(told)


@pytest.mark.parametrize(
    ("settings", "own", "cpu", "memory"),
    [
        (DEFAULTS, "", "50m", "256Mi"),
        (replace(DEFAULTS, cpu_limit="2"), "", "50m", "256Mi"),
        (replace(DEFAULTS, cpu_request=None, cpu_limit="100m"), "", "100m", "256Mi"),
        (replace(DEFAULTS, cpu_request="200m"), "cpu-request", "200m", "256Mi"),
        (replace(DEFAULTS, cpu_limit="500m"), "cpu-limit", "500m", "256Mi"),
        (replace(DEFAULTS, memory_limit="1Gi"), "memory-limit", "50m", "1Gi"),
        (replace(DEFAULTS, memory_request="1Gi", memory_limit="1Gi"), "memory-request", "50m", "1Gi"),
        (replace(DEFAULTS, memory_request=None), "memory-request", "50m", None),
    ],
)
def test_one_amount_stands_for_request_and_limit(
    settings: Settings, own: str, cpu: str, memory: str | None
) -> None:
    found, told = given(settings, own)
    assert found == (cpu, memory, cpu, memory or "256Mi")
    assert "not Guaranteed" not in told


def test_what_holds_the_cpu_back_is_said_unless_the_pod_has_chosen_it() -> None:
    assert "more cpu than its request, 50m: give it more" in given(DEFAULTS, "")[1]
    assert "50m" in given(replace(DEFAULTS, cpu_limit="2"), "")[1]
    assert given(replace(DEFAULTS, cpu_limit="50m"), "")[1] == ""
    assert given(DEFAULTS, "cpu-request")[1] == ""
    assert given(replace(DEFAULTS, cpu_limit="2"), "cpu-limit")[1] == ""


@pytest.mark.parametrize(
    ("settings", "own", "named"),
    [
        (NO_LIMITS, "", "memory"),
        (NO_LIMITS, "memory-limit", "memory"),
        (DEFAULTS, "memory-request", "memory"),
        (DEFAULTS, "cpu-limit", "cpu"),
        (replace(DEFAULTS, cpu_limit="1"), "cpu-request cpu-limit", "cpu"),
        (replace(DEFAULTS, cpu_request=None), "", "cpu"),
    ],
)
def test_what_cannot_be_made_alike_is_left_whole_and_named(settings: Settings, own: str, named: str) -> None:
    fitted, (told,) = guaranteed(settings, frozenset(own.split()))
    assert fitted == settings
    assert told == (
        "the pod is not Guaranteed any more, but Burstable, with ai-sidecar:"
        f" make ai-sidecar/{named}-request and ai-sidecar/{named}-limit equal"
    )


def test_both_are_named_where_both_differ_within_the_length_of_a_warning() -> None:
    _, (told,) = guaranteed(replace(NO_LIMITS, cpu_request=None), frozenset())
    assert "ai-sidecar/cpu-limit and ai-sidecar/memory-request" in told
    assert len(told) <= 256
