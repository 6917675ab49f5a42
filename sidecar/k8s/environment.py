"""What an app's container learns of the sidecar: a base URL, and a key where it has none.

Only what is absent is added, so that an app's own settings stand. `env` wins over `envFrom`, which names
objects that cannot be seen from here, and whose prefix says which names they could bring: a container gets
the URLs, which its objects most likely lack, and neither a key nor exceptions from a proxy that may be there.
"""

from collections.abc import Iterator

from sidecar.k8s.pod import Container
from sidecar.k8s.settings import Settings, shown

HOST = "127.0.0.1"
# Providers know nothing of it; the OpenAI SDK refuses to start without a key.
KEY = "sidecar"

_PROXIES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_EXCEPTIONS = ("NO_PROXY", "no_proxy")
_URLS = ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL")


def additions(container: Container, settings: Settings) -> list[dict[str, str]]:
    """The variables to add to a container's `env`."""
    if not settings.env:
        return []
    url = f"http://{HOST}:{settings.port}"
    wanted = {"OPENAI_BASE_URL": f"{url}/v1", "ANTHROPIC_BASE_URL": url}
    if not container.may_bring("OPENAI_API_KEY"):
        wanted["OPENAI_API_KEY"] = KEY
    if container.value_of(*_PROXIES) and not _has_exceptions(container):
        wanted["NO_PROXY"] = f"{HOST},localhost"
    return [
        {"name": name, "value": value} for name, value in wanted.items() if container.value_of(name) is None
    ]


def cautions(container: Container, settings: Settings) -> Iterator[str]:
    """What could keep a container from using the sidecar."""
    if not settings.env:
        return
    name = shown(container.name)
    if container.value_of("OPENAI_BASE_URL") is None:
        replaced = [url for url in _URLS if container.may_bring(url) and container.value_of(url) is None]
        told = [f"{url} there is replaced" for url in replaced]
        if container.may_bring("OPENAI_API_KEY") and container.value_of("OPENAI_API_KEY") is None:
            told.append("OPENAI_API_KEY is expected there")
        if told:
            yield f"container {name} has envFrom: {', '.join(told)}"
    if container.value_of(*_PROXIES) is None:
        return
    exceptions = container.value_of(*_EXCEPTIONS)
    if exceptions and exceptions.value != "*" and HOST not in (exceptions.value or ""):
        yield f"container {name} has a proxy: add {HOST} to {exceptions.name}, or it never asks the sidecar"
    elif not exceptions and _has_exceptions(container):
        yield f"container {name} has a proxy: NO_PROXY, here or in its envFrom, must have {HOST}"


def _has_exceptions(container: Container) -> bool:
    """Whether something is, or may be, excepted from the proxy: one more variable would replace it."""
    return container.value_of(*_EXCEPTIONS) is not None or any(map(container.may_bring, _EXCEPTIONS))
