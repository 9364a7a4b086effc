"""The Responses API over a fake engine: the same searches as of chats, told in items."""

import json
from collections.abc import Sequence

import httpx
import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from server.app import create_app
from server.content import Content
from server.engine.fake import FakeEngine
from server.presets import PRESETS
from server.responses import Output
from server.scorer.fake import FakeScorer
from server.settings import Settings
from swires.errors import EngineError
from swires.parser import Piece
from swires.protocols import Scores
from swires.stages import Stage
from swires.types import Problem, Trajectory
from tests.server.client import Json, ask, connect, image_url
from tests.server.conftest import Started
from tests.server.running import running

QUESTION = "How many?"
EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)


async def post(client: httpx.AsyncClient, **fields: object) -> httpx.Response:
    return await client.post("/v1/responses", json={"model": "demo", "input": QUESTION, "seed": 1, **fields})


async def answered(client: httpx.AsyncClient, **fields: object) -> Json:
    reply = await post(client, **fields)
    assert reply.status_code == 200, reply.text
    told: Json = reply.json()
    Response.model_validate(told)
    return told


def events(reply: httpx.Response) -> list[Json]:
    """Those of a whole stream, each checked against the types of OpenAI's package."""
    assert reply.headers["content-type"].startswith("text/event-stream")
    *told, rest = reply.text.split("\n\n")
    assert rest == ""
    found = []
    for each in told:
        name, data = each.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        if not event["type"].startswith("swires."):
            EVENT.validate_python(event)
        found.append(event)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


async def chatted(client: httpx.AsyncClient, **fields: object) -> Json:
    """The answer to the same question in a chat."""
    reply: Json = (await ask(client, messages=[{"role": "user", "content": QUESTION}], **fields)).json()
    return reply


async def test_the_shape_of_a_response(client: httpx.AsyncClient) -> None:
    told, chat = await answered(client), await chatted(client)
    assert told["id"].startswith("resp_")
    assert (told["object"], told["status"], told["model"], told["store"]) == ("response", "completed", "demo", False)
    *reasoning, message = told["output"]
    assert [item["swires"]["stage"] for item in reasoning] == ["SUMMARY", "CAPTION", "REASONING"]
    for item, stage in zip(reasoning, chat["swires"]["stages"], strict=False):
        assert item["type"] == "reasoning"
        assert item["content"] == [{"type": "reasoning_text", "text": stage["text"]}]
    assert message["role"] == "assistant"
    assert message["content"] == [
        {"type": "output_text", "text": chat["choices"][0]["message"]["content"], "annotations": [], "logprobs": []}
    ]
    assert len({item["id"] for item in told["output"]}) == 4
    usage = chat["usage"]
    assert told["usage"]["output_tokens"] == usage["completion_tokens"]
    assert told["usage"]["output_tokens_details"] == usage["completion_tokens_details"]
    assert told["usage"]["input_tokens"] == usage["prompt_tokens"]
    assert told["swires"]["generations"] == chat["swires"]["generations"]
    assert told["swires"]["id"] == told["id"]


async def test_a_response_repeats_what_was_asked(client: httpx.AsyncClient) -> None:
    fields: Json = {
        "instructions": "Be brief.", "max_output_tokens": 500, "temperature": 0.1, "top_p": 0.5, "user": "me",
        "metadata": {"a": "b"}, "store": False, "reasoning": {"effort": "low"}, "parallel_tool_calls": False,
        "text": {"format": {"type": "json_object"}}, "safety_identifier": "x", "prompt_cache_key": "k",
    }  # fmt: skip
    told = await answered(client, **fields)
    repeated = {name: told[name] for name in fields if name not in ("reasoning", "text")}
    assert repeated == {name: value for name, value in fields.items() if name in repeated}
    assert told["reasoning"] == {"effort": "low", "summary": None}
    assert told["text"] == {"format": {"type": "json_object"}, "verbosity": "medium"}
    assert told["swires"]["preset"] == "fast"
    assert told["swires"]["budget"]["max_answer_tokens"] == 500


