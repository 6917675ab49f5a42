"""`sidecar cache`: its actions, and what is said of arguments that are wrong."""

import pytest

from tests.support.process import finished


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("calibrate",),
        ("nonsense",),
        ("calibrate", "a", "b"),
        ("false-hit",),
        ("purge", "everything"),
        ("status", "--admin", "nowhere"),
    ],
)
async def test_wrong_usage_exits_with_2(arguments: tuple[str, ...]) -> None:
    code, out, errors = await finished("cache", *arguments)
    assert (code, out) == (2, "")
    assert errors.startswith("usage: sidecar ")
    assert "Traceback" not in errors


async def test_the_help_of_purge_says_that_options_narrow() -> None:
    code, out, _ = await finished("cache", "purge", "--help")
    assert code == 0
    assert "Of several options, what has all of them." in out


async def test_the_help_says_how_a_line_of_pairs_is_written() -> None:
    code, out, errors = await finished("cache", "calibrate", "--help")
    assert (code, errors) == (0, "")
    assert '"same": 1}' in out
