"""The pod's quality of service: one that is Guaranteed stays so where that can be had.

Kubernetes calls a pod Guaranteed when every container, init containers too, has a limit of cpu and of memory
and requests just that much; a request that is left out is the limit. One container that does not, and the
pod is Burstable: it goes earlier when the node runs short, and loses the cores it had to itself. So in such a
pod the sidecar gets one amount for both. An amount that the pod's author has set by annotation stands.

Of memory that is the limit, since to reserve too much costs less than to be killed; where there is no limit,
none is made up. Of cpu it is the request: a sidecar short of cpu is slow but lives, while a limit is often
whole cores, which the pod would then wait for, and which the static CPU manager would keep for the sidecar
alone. It judges each container by itself: a sidecar's fraction of a core takes none from the app.
"""

from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from sidecar.k8s.annotations import PREFIX
from sidecar.k8s.container import NAME
from sidecar.k8s.pod import Resources, Spec
from sidecar.k8s.settings import Settings, amount_of


def is_guaranteed(spec: Spec) -> bool:
    """Whether every container has limits of cpu and memory, and requests that equal them."""
    return bool(spec.containers) and all(_is_fixed(there.resources) for there in spec.all_containers)


def guaranteed(settings: Settings, own: frozenset[str]) -> tuple[Settings, list[str]]:
    """The settings for a Guaranteed pod, and what its author is to know of them.

    `own` are the names of the settings that the pod itself has made.
    """
    fitted = _fit_memory(_fit_cpu(settings, own), own)
    if differing := [what for what, *amounts in _amounts(fitted) if not _are_alike(*amounts)]:
        names = " and ".join(f"{PREFIX}{what}-request and {PREFIX}{what}-limit" for what in differing)
        loss = f"the pod is not Guaranteed any more, but Burstable, with {NAME}"
        return settings, [f"{loss}: make {names} equal"]
    if fitted.cpu_limit != settings.cpu_limit and "cpu-request" not in own:
        note = f"the pod stays Guaranteed, so {NAME} gets no more cpu than its request, {fitted.cpu_request}"
        return fitted, [f"{note}: give it more with the annotation {PREFIX}cpu-request"]
    return fitted, []


def _fit_cpu(settings: Settings, own: frozenset[str]) -> Settings:
    request, limit = settings.cpu_request, settings.cpu_limit
    if {"cpu-request", "cpu-limit"} <= own:
        return settings
    amount = limit if "cpu-limit" in own else request or limit
    return settings if amount is None else replace(settings, cpu_request=amount, cpu_limit=amount)


def _fit_memory(settings: Settings, own: frozenset[str]) -> Settings:
    if settings.memory_limit is None or "memory-request" in own:
        return settings
    return replace(settings, memory_request=settings.memory_limit)


def _amounts(settings: Settings) -> tuple[tuple[str, str | None, str | None], ...]:
    return (
        ("cpu", settings.cpu_request, settings.cpu_limit),
        ("memory", settings.memory_request, settings.memory_limit),
    )


def _are_alike(request: str | None, limit: str | None) -> bool:
    return limit is not None and (request is None or amount_of(request) == amount_of(limit))


def _is_fixed(resources: Resources | None) -> bool:
    limits = (resources.limits if resources else None) or {}
    requests = (resources.requests if resources else None) or {}
    return all(
        (limit := _amount(limits.get(what))) and _amount(requests.get(what, limits.get(what))) == limit
        for what in ("cpu", "memory")
    )


def _amount(quantity: Any) -> Decimal | str:
    """A number where it is easily read; nothing for nothing. The API server writes equal amounts alike."""
    text = "" if quantity is None else str(quantity)
    try:
        return amount_of(text)
    except ValueError:
        return text