async def test_what_was_not_asked_is_told_as_it_is(client: httpx.AsyncClient) -> None:
    told = await answered(client)
    assert (told["temperature"], told["top_p"], told["text"]["format"]) == (0.6, 0.9, {"type": "text"})


async def test_temperature_0_is_told_as_what_it_is_sampled_at(client: httpx.AsyncClient) -> None:
    assert (await answered(client, temperature=0))["temperature"] == 0.6


@pytest.mark.parametrize("policy", PRESETS["balanced"])
@pytest.mark.parametrize("raw", [False, True])
async def test_a_stream_tells_what_the_response_tells(client: httpx.AsyncClient, policy: str, raw: bool) -> None:
    swires = {"policy": policy, "raw": raw}
    whole, stream = await answered(client, swires=swires), events(await post(client, swires=swires, stream=True))
    first, second, *middle, last = stream
    assert [first["type"], second["type"], last["type"]] == [
        "response.created", "response.in_progress", "response.completed",
    ]  # fmt: skip
    assert (first["response"]["status"], first["response"]["output"]) == ("in_progress", [])
    done = [event["item"] for event in middle if event["type"] == "response.output_item.done"]
    assert last["response"]["output"] == done
    assert [without_id(item) for item in done] == [without_id(item) for item in whole["output"]]
    for index, item in enumerate(done):
        told = [event for event in middle if event["output_index"] == index]
        kind = item["content"][0]["type"]
        assert [event["type"] for event in told if event["type"] != f"response.{kind}.delta"] == [
            "response.output_item.added", "response.content_part.added", f"response.{kind}.done",
            "response.content_part.done", "response.output_item.done",
        ]  # fmt: skip
        assert {event["item_id"] for event in told if "item_id" in event} == {item["id"]}
        deltas = [event["delta"] for event in told if event["type"] == f"response.{kind}.delta"]
        assert "".join(deltas) == item["content"][0]["text"]
    assert [event["output_index"] for event in middle] == sorted(event["output_index"] for event in middle)


def without_id(item: Json) -> Json:
    return {key: value for key, value in item.items() if key != "id"}


async def test_the_summary_comes_while_it_is_sampled(client: httpx.AsyncClient) -> None:
    stream = events(await post(client, stream=True))
    summary = [event for event in stream if event["type"].endswith("_text.delta") and event["output_index"] == 0]
    assert len(summary) > 5


