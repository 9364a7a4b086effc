"""This project's server, asked for a stream as a client with openai-python would."""

import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp

from deploy.bench.closed_loop import Answered
from deploy.bench.questions import Question
from deploy.bench.schedule import conclusion
from swires.stages import TAGS

DATA = b"data: "
STREAM = {"model": "demo", "stream": True, "stream_options": {"include_usage": True}}


async def ask_ours(session: aiohttp.ClientSession, url: str, swires: Mapping[str, Any], question: Question) -> Answered:
    body = {**STREAM, "messages": [question.message()], "swires": swires}
    text, first_s, told, started = "", 0.0, dict[str, Any](), time.perf_counter()
    async for chunk in streamed(session, url, body):
        for choice in chunk["choices"]:
            delta = choice["delta"]
            first_s = first_s or _first(f"{delta.get('reasoning') or ''}{delta.get('content') or ''}", started)
            text += delta.get("content") or ""
        told = chunk.get("swires") or told
    tokens = told["tokens"]["winner"] + told["tokens"]["discarded"] + told["tokens"]["aborted"]
    return Answered(text, tokens, told["generations"], first_s, time.perf_counter() - started)


async def ask_vllm(session: aiohttp.ClientSession, url: str, ends: Mapping[str, Any], question: Question) -> Answered:
    """vLLM's own server, for one answer by the likeliest tokens."""
    body = {**STREAM, "messages": [question.message()], "temperature": 0, "skip_special_tokens": False, **ends}
    text, first_s, tokens, started = "", 0.0, 0, time.perf_counter()
    async for chunk in streamed(session, url, body):
        for choice in chunk["choices"]:
            text += choice["delta"].get("content") or ""
            first_s = first_s or _first(text, started)
        if chunk.get("usage"):
            tokens = chunk["usage"]["completion_tokens"]
    return Answered(conclusion(text), tokens, 1, first_s, time.perf_counter() - started)


def _first(text: str, started: float) -> float:
    """Seconds until there is text, tags aside; 0 where there is none yet."""
    for tag in TAGS:
        text = text.replace(tag, "")
    return time.perf_counter() - started if text.strip() else 0.0


async def streamed(session: aiohttp.ClientSession, url: str, body: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    async with session.post(f"{url}/v1/chat/completions", json=body) as reply:
        reply.raise_for_status()
        async for line in reply.content:
            if line.startswith(DATA) and b"[DONE]" not in line:
                yield json.loads(line[len(DATA) :])
