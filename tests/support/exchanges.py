"""Finished exchanges without a connection, for what only reads them."""

from typing import Any, cast

from sidecar.exchange import Downstream, Exchange, RequestHead


def finished(**facts: Any) -> Exchange:
    """A successful exchange that began at 10 s of the clock; `facts` replace its attributes."""
    head = RequestHead(b"POST", b"/v1/chat/completions")
    x = Exchange(cast(Downstream, None), 10.0, head)
    x.team, x.provider, x.region, x.model, x.status, x.attempts = "t", "p", "r", "m", 200, 1
    x.endpoint, x.kind = "http://p.example/v1", "chat"
    for name, value in facts.items():
        setattr(x, name, value)
    return x