async def test_events_of_the_search_go_by_names_of_their_own(client: httpx.AsyncClient) -> None:
    stream = events(await post(client, stream=True, swires={"events": True}))
    names = {event["type"] for event in stream if event["type"].startswith("swires.")}
    assert {"swires.stage_started", "swires.candidate_finished", "swires.stage_chosen"} <= names


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_that_is_cut_is_incomplete(client: httpx.AsyncClient, stream: bool) -> None:
    reply = await post(client, stream=stream, max_output_tokens=5, model="demo:greedy")
    if stream:
        last = events(reply)[-1]
        assert last["type"] == "response.incomplete"
    told = last["response"] if stream else reply.json()
    assert (told["status"], told["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    message = told["output"][-1]
    assert (message["type"], message["status"], message["content"][0]["text"]) == ("message", "incomplete", "")


def test_a_conclusion_that_a_stage_comes_after_is_the_one_message() -> None:
    output = Output("resp_1")
    for piece in (Piece(Stage.CONCLUSION, "4", True), Piece(Stage.REASONING, "2 + 2", True)):
        output.grow(piece)
    told = output.finish(Content("4", ("2 + 2",), finished=True, num_tokens=1, logprobs=()))
    assert [item["type"] for item in output.items] == ["message", "reasoning"]
    assert told[-1] == {"type": "response.output_item.done", "output_index": 1, "item": output.items[-1]}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_dry_run(client: httpx.AsyncClient, stream: bool) -> None:
    reply = await post(client, stream=stream, swires={"dry_run": True})
    told = events(reply)[-1]["response"] if stream else reply.json()
    assert (told["output"], told["usage"]["output_tokens"]) == ([], 0)
    assert told["swires"]["dry_run"]["least"]["generations"] == 12


async def test_logprobs(client: httpx.AsyncClient) -> None:
    fields = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    (part,) = (await answered(client, **fields))["output"][-1]["content"]
    assert "".join(token["token"] for token in part["logprobs"]) == part["text"]
    assert all(len(token["top_logprobs"]) == 2 for token in part["logprobs"])
    (done,) = [
        each
        for each in events(await post(client, stream=True, **fields))
        if each["type"] == "response.output_text.done"
    ]
    assert done["logprobs"] == part["logprobs"]


async def test_the_same_conversation_in_both_apis() -> None:
    given: list[Problem] = []

    class Noting(FakeScorer):
        async def score(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
            given.append(problem)
            return await super().score(problem, trajectories)

    async with FakeEngine() as engine:
        app = create_app(engine, {"noting": Noting()}, Settings.model_validate({"model": "demo", "max_images": 2}))
        async with connect(app) as client:
            image = {"type": "input_image", "image_url": image_url(), "detail": "high"}
            earlier = (await answered(client))["output"]
            told = await answered(
                client,
                instructions="Be brief.",
                input=[
                    {"role": "developer", "content": "In English."},
                    {"role": "user", "content": [image, {"type": "input_text", "text": "One?"}]},
                    *earlier,
                    {"type": "message", "role": "user", "content": [image, {"type": "input_text", "text": "Two?"}]},
                ],
            )
    content = earlier[-1]["content"][0]["text"]
    sent = {"type": "image_url", "image_url": {"url": image_url()}}
    assert told["status"] == "completed"
    assert given[-1].messages == (
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "system", "content": [{"type": "text", "text": "In English."}]},
        {"role": "user", "content": [sent, {"type": "text", "text": "One?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": content}]},
        {"role": "user", "content": [sent, {"type": "text", "text": "Two?"}]},
    )


def parts(*given: object) -> Json:
    return {"input": [{"role": "user", "content": "x"}, {"role": "user", "content": list(given)}]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": ""}, None),
        ({"input": "\0"}, "input"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0]"),
        ({"input": [{"type": "function_call_output", "call_id": "x", "output": "y"}]}, "input[0]"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"input": ["x"]}, "input[0]"),
        ({"input": [{"role": "system", "content": "x"}]}, "input"),
        ({"input": [{"role": "user", "content": "x"}, {"type": "reasoning", "summary": []}]}, "input"),
        ({"input": [{"role": "user", "content": []}]}, "input[0].content"),
        ({"input": [{"role": "developer", "content": 5}]}, "input[0].content"),
        (parts({"type": "input_file", "file_id": "x"}), "input[1].content[0]"),
        (parts({"type": "input_text"}), "input[1].content[0].text"),
        (parts({"type": "input_image", "image_url": "", "file_id": "x"}), "input[1].content[0].file_id"),
        (parts({"type": "input_image", "image_url": "http://x/y.png"}), "input[1].content[0].image_url"),
        (parts({"type": "input_image", "image_url": "data:image/png;base64,AAAA"}), "input[1].content[0].image_url"),
        (parts(*[{"type": "input_image", "image_url": image_url()}] * 2), "input[1].content[1].image_url"),
        ({"input": "x" * 5000}, "input"),
        ({"instructions": ["x"]}, "instructions"),
        ({"model": "gpt"}, "model"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"n": 2}, "n"),
        ({"stop": "x"}, "stop"),
        ({"messages": []}, "messages"),
        ({"reasoning": {"effort": "extreme"}}, "reasoning.effort"),
        ({"reasoning": {"summary": "auto"}}, "reasoning.summary"),
        ({"text": {"verbosity": "high"}}, "text.verbosity"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "what"}}}}, "text.format"),
        ({"include": ["reasoning.encrypted_content"]}, "include[0]"),
        ({"include": ["message.output_text.logprobs"], "swires": {"raw": True}}, "include"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stream_options": {"include_obfuscation": False}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"store": True}, "store"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"max_tool_calls": 1}, "max_tool_calls"),
        ({"truncation": "auto"}, "truncation"),
        ({"prompt": {"id": "x"}}, "prompt"),
        ({"context_management": []}, "context_management"),
        ({"moderation": {}}, "moderation"),
        ({"swires": {"captions": 0}}, "swires.captions"),
    ],
)
async def test_a_refusal_names_the_field(client: httpx.AsyncClient, fields: Json, param: str | None) -> None:
    reply = await post(client, **fields)
    if param is None:
        assert reply.status_code == 200
        return
    assert 400 <= reply.status_code < 500
    error = reply.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


