"""How commands speak: what was asked for to standard output, what went wrong to standard error, in a line."""

import sys


def show(text: str | bytes) -> None:
    """Print. As UTF-8 whatever the locale, and now: a reader that has left is noticed here, by a
    BrokenPipeError, and not at the exit."""
    sys.stdout.buffer.write(text if isinstance(text, bytes) else text.encode(errors="replace"))
    sys.stdout.flush()


def fail(command: str, message: str, code: int) -> int:
    """Say why `command` ("usage", "cache calibrate") could not do it; returns the exit code."""
    sys.stderr.write(f"sidecar {command}: {message}\n")
    return code
