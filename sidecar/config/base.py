"""What all sections of a configuration have in common."""

from msgspec import Struct


class Base(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section: it cannot change, and knows no key but its own."""
