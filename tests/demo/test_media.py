from __future__ import annotations

import base64
import hashlib
import math
from pathlib import Path

import aiohttp
import pytest
from openai import AsyncOpenAI

from sidecar.demo.provider import DemoProvider
from sidecar.demo.received import UPLOAD_KEPT_BYTES


async def test_embeddings_are_the_same_in_both_encodings(sdk: AsyncOpenAI) -> None:
    # Not named, the SDK asks for base64 and decodes it.
    packed = await sdk.embeddings.create(model="e", input=["é 中", "other"], dimensions=32)
    floats = await sdk.embeddings.create(
        model="e", input=["é 中", "other"], dimensions=32, encoding_format="float"
    )
    assert [len(entry.embedding) for entry in floats.data] == [32, 32]
    for entry, same in zip(packed.data, floats.data, strict=True):
        assert all(
            math.isclose(a, b, abs_tol=1e-6) for a, b in zip(entry.embedding, same.embedding, strict=True)
        )


async def test_moderations_flag_an_attack(sdk: AsyncOpenAI) -> None:
    answer = await sdk.moderations.create(input=["a calm day", "they attack"])
    assert [result.flagged for result in answer.results] == [False, True]


async def test_images_are_png(sdk: AsyncOpenAI) -> None:
    answer = await sdk.images.generate(model="i", prompt="a lighthouse", n=2)
    assert answer.data is not None and len(answer.data) == 2
    assert base64.b64decode(answer.data[0].b64_json or "").startswith(b"\x89PNG")


async def test_a_transcription_reports_the_size_and_hash_of_what_arrived(
    provider: DemoProvider, sdk: AsyncOpenAI, tmp_path: Path
) -> None:
    audio = bytes(range(256)) * 8192 + b"\r\n--"  # 2 MiB, with the beginning of a boundary in it
    recording = tmp_path / "a.wav"
    recording.write_bytes(audio)
    answer = await sdk.audio.transcriptions.create(model="whisper-1", file=recording)
    extra = answer.model_extra or {}
    assert (extra["bytes"], extra["sha256"]) == (len(audio), hashlib.sha256(audio).hexdigest())
    assert "eu-west-1" in answer.text
    assert len(provider.requests[-1].body) == UPLOAD_KEPT_BYTES


async def test_a_small_upload_is_kept_byte_for_byte(
    provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    body = (
        b'--cut\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{}\r\n--cut\r\n'
        b"--cut--\r\nepilogue"
    )
    body = body.replace(b"\r\n--cut\r\n--cut--", b"\r\n--cut--")
    headers = {"content-type": "multipart/form-data; boundary=cut"}
    async with http.post("/v1/files", data=body, headers=headers) as answer:
        file = await answer.json()
    assert (file["filename"], file["purpose"], file["bytes"]) == ("a.jsonl", "batch", 2)
    assert provider.requests[-1].body == body


@pytest.mark.parametrize("headers", [{}, {"content-type": "multipart/form-data; boundary=cut"}])
async def test_an_upload_that_is_no_form_is_a_400(
    http: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    async with http.post("/v1/files", data=b"nothing of the kind", headers=headers) as answer:
        assert (answer.status, (await answer.json())["error"]["type"]) == (400, "invalid_request_error")


async def test_realtime_says_everything_back(provider: DemoProvider, http: aiohttp.ClientSession) -> None:
    async with http.ws_connect("/v1/realtime", params={"model": "m"}) as socket:
        await socket.send_str("é 中")
        await socket.send_bytes(b"\x00\xff")
        assert await socket.receive_str() == "é 中"
        assert await socket.receive_bytes() == b"\x00\xff"
    assert provider.requests[-1].path == "/v1/realtime?model=m"


async def test_a_refused_upgrade_has_the_providers_status(
    provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    provider.scenario.update({"error_ratio": 1, "error_status": 429, "errors_on_get": True})
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http.ws_connect("/v1/realtime")
    assert refused.value.status == 429
