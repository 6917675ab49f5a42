"""What a pod says of its own sidecar: the label that asks for it or not, and the annotations."""

from itertools import islice

from msgspec import Struct

from sidecar.k8s.pod import Pod
from sidecar.k8s.settings import PARSERS, Settings, Unknown, changed, contradictions, shown

PREFIX = "ai-sidecar/"
INJECT_LABEL = f"{PREFIX}inject"
# Set by the kubelet on the mirrors of its static pods, which nobody can change.
MIRROR = "kubernetes.io/config.mirror"
# As many unknown annotations are named; a pod of 3 MiB could have a hundred thousand.
MAX_STRANGERS = 16


class Wish(Struct):
    """What a pod's annotations make of the defaults: a sidecar only where `faults` is empty.

    `own` are the names of the settings that the pod has made, such as cpu-limit.
    """

    settings: Settings
    faults: list[str]
    notes: list[str]
    own: frozenset[str]


def opts_out(pod: Pod) -> bool:
    """Whether the pod is to be left alone, whatever its namespace says."""
    return pod.labels.get(INJECT_LABEL) == "false" or MIRROR in pod.annotations


def wish_of(pod: Pod, defaults: Settings) -> Wish:
    """The settings of this pod's sidecar."""
    values = {
        key.removeprefix(PREFIX): text for key, text in pod.annotations.items() if key.startswith(PREFIX)
    }
    notes: list[str] = []
    if "inject" in values:
        del values["inject"]
        notes.append(f"{INJECT_LABEL} is a label, and means nothing as an annotation")
    own = {name: text for name, text in values.items() if name in PARSERS}
    strangers = ((name, text) for name, text in values.items() if name not in PARSERS)
    settings, found = changed(defaults, own | dict(islice(strangers, MAX_STRANGERS)))
    faults: list[str] = []
    for name, fault in found:
        message = f"annotation {PREFIX}{shown(name)[1:-1]}: {fault}"
        (notes if isinstance(fault, Unknown) else faults).append(message)
    faults += [f"annotations: {contradiction}" for contradiction in contradictions(settings)]
    label = pod.labels.get(INJECT_LABEL, "true")
    if label != "true":
        faults.append(f'label {INJECT_LABEL}: {shown(label)} is neither "true" nor "false"')
    return Wish(settings, faults, notes, frozenset(own))
