"""The local embedder gives WordLlama's own vectors, and one line where its files are no good."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from sidecar.cache.meaning.embedding import EmbedderError, folder_of
from sidecar.cache.meaning.local_embedder import DIMENSIONS, LocalEmbedder

MISSING = [name for name in ("numpy", "tokenizers", "wordllama") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"{', '.join(MISSING)} not installed: pip install 'ai-sidecar[semantic]'"
)

WEIGHTS = "weights/l2_supercat_256.safetensors"
TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
HEADER_BYTES = 96


@pytest.fixture(scope="module")
def embedder() -> Iterator[LocalEmbedder]:
    one = LocalEmbedder()
    yield one
    one.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the two files, to be spoilt."""
    for name in (WEIGHTS, TOKENIZER):
        (tmp_path / name).parent.mkdir()
        shutil.copy(Path(folder_of("wordllama")) / name, tmp_path / name)
    return tmp_path


# What WordLlama.load().embed(text, norm=True) of wordllama 0.4.0.post1 begins with.
@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("How do I boil an egg?", [0.04677, 0.091885, -0.031449, -0.068118]),
        ("Wie kocht man ein Ei?", [-0.050574, 0.201401, -0.077852, -0.132872]),
        ("今日は良い天気ですね。C++ & 42", [-0.046218, 0.107047, 0.00735, -0.061525]),
    ],
)
def test_the_vectors_are_those_of_the_package(
    embedder: LocalEmbedder, text: str, begins: list[float]
) -> None:
    assert embedder.embed(text)[:4].tolist() == pytest.approx(begins, abs=2e-6)


@pytest.mark.parametrize("text", ["a", " ", "\n", "\x00", "🜚", "egg " * 3000, "x" * 5000])
def test_every_vector_is_one_long(embedder: LocalEmbedder, text: str) -> None:
    vector = embedder.embed(text)
    assert vector.shape == (DIMENSIONS,)
    assert vector.dtype == "float32"
    assert float(vector @ vector) == pytest.approx(1.0, abs=1e-5)


def test_what_is_alike_is_closer_than_what_is_not(embedder: LocalEmbedder) -> None:
    egg, boiling, tax = map(
        embedder.embed, ("How do I boil an egg?", "how to boil eggs", "When is my income tax due?")
    )
    assert egg @ boiling > 0.7 > 0.4 > egg @ tax


def test_the_same_text_has_the_same_vector(embedder: LocalEmbedder) -> None:
    assert (embedder.embed("Is it raining?") == embedder.embed("Is it raining?")).all()


def test_a_text_without_a_token_has_no_vector(embedder: LocalEmbedder) -> None:
    with pytest.raises(EmbedderError, match="without a token"):
        embedder.embed("")


