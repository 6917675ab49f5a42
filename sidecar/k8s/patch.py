"""Whether a pod gets the sidecar, and the JSON Patch (RFC 6902) that gives it.

Theory of operation: first what is to be left alone, then what speaks against it, then the patch. Whatever
speaks against it is said in a warning and the pod goes its way without a sidecar: a pod is never refused,
and never made one that cannot start. The patch holds `add` operations only, so nothing of the pod is ever
replaced; those with an index into the pod as it came stand before the one that moves the indices.

A pod comes again when a webhook of others has changed it. Its sidecar is left as it is then; containers that
have joined meanwhile learn of it.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from sidecar.k8s import environment
from sidecar.k8s.annotations import opts_out, wish_of
from sidecar.k8s.container import LISTEN_DATA, NAME, container, volumes
from sidecar.k8s.obstacles import obstacles
from sidecar.k8s.pod import Container, Pod
from sidecar.k8s.quality import guaranteed, is_guaranteed
from sidecar.k8s.settings import Settings

Result: TypeAlias = Literal["injected", "skipped", "refused"]
Operation: TypeAlias = dict[str, Any]

# More than any node runs. A pod of 3 MiB, which is too large to keep but not to review, could have a hundred
# thousand, and a patch for them would take the time of a thousand other pods.
MAX_CONTAINERS = 1000
# As many as its author will read; a pod of 3 MiB could have a hundred thousand.
MAX_OBSTACLES = 16


class Outcome(Struct):
    """What becomes of a pod. The patch is empty unless it is injected, or containers have joined it since."""

    result: Result
    patch: list[Operation]
    warnings: list[str]


def inject(pod: Pod, defaults: Settings) -> Outcome:
    """The outcome for one pod."""
    if opts_out(pod):
        return Outcome("skipped", [], [])
    if len(pod.spec.all_containers) > MAX_CONTAINERS:
        return _refused(f"the pod has more than {MAX_CONTAINERS} containers")
    wish = wish_of(pod, defaults)
    if there := next((one for one in pod.spec.all_containers if one.name == NAME), None):
        patch = _introductions(pod, wish.settings) if _is_as_made(there, wish.settings) else []
        return Outcome("skipped", patch, list(_cautions_once_there(pod)))
    settings = wish.settings
    if faults := wish.faults or list(islice(obstacles(pod, settings), MAX_OBSTACLES)):
        return _refused(*faults, notes=wish.notes)
    notes = wish.notes
    if is_guaranteed(pod.spec) and not pod.spec.has_resources:
        settings, told = guaranteed(settings, wish.own)
        notes = [*notes, *told]
    return Outcome("injected", _patch(pod, settings), [*notes, *_cautions(pod, settings)])


def _refused(*faults: str, notes: Iterable[str] = ()) -> Outcome:
    return Outcome("refused", [], [*(f"{NAME} is not injected: {fault}" for fault in faults), *notes])


def _cautions(pod: Pod, settings: Settings) -> Iterator[str]:
    if settings.mode == "classic" and pod.spec.restart_policy in ("Never", "OnFailure"):
        yield (
            f"{NAME} runs on when the app has ended, so this pod never completes: for a Job use native mode"
            " (Kubernetes 1.29 or newer)"
        )
    if pod.spec.has_resources:
        yield f"{NAME} has no resources of its own: it shares those of the pod (spec.resources)"
    for app in _apps(pod, settings):
        yield from environment.cautions(app[1], settings)


def _cautions_once_there(pod: Pod) -> Iterator[str]:
    # Seen when another webhook, built before native sidecars, has dropped the field it did not know.
    for there in pod.spec.init_containers or ():
        if there.name == NAME and there.restart_policy != "Always":
            yield f"init container {NAME} lacks restartPolicy: Always, so the pod waits for its end forever"


def _is_as_made(there: Container, settings: Settings) -> bool:
    # A sidecar put in by hand may listen elsewhere, and its author has told the apps what they need.
    address = there.value_of(LISTEN_DATA)
    return address is not None and address.value == settings.data_address


def _introductions(pod: Pod, settings: Settings) -> list[Operation]:
    """What the apps' containers learn of the sidecar."""
    return [
        operation
        for place, app in _apps(pod, settings)
        if (new := environment.additions(app, settings))
        for operation in _appended(f"{place}/env", app.env, new)
    ]


def _patch(pod: Pod, settings: Settings) -> list[Operation]:
    spec = pod.spec
    operations = _introductions(pod, settings)
    operations += _appended("/spec/volumes", spec.volumes, volumes(settings))
    made = container(settings, has_resources=not spec.has_resources)
    if settings.mode == "classic":
        return [*operations, _add("/spec/containers/-", made)]
    if spec.init_containers is None:
        return [*operations, _add("/spec/initContainers", [made])]
    return [*operations, _add("/spec/initContainers/0", made)]


def _apps(pod: Pod, settings: Settings) -> Iterator[tuple[str, Any]]:
    """The containers that run while the sidecar does, each with its place. Init containers have ended before
    a classic sidecar starts, and so have those that another webhook put before a native one: a base URL
    there would lead nowhere."""
    for index, app in enumerate(pod.spec.containers):
        if app.name != NAME:
            yield f"/spec/containers/{index}", app
    if settings.mode == "classic":
        return
    first = pod.spec.init_containers or []
    start = next((index for index, one in enumerate(first) if one.name == NAME), -1)
    for index, app in enumerate(first):
        if index > start or (index < start and app.restart_policy == "Always"):
            yield f"/spec/initContainers/{index}", app


def _appended(path: str, there: list[Any] | None, new: list[Any]) -> list[Operation]:
    if there is None:
        return [_add(path, new)]
    return [_add(f"{path}/-", item) for item in new]


def _add(path: str, value: Any) -> Operation:
    return {"op": "add", "path": path, "value": value}
