"""`sidecar key new` makes a caller's key, `sidecar key hash` the hash of one for `keys[].hash`.

A key is read from standard input, never from the arguments: those stand in the shell's history and in the
list of processes.
"""

import argparse
import secrets
import sys
from getpass import getpass
from typing import TYPE_CHECKING

from sidecar.commands.output import fail
from sidecar.config.secrets import check_value
from sidecar.policy.callers import MAX_KEY_BYTES, digest_of

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

# Secret scanners and people know a key by how it begins.
PREFIX = "sk-sidecar-"
KEY_BYTES = 32
# The hash is neither salted nor slow: what can be guessed can be found from it.
SHORT_KEY_CHARS = 32


def add_parser(subparsers: "Subparsers") -> None:
    """Add the command to the command line; `command` is then `run`."""
    parser = subparsers.add_parser("key", help="make a caller's key, or the hash of one")
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    actions.add_parser("new", help="print a new key and its hash")
    actions.add_parser("hash", help="print the hash of a key, read from standard input")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Run `key new` or `key hash`; returns the exit code."""
    return _new() if options.action == "new" else _hash()


def hash_of(key: str) -> str:
    """What stands in the configuration for a key."""
    return f"blake2b:{digest_of(key.encode()).hex()}"


def _new() -> int:
    key = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    sys.stdout.write(f"key: {key}\nhash: {hash_of(key)}\n")
    if sys.stdout.isatty():
        sys.stderr.write("Give the key to its caller; put the hash under keys. The key is not shown again.\n")
    return 0


def _hash() -> int:
    try:
        key = _checked(getpass("Key: ") if sys.stdin.isatty() else _from_stdin())
    except EOFError:
        return fail("key hash", "no key was given: type one, or send it to standard input", 2)
    except ValueError as error:
        return fail("key hash", str(error), 2)
    if len(key) < SHORT_KEY_CHARS:
        sys.stderr.write(
            f"warning: a key under {SHORT_KEY_CHARS} characters may be guessed: `sidecar key new` is safe\n"
        )
    sys.stdout.write(hash_of(key) + "\n")
    return 0


def _from_stdin() -> str:
    # latin-1 takes any byte; what is not ASCII is refused with a message.
    return sys.stdin.buffer.read(MAX_KEY_BYTES + 3).decode("latin-1").rstrip("\r\n")


def _checked(key: str) -> str:
    if len(key) > MAX_KEY_BYTES:
        raise ValueError(f"the key is longer than {MAX_KEY_BYTES} bytes: such a key is never accepted")
    if key.startswith("blake2b:"):
        raise ValueError("this is a hash already: put it under keys as it is")
    return check_value(key, "the key")
