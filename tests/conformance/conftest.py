"""Every test of this folder has a sidecar of its own, so it must not linger at its end."""

import pytest


@pytest.fixture(autouse=True)
def prompt_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave without the pause in which a real process lets its last bytes go out."""
    monkeypatch.setattr("sidecar.server.DRAIN_STEP_S", 0.0)