async def test_what_asks_for_nothing_is_let_in(client: httpx.AsyncClient) -> None:
    await answered(
        client, store=False, background=False, tools=[], tool_choice="auto", truncation="disabled", include=[],
        previous_response_id=None, text={"format": {"type": "text"}, "verbosity": "medium"}, reasoning={},
        parallel_tool_calls=True, service_tier="auto", prompt_cache_retention="24h",
    )  # fmt: skip


async def test_a_failure_in_a_stream_is_told_and_ends_it(started: Started) -> None:
    async def fail() -> None:
        raise EngineError("worker at 10.0.0.7 is gone")

    engine = FakeEngine()
    async with started(engine) as app, connect(app) as client:
        engine._step = fail
        *_, error, last = events(await post(client, stream=True))
        whole = await post(client)
    assert (error["type"], error["code"]) == ("error", "engine_error")
    assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
    assert last["response"]["error"]["message"] == error["message"] == "the engine failed on this request"
    assert (whole.status_code, whole.json()["error"]["code"]) == (500, "engine_error")


class Count(BaseModel):
    count: int


async def test_openai_python_reads_responses(serving: Started) -> None:
    async with serving() as app, running(app) as server, server.openai() as client:
        whole = await client.responses.create(model="demo", input=QUESTION, temperature=0)
        parsed = await client.responses.parse(model="demo", input=QUESTION, text_format=Count)
        again = await client.responses.create(
            model="demo",
            input=[{"role": "user", "content": QUESTION}, *whole.output, {"role": "user", "content": "Sure?"}],  # type: ignore[list-item]
        )
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(model="demo", input=QUESTION, previous_response_id=whole.id)
    assert [item.type for item in whole.output] == ["reasoning"] * 3 + ["message"]
    assert whole.output_text
    assert isinstance(parsed.output_parsed, Count)
    assert again.status == "completed"
    assert refused.value.param == "previous_response_id"


async def test_openai_python_reads_a_stream_of_events(serving: Started) -> None:
    async with serving() as app, running(app) as server, server.openai() as client:
        whole = await client.responses.create(model="demo", input=QUESTION, temperature=0)
        texts = {"response.reasoning_text.delta": "", "response.output_text.delta": ""}
        async for event in await client.responses.create(model="demo", input=QUESTION, temperature=0, stream=True):
            if event.type in ("response.reasoning_text.delta", "response.output_text.delta"):
                texts[event.type] += event.delta
        async with client.responses.stream(
            model="demo", input=QUESTION, text_format=Count, extra_body={"swires": {"events": True}}
        ) as stream:
            kinds = {event.type async for event in stream}
            parsed = await stream.get_final_response()
    told = whole.to_dict()["output"]
    assert isinstance(told, list)
    assert texts["response.reasoning_text.delta"] == "".join(item["content"][0]["text"] for item in told[:-1])
    assert texts["response.output_text.delta"] == whole.output_text
    assert "swires.stage_started" in kinds
    assert isinstance(parsed.output_parsed, Count)
    assert len(tuple(Stage)) == len(parsed.output)
