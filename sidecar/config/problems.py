"""What can be wrong with a configuration: a list of problems, each with the path of its field."""

import json
import re
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

Path: TypeAlias = tuple[str | int, ...]


class Problem(NamedTuple):
    """One thing to mend: where it stands, what was expected and what to do."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(Exception):
    """A configuration that cannot be used, with everything found wrong with it.

    `files` are those it was read from, as far as it got: once one of them changes it is worth another try.
    """

    def __init__(self, problems: Sequence[Problem], files: Sequence[str] = ()) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)
        self.files = tuple(files)


def field_path(path: Path) -> str:
    """The path as people write it: `providers.a.endpoints[0].url`; quoted where a dot would mislead."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[!-~]+", part) and not re.search(r"[.\[\]\"]", part):
            text += f".{part}" if text else part
        else:
            text += f"[{json.dumps(part)}]"
    return text