def test_nothing_of_the_package_is_imported_and_nobody_is_asked() -> None:
    source = (
        "import logging, socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from sidecar.cache.meaning.local_embedder import LocalEmbedder\n"
        "LocalEmbedder().embed('How do I boil an egg?')\n"
        "print({'wordllama', 'huggingface_hub', 'requests', 'safetensors'} & {*sys.modules})\n"
        "print(logging.getLogger().handlers)"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("set()\n[]\n", "")


# --- identity ---


def test_the_identity_is_of_the_files_not_of_their_place(embedder: LocalEmbedder, folder: Path) -> None:
    assert LocalEmbedder(folder).identity == embedder.identity
    assert embedder.identity.startswith("wordllama-256-")


@pytest.mark.parametrize("name", [WEIGHTS, TOKENIZER])
def test_other_numbers_or_tokens_are_another_identity(
    embedder: LocalEmbedder, folder: Path, name: str
) -> None:
    content = bytearray((folder / name).read_bytes())
    if name == WEIGHTS:
        content[-1] ^= 1
    else:
        content += b"\n"
    (folder / name).write_bytes(content)
    assert LocalEmbedder(folder).identity != embedder.identity


# --- files that are no good ---


def refused(folder: Path) -> str:
    with pytest.raises(EmbedderError) as raised:
        LocalEmbedder(folder)
    said = str(raised.value)
    assert "\n" not in said
    assert said.startswith(str(folder))
    assert "pip install --force-reinstall --no-deps" in said
    return said


@pytest.mark.parametrize("name", [WEIGHTS, TOKENIZER])
def test_a_file_that_is_missing_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert name in refused(folder)


@pytest.mark.parametrize("name", [WEIGHTS, TOKENIZER])
def test_a_folder_in_its_place_is_no_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    assert name in refused(folder)


def header(**changes: object) -> bytes:
    """A header of safetensors, its length before it."""
    tensor = {"dtype": "F16", "shape": [32000, 256], "data_offsets": [0, 16384000]} | changes
    text = orjson.dumps({"embedding.weight": tensor})
    return len(text).to_bytes(8, "little") + text


def put_header(content: bytes, **changes: object) -> bytes:
    return header(**changes) + content[HEADER_BYTES:]


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "seven bytes": lambda content: content[:7],
    "its header alone": lambda content: content[:HEADER_BYTES],
    "half": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "an HTML page": lambda content: b"<!doctype html><title>Not Found</title>" * 1000,
    "a length of nothing": lambda content: bytes(8) + content[8:],
    "a huge length": lambda content: b"\xff" * 8 + content[8:],
    "a length past its end": lambda content: (60_000).to_bytes(8, "little") + b"{}",
    "garbage for a header": lambda content: content[:8] + b"\x80" * 88 + content[HEADER_BYTES:],
    "a header of another kind": lambda content: (2).to_bytes(8, "little") + b"[]" + content,
    "another tensor": lambda content: content.replace(b"embedding.weight", b"embedding.height", 1),
    "float32": lambda content: put_header(content, dtype="F32"),
    "another width": lambda content: put_header(content, shape=[64000, 128]),
    "three dimensions": lambda content: put_header(content, shape=[32000, 256, 1]),
    "a shape of words": lambda content: put_header(content, shape=["many", 256]),
    "more rows than bytes": lambda content: put_header(content, shape=[32001, 256]),
    "offsets before it": lambda content: put_header(content, data_offsets=[-512, 16383488]),
    "offsets past its end": lambda content: put_header(content, data_offsets=[512, 16384512]),
    "fewer rows than tokens": lambda content: put_header(
        content, shape=[31999, 256], data_offsets=[0, 16383488]
    ),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_weights_that_are_no_good_are_refused(folder: Path, spoil: Callable[[bytes], bytes]) -> None:
    path = folder / WEIGHTS
    path.write_bytes(spoil(path.read_bytes()))
    open_files = len(os.listdir("/proc/self/fd"))
    refused(folder)
    assert len(os.listdir("/proc/self/fd")) == open_files


def test_a_good_header_of_other_length_is_read(embedder: LocalEmbedder, folder: Path) -> None:
    path = folder / WEIGHTS
    path.write_bytes(put_header(path.read_bytes(), note="x" * 1000))
    text = "How do I boil an egg?"
    assert (LocalEmbedder(folder).embed(text) == embedder.embed(text)).all()


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"version": "1.0", "model": {"type"'])
def test_a_tokenizer_that_is_no_good_is_refused(folder: Path, content: bytes) -> None:
    (folder / TOKENIZER).write_bytes(content)
    assert TOKENIZER in refused(folder)


def test_padding_and_cutting_of_the_tokenizer_do_not_count(embedder: LocalEmbedder, folder: Path) -> None:
    path = folder / TOKENIZER
    tree = orjson.loads(path.read_bytes())
    tree["padding"] = {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None}
    tree["padding"] |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"}
    tree["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    path.write_bytes(orjson.dumps(tree))
    text = "How do I boil an egg for ten minutes?"
    assert (LocalEmbedder(folder).embed(text) == embedder.embed(text)).all()


# --- while it runs ---


def test_a_file_cut_short_while_it_runs_costs_one_look_up_not_the_process(folder: Path) -> None:
    embedder = LocalEmbedder(folder)
    embedder.embed("egg")
    os.truncate(folder / WEIGHTS, 1000)
    with pytest.raises(EmbedderError, match="cut short"):
        embedder.embed("egg")


def test_a_table_of_no_numbers_gives_no_vector(folder: Path) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:HEADER_BYTES] + b"\xff" * 16384000)  # NaN
    with pytest.raises(EmbedderError, match="without a direction"):
        LocalEmbedder(folder).embed("egg")


def test_an_upgrade_of_the_package_does_not_change_what_is_open(folder: Path) -> None:
    embedder = LocalEmbedder(folder)
    before = embedder.embed("egg")
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).write_bytes(b"something else")
    assert (embedder.embed("egg") == before).all()


def test_once_closed_it_reads_no_other_file(folder: Path) -> None:
    embedder = LocalEmbedder(folder)
    embedder.close()
    embedder.close()
    with open(folder / TOKENIZER, "rb"), pytest.raises(EmbedderError, match="cannot be read"):
        embedder.embed("egg")


def test_it_is_closed_when_nobody_has_it_any_more(folder: Path) -> None:
    open_files = len(os.listdir("/proc/self/fd"))
    LocalEmbedder(folder)
    assert len(os.listdir("/proc/self/fd")) == open_files
