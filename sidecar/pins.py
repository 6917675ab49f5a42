"""Which endpoint knows a stored response: who goes on with it by `previous_response_id` must go there.

The Responses API keeps what it answered at the provider, and a provider in one region does not know what
another stored. The last 10,000 ids are remembered; after that, or a restart, a request with an old id goes
where any other goes. All of it is state of this process: a sidecar that has not seen the id does not guess.
"""

import re
from collections import OrderedDict

from sidecar.upstream.endpoint import Endpoint

MAX_PINS = 10_000
MAX_ID_CHARS = 256
_ID = re.compile(rb'"id"\s*:\s*"(resp_[A-Za-z0-9_-]{1,250})"')
_HEAD_BYTES = 4096


class Pins:
    """Endpoints by the ids of the responses they stored; the ones used least recently go first."""

    def __init__(self) -> None:
        self._endpoints: OrderedDict[str, Endpoint] = OrderedDict()

    def __len__(self) -> int:
        return len(self._endpoints)

    def remember(self, response_id: str, endpoint: Endpoint) -> None:
        """An endpoint answered under this id."""
        if not response_id or len(response_id) > MAX_ID_CHARS:
            return
        self._endpoints[response_id] = endpoint
        self._endpoints.move_to_end(response_id)
        if len(self._endpoints) > MAX_PINS:
            self._endpoints.popitem(last=False)

    def find(self, response_id: object) -> Endpoint | None:
        """Who knows this id; None where nobody is known to, or it is no id at all."""
        if type(response_id) is not str:
            return None
        endpoint = self._endpoints.get(response_id)
        if endpoint is not None:
            self._endpoints.move_to_end(response_id)
        return endpoint


def response_id(body: bytes) -> str:
    """The id of a plain answer of the Responses API, which stands at its begin; empty where there is none."""
    found = _ID.search(body, 0, _HEAD_BYTES)
    return "" if found is None else found.group(1).decode()
