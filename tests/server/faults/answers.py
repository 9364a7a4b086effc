"""How a request may end: with one answer, whole or told as failed."""

import httpx

from tests.server.client import Json, chunks


def error_of(reply: httpx.Response, *, stream: bool) -> Json:
    """The one error that ends it. A stream that has begun tells it in its last chunk, and [DONE] follows."""
    if not stream or reply.status_code != 200:
        error: Json = reply.json()["error"]
        return error
    *before, last = chunks(reply)
    assert not any("error" in chunk for chunk in before)
    told: Json = last["error"]
    return told


def search_of(reply: httpx.Response, *, stream: bool) -> Json:
    """What the answer tells of its search, which has ended with an answer and no error."""
    assert reply.status_code == 200, reply.text
    if not stream:
        told: Json = reply.json()["swires"]
        return told
    all_chunks = chunks(reply)
    assert not any("error" in chunk for chunk in all_chunks)
    ends = [chunk for chunk in all_chunks if any(choice["finish_reason"] for choice in chunk["choices"])]
    assert len(ends) == 1
    facts: Json = ends[0]["swires"]
    return facts
