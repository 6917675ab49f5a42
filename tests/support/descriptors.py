"""Has this process, or another, run out of file descriptors, by the limit that the system keeps."""

import contextlib
import os
import resource
from collections.abc import Iterator
from itertools import count


@contextlib.contextmanager
def no_descriptor_left(pid: int = 0) -> Iterator[None]:
    """Until the end nothing can be opened; what is open stays so. `pid` 0 is this process."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    folder = f"/proc/{pid or 'self'}/fd"
    # What the list itself was read with is in it, and gone by now.
    used = {int(name) for name in os.listdir(folder) if os.path.lexists(f"{folder}/{name}")}
    # The limit is on numbers, and a new one is the lowest that is free.
    free = next(number for number in count() if number not in used)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
