"""What an app's container learns of the sidecar: a base URL, and a key where it has none.

Only what is absent is added, so that an app's own settings stand. `env` wins over `envFrom`, which names
objects that cannot be seen from here: a container with `envFrom` gets the URLs, which it most likely lacks,
and no key, which it most likely has there.
"""

from collections.abc import Iterator

from sidecar.k8s.pod import Container
from sidecar.k8s.settings import Settings, shown

HOST = "127.0.0.1"
# Providers know nothing of it; the OpenAI SDK refuses to start without a key.
KEY = "sidecar"

_PROXIES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_EXCEPTIONS = ("NO_PROXY", "no_proxy")


def additions(container: Container, settings: Settings) -> list[dict[str, str]]:
    """The variables to add to a container's `env`."""
    if not settings.env:
        return []
    url = f"http://{HOST}:{settings.port}"
    wanted = {"OPENAI_BASE_URL": f"{url}/v1", "ANTHROPIC_BASE_URL": url}
    if not container.env_from:
        wanted["OPENAI_API_KEY"] = KEY
    if container.value_of(*_PROXIES) and not container.value_of(*_EXCEPTIONS):
        wanted["NO_PROXY"] = f"{HOST},localhost"
    return [
        {"name": name, "value": value} for name, value in wanted.items() if container.value_of(name) is None
    ]


def cautions(container: Container, settings: Settings) -> Iterator[str]:
    """What could keep a container from using the sidecar."""
    if not settings.env:
        return
    name = shown(container.name)
    if container.env_from and container.value_of("OPENAI_BASE_URL") is None:
        yield (
            f"container {name} has envFrom: OPENAI_BASE_URL and ANTHROPIC_BASE_URL there are replaced,"
            " OPENAI_API_KEY is expected there"
        )
    exceptions = container.value_of(*_EXCEPTIONS)
    if container.value_of(*_PROXIES) and exceptions and HOST not in (exceptions.value or ""):
        yield f"container {name} has a proxy: add {HOST} to {exceptions.name}, or it never asks the sidecar"
