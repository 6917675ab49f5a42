"""What speaks against a sidecar in a pod: with it the pod, or the sidecar in it, could not run."""

from collections.abc import Iterator

from sidecar.k8s.annotations import PREFIX
from sidecar.k8s.container import volumes
from sidecar.k8s.pod import Container, Pod, Spec, Term
from sidecar.k8s.settings import Settings, shown

# Nodes have both: the second is the name from before Kubernetes 1.14.
_OS_LABELS = ("kubernetes.io/os", "beta.kubernetes.io/os")


def obstacles(pod: Pod, settings: Settings) -> Iterator[str]:
    """Each obstacle, with the way round it where there is one."""
    spec = pod.spec
    if _is_for_windows(spec):
        yield "the pod is for Windows, the sidecar runs on Linux"
    if spec.host_network:
        yield "the pod has hostNetwork: its loopback is the whole node's, and so would be the sidecar"
    yield from _taken_ports(spec, settings)
    taken = {volume.name for volume in spec.volumes or ()}
    for volume in volumes(settings):
        if volume["name"] in taken:
            yield f"the pod has a volume {volume['name']} already: rename it"


def _taken_ports(spec: Spec, settings: Settings) -> Iterator[str]:
    ours = {number: name for name, number in settings.ports.items()}
    for there in (*_companions(spec, settings), *spec.containers):
        told: set[int] = set()
        for number, reason in _listened(there):
            if (name := ours.get(number)) and number not in told:
                told.add(number)
                yield (
                    f"container {shown(there.name)} {reason}:"
                    f" give the sidecar another with the annotation {PREFIX}{name}"
                )


def _companions(spec: Spec, settings: Settings) -> Iterator[Container]:
    """The init containers that run beside the sidecar: before a classic one, all but sidecars have ended."""
    for there in spec.init_containers or ():
        if settings.mode == "native" or there.restart_policy == "Always":
            yield there


def _listened(there: Container) -> Iterator[tuple[int, str]]:
    """Ports that somebody in the pod listens on. `ports` is no more than information, and often left out;
    what a probe or hook asks is asked of the pod's address, so one who binds it or all addresses is there."""
    for port in there.ports or ():
        if port.protocol in (None, "TCP"):
            yield port.container_port, f"listens on port {port.container_port} itself"
    for field, number in there.asked_ports:
        yield number, f"listens on port {number} itself, as its {field} says"


def _is_for_windows(spec: Spec) -> bool:
    selector = spec.node_selector or {}
    if (spec.os and spec.os.name == "windows") or any(selector.get(one) == "windows" for one in _OS_LABELS):
        return True
    terms = spec.node_terms
    return bool(terms) and all(_keeps_out_linux(term) for term in terms)


def _keeps_out_linux(term: Term) -> bool:
    # Kubernetes has nodes of two systems, so not Linux is Windows.
    return any(
        one.key in _OS_LABELS
        and (
            (one.operator == "In" and one.values == ["windows"])
            or (one.operator == "NotIn" and "linux" in (one.values or ()))
        )
        for one in term.match_expressions or ()
    )
