"""An answer of /v1/embeddings becomes a unit vector, or an error of one line."""

import math
import subprocess
import sys
from typing import Any

import orjson
import pytest

from sidecar.cache.meaning.embedding import MAX_DIMENSIONS, EmbedderError, folder_of, read_vector, required

pytest.importorskip("numpy", reason="numpy is not installed: pip install 'ai-sidecar[semantic]'")


def answer(values: Any) -> bytes:
    return orjson.dumps({"object": "list", "data": [{"index": 0, "embedding": values}]})


def test_an_embedding_is_made_one_long() -> None:
    vector = read_vector(answer([3, 0.0, -4.0]), None)
    assert vector.dtype == "float32"
    assert vector.tolist() == pytest.approx([0.6, 0.0, -0.8])


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1, 1e30, 1e300])
def test_the_size_of_the_numbers_does_not_matter(scale: float) -> None:
    assert read_vector(answer([3 * scale, 4 * scale]), None).tolist() == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize("edge", [5e-324, math.ldexp(1.0, 1023), 2**64 - 1])
def test_numbers_at_the_edge_have_a_direction_too(edge: float) -> None:
    assert read_vector(answer([edge] * 4 + [0.0]), None).tolist() == pytest.approx([0.5] * 4 + [0.0])


def test_as_many_numbers_as_before_are_good() -> None:
    assert len(read_vector(answer([1.0] * 7), 7)) == 7
    assert len(read_vector(answer([1.0] * MAX_DIMENSIONS), None)) == MAX_DIMENSIONS


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"<html>", "not JSON"),
        (b'{"data": [{"embedding": [NaN, 1.0]}]}', "not JSON"),
        (b'{"data": [{"embedding": [1e999, 1.0]}]}', "not JSON"),
        (b'{"data": [{"embedding": [1.0, ', "not JSON"),
        (b"null", "without one embedding"),
        (b"[]", "without one embedding"),
        (b"{}", "without one embedding"),
        (b'{"data": []}', "without one embedding"),
        (b'{"data": [{"embedding": [1.0]}, {"embedding": [1.0]}]}', "without one embedding"),
        (b'{"data": [[1.0]]}', "without one embedding"),
        (b'{"data": {"embedding": [1.0]}}', "without one embedding"),
        (answer("AACAPw=="), "not a list of numbers"),
        (answer({"0": 1.0}), "not a list of numbers"),
        (answer(None), "not a list of numbers"),
        (answer([]), "0 numbers"),
        (answer([0.1] * (MAX_DIMENSIONS + 1)), "4097 numbers"),
        (answer([0.1, None]), "not made of numbers"),
        (answer([0.1, "0.2"]), "not made of numbers"),
        (answer([0.1, True]), "not made of numbers"),
        (answer([[0.1], [0.2]]), "not made of numbers"),
        (answer([0.0, 0]), "without a direction"),
    ],
)
def test_what_is_no_embedding_is_refused_in_one_line(body: bytes, reason: str) -> None:
    with pytest.raises(EmbedderError) as raised:
        read_vector(body, None)
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("count", [2, 4])
def test_another_number_of_dimensions_is_another_model(count: int) -> None:
    with pytest.raises(EmbedderError, match=f"{count} numbers, after 3 before"):
        read_vector(answer([1.0] * count), 3)


def test_what_is_not_installed_says_what_to_install() -> None:
    for missing in (required, folder_of):
        with pytest.raises(EmbedderError) as raised:
            missing("no_such_package_of_the_extra")
        assert str(raised.value).endswith("not installed: pip install 'ai-sidecar[semantic]'")


def test_a_package_that_is_installed_and_does_not_import_says_why(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_package_of_the_extra.py").write_text("raise ImportError('libm.so.6: too old\\nhelp')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EmbedderError) as raised:
        required("broken_package_of_the_extra")
    assert str(raised.value) == (
        "broken_package_of_the_extra is installed but does not work here: libm.so.6: too old"
    )


def test_importing_the_embedders_imports_none_of_the_extra() -> None:
    source = (
        "import sys; import sidecar.cache.meaning.local_embedder, sidecar.cache.meaning.endpoint_embedder\n"
        "print({'numpy', 'tokenizers', 'wordllama'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
