"""Whatever is asked, whatever an engine writes, cut or not: a stream tells what the answer tells, in both APIs."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, get_args

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from server.app import create_app
from server.engine.fake import FakeEngine
from server.responses_schemas import LOGPROBS
from server.scorer.fake import FakeScorer
from server.settings import PolicyName, Settings
from swires.errors import EngineError
from swires.parser import parse
from swires.stages import TAGS, Stage
from swires.types import FinishReason, Problem, Sampling
from tests.server.client import Json, chunks, connect
from tests.server.test_responses import events, without_id
from tests.swires.scripted import run

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
QUESTION = "How many?"
SETTINGS = Settings(model="demo")
TOKEN_S = 0.01
TIMEOUTS_S = (0.0531, 0.3177, 1.0233, 60.0)  # none of them, and no share of them, ends with a token
PARTS = (*TAGS, "<", "</", "<CONC", "</CONCLUSION", "<B>", " ", "\n", ".", "END", "two words", "\u00e9", "\u2028", "😀")
STOPS = ("END", "E", "\n", "wo w", "</CONCLUSION>", "😀", ".")

some = settings(max_examples=25)


class Scribbler(FakeEngine):
    """Writes tags and words in any order, a token at its time, and fails at times. Tags are as many tokens as they have
    characters."""

    def __init__(self, failing: float) -> None:
        super().__init__(step=lambda: asyncio.sleep(TOKEN_S))
        self._failing = failing

    def _written(
        self, problem: Problem, prefix: tuple[int, ...], stage: Stage, sampling: Sampling, chance: Random
    ) -> tuple[tuple[int, ...], FinishReason]:
        if chance.random() < self._failing:
            raise EngineError("failed")
        if chance.random() < 0.4:
            return super()._written(problem, prefix, stage, sampling, chance)
        text = "".join(chance.choices(PARTS, k=chance.randint(0, 12)))
        ends = [text.index(end) + len(end) for end in (stage.closing, *sampling.stop) if end in text]
        ids = self.encode(text[: min(ends, default=len(text))])
        return ids[: sampling.max_tokens], "length" if len(ids) > sampling.max_tokens else "stop"


@dataclass(frozen=True)
class Asked:
    policy: PolicyName
    seed: int
    n: int
    raw: bool
    stops: Sequence[str]
    logprobs: bool
    max_tokens: int | None
    timeout_s: float
    events: bool
    failing: float

    def chat(self, **more: object) -> Json:
        of_content = {} if self.raw else {"stop": self.stops, "logprobs": self.logprobs}
        messages = [{"role": "user", "content": QUESTION}]
        return {
            "messages": messages,
            "n": self.n,
            "max_tokens": self.max_tokens,
            **of_content,
            **self._common(),
            **more,
        }

    def response(self, **more: object) -> Json:
        of_content = {"include": [LOGPROBS]} if self.logprobs and not self.raw else {}
        return {"input": QUESTION, "max_output_tokens": self.max_tokens, **of_content, **self._common(), **more}

    def _common(self) -> Json:
        options = {"policy": self.policy, "raw": self.raw, "events": self.events, "timeout_s": self.timeout_s}
        return {"model": "demo", "seed": self.seed, "swires": options}

    def posted(self, path: str, body: Json) -> httpx.Response:
        """The reply, where time passes only for tokens."""

        async def main() -> httpx.Response:
            async with Scribbler(self.failing) as engine:
                app = create_app(engine, {"fake": FakeScorer()}, SETTINGS)
                async with connect(app) as client:
                    reply = await client.post(path, json=body)
                assert engine.num_running == 0
            return reply

        return run(main())


ASKED = st.builds(
    Asked,
    policy=st.sampled_from(get_args(PolicyName)),
    seed=st.integers(0, 9999),
    n=st.integers(1, 3),
    raw=st.booleans(),
    stops=st.lists(st.sampled_from(STOPS), max_size=2),
    logprobs=st.booleans(),
    max_tokens=st.none() | st.integers(1, 120),
    timeout_s=st.sampled_from(TIMEOUTS_S) | st.just(60.0),
    events=st.booleans(),
    failing=st.sampled_from([0.0, 0.0, 0.1]),
)


def answered(reply: httpx.Response) -> Json:
    told: Json = reply.json()
    assert reply.status_code in (200, 500, 504), told
    return told


def search_of(told: Json) -> Json:
    return without_id(told["swires"])


def read_chat(reply: httpx.Response) -> Json:
    """What the chunks of a chat come to."""
    if reply.status_code != 200:
        return told_chat(answered(reply))
    parts = chunks(reply)
    if "error" in parts[-1]:
        return {"error": parts[-1]["error"]}
    choices: dict[int, Json] = {}
    for choice in (choice for part in parts for choice in part["choices"]):
        told = choices.setdefault(choice["index"], {"content": "", "reasoning": ""})
        for key in ("content", "reasoning"):
            told[key] += choice["delta"].get(key, "")
        if choice["finish_reason"]:
            assert "finish_reason" not in told
            told |= {key: choice[key] for key in ("finish_reason", "logprobs")}
    *_, last, usage = parts
    search = {key: value for key, value in search_of(last).items() if key != "event"}
    return {"choices": [choices[index] for index in sorted(choices)], "usage": usage["usage"], "swires": search}


def told_chat(told: Json) -> Json:
    """The same of a whole answer."""
    if "error" in told:
        return {"error": told["error"]}
    choices = [
        {
            "content": choice["message"]["content"],
            "reasoning": choice["message"]["reasoning"] or "",
            "finish_reason": choice["finish_reason"],
            "logprobs": choice["logprobs"],
        }
        for choice in told["choices"]
    ]
    return {"choices": choices, "usage": told["usage"], "swires": search_of(told)}


@some
@given(ASKED)
def test_a_chat(asked: Asked) -> None:
    whole = told_chat(answered(asked.posted(CHAT, asked.chat())))
    streaming = {"stream": True, "stream_options": {"include_usage": True}}
    assert read_chat(asked.posted(CHAT, asked.chat(**streaming))) == whole


def read_response(reply: httpx.Response) -> Json:
    """What the events of a response come to; their deltas make up its texts."""
    if reply.status_code != 200:
        return answered(reply)
    told = events(reply)
    if told[-1]["type"] == "response.failed":
        error = told[-2]
        return {"error": {key: error[key] for key in ("message", "code", "param")}}
    response: Json = told[-1]["response"]
    for index, item in enumerate(response["output"]):
        of_item = [event for event in told if event.get("output_index") == index]
        deltas = [event["delta"] for event in of_item if event["type"].endswith("_text.delta")]
        assert "".join(deltas) == item["content"][0]["text"]
    assert told[-1]["type"] == f"response.{response['status']}"
    return response


def told_response(told: Json) -> Json:
    if "error" in told and told["error"] is not None:
        return {"error": {key: value for key, value in told["error"].items() if key != "type"}}
    output = [without_id(item) for item in told["output"]]
    return {"status": told["status"], "output": output, "usage": told["usage"], "swires": search_of(told)}


@some
@given(ASKED)
def test_a_response(asked: Asked) -> None:
    whole = told_response(answered(asked.posted(RESPONSES, asked.response())))
    assert told_response(read_response(asked.posted(RESPONSES, asked.response(stream=True)))) == whole


def texts(output: Sequence[Json], kind: str) -> list[str]:
    return [item["content"][0]["text"] for item in output if item["type"] == kind]


@some
@given(ASKED)
def test_both_apis_and_the_transcript(asked: Asked) -> None:
    """One answer without stop strings, in three ways."""
    plain: dict[str, Any] = {"n": 1, "stop": []} if not asked.raw else {"n": 1}
    chat = told_chat(answered(asked.posted(CHAT, asked.chat(**plain))))
    response = told_response(answered(asked.posted(RESPONSES, asked.response())))
    if "error" in chat:
        assert response["error"]["code"] == chat["error"]["code"]
        return
    (choice,) = chat["choices"]
    assert texts(response["output"], "message") == [choice["content"]]
    assert "\n\n".join(texts(response["output"], "reasoning")) == choice["reasoning"]
    assert response["status"] == {"stop": "completed", "length": "incomplete"}[choice["finish_reason"]]
    assert response["swires"] == chat["swires"]
    assert response["usage"]["output_tokens"] == chat["usage"]["completion_tokens"]
    assert response["usage"]["output_tokens_details"] == chat["usage"]["completion_tokens_details"]

    options = asked.chat()["swires"] | {"raw": True}
    raw = {"n": 1, "swires": options, "stop": [], "logprobs": False}
    ((transcript, sections),) = [
        (told["content"], parse(told["content"]))
        for told in told_chat(answered(asked.posted(CHAT, asked.chat(**raw))))["choices"]
    ]
    if asked.raw:
        assert choice["content"] == transcript
    else:
        assert choice["content"] == "".join(each.text for each in sections if each.stage is Stage.CONCLUSION)
        assert choice["reasoning"] == "\n\n".join(each.text for each in sections if each.stage is not Stage.CONCLUSION)
