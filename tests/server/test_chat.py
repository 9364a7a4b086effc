"""The chat route over a fake engine: what is answered, and that a stream tells the same."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict
from itertools import pairwise

import httpx
import pytest

from server import routes
from server.app import create_app
from server.engine.fake import FakeEngine
from server.presets import PRESETS
from server.scorer.fake import FakeScorer
from server.settings import Settings
from server.sse import DONE, KEEP_ALIVE
from swires import policies
from swires.errors import EngineError
from swires.policies import Swires
from swires.protocols import Scores
from swires.scheduler import Scheduler
from swires.stages import Stage
from swires.types import Problem, Trajectory
from tests.server.client import Held, Json, RawRequest, ask, chat, chunks, connect, image_url
from tests.server.conftest import Started

POLICIES = tuple(PRESETS["balanced"])
TEXT = {"messages": [{"role": "user", "content": "How many?"}]}


def json_schema(schema: Json) -> Json:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


async def message_of(client: httpx.AsyncClient, **fields: object) -> Json:
    reply = await ask(client, **fields)
    assert reply.status_code == 200, reply.text
    message: Json = reply.json()["choices"][0]["message"]
    return message


def joined(parts: list[Json], key: str) -> str:
    return "".join(choice["delta"].get(key, "") for chunk in parts for choice in chunk["choices"])


async def test_the_shape_of_an_answer(client: httpx.AsyncClient) -> None:
    reply = (await ask(client)).json()
    assert reply["id"].startswith("chatcmpl-")
    assert (reply["object"], reply["model"]) == ("chat.completion", "demo")
    (choice,) = reply["choices"]
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "stop", None)
    summary, caption, reasoning, conclusion = reply["swires"]["stages"]
    assert [stage["stage"] for stage in reply["swires"]["stages"]] == [stage.name for stage in Stage]
    assert choice["message"] == {
        "role": "assistant",
        "content": conclusion["text"],
        "reasoning": "\n\n".join((summary["text"], caption["text"], reasoning["text"])),
        "refusal": None,
    }
    assert "<" not in choice["message"]["content"] + choice["message"]["reasoning"]


async def test_what_the_answer_tells_of_its_search(client: httpx.AsyncClient) -> None:
    reply = (await ask(client, swires={"max_retraces": 0})).json()
    told, usage = reply["swires"], reply["usage"]
    assert set(told) == {
        "id", "policy", "preset", "scorer", "numbers", "budget", "scorer_degraded", "stages", "generations", "retraces",
        "score", "accepted", "stopped_by", "tokens", "seconds", "trace",
    }  # fmt: skip
    assert set(told["tokens"]) == {"prompt", "winner", "discarded", "aborted", "scored", "cached", "computed"}
    assert (told["policy"], told["preset"], told["scorer"]) == ("swires", "balanced", "fake")
    assert (told["generations"], told["retraces"], told["stopped_by"], told["trace"]) == (12, 0, None, None)
    assert told["accepted"] in (True, False)
    assert told["numbers"] == asdict(Swires(max_retraces=0, widen=1.7))
    assert told["budget"]["max_generations"] == Settings(model="demo").max_generations
    split = told["tokens"]
    assert usage["completion_tokens"] == split["winner"] + split["discarded"] + split["aborted"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert sum(stage["tokens"] for stage in told["stages"]) == split["winner"]
    in_content = told["stages"][-1]["tokens"]
    assert usage["completion_tokens_details"] == {"reasoning_tokens": usage["completion_tokens"] - in_content}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("policy", POLICIES)
async def test_every_policy_at_every_preset(client: httpx.AsyncClient, policy: str, preset: str) -> None:
    reply = (await ask(client, swires={"policy": policy, "preset": preset})).json()
    assert (reply["swires"]["policy"], reply["swires"]["preset"]) == (policy, preset)
    assert reply["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("fields", "policy", "preset"),
    [
        ({}, "swires", "balanced"),
        ({"model": "demo:greedy"}, "greedy", "balanced"),
        ({"model": "demo:fast"}, "swires", "fast"),
        ({"model": "demo:balanced"}, "swires", "balanced"),
        ({"model": "demo:thorough"}, "swires", "thorough"),
        ({"reasoning_effort": "none"}, "greedy", "balanced"),
        ({"reasoning_effort": "low"}, "swires", "fast"),
        ({"reasoning_effort": "medium"}, "swires", "balanced"),
        ({"reasoning_effort": "high"}, "swires", "thorough"),
        ({"model": "demo:fast", "reasoning_effort": "high"}, "swires", "thorough"),
        ({"reasoning_effort": "high", "swires": {"preset": "fast"}}, "swires", "fast"),
        ({"model": "demo:greedy", "swires": {"policy": "best_of_n"}}, "best_of_n", "balanced"),
    ],
)
async def test_the_most_explicit_choice_wins(client: httpx.AsyncClient, fields: Json, policy: str, preset: str) -> None:
    reply = (await ask(client, **fields)).json()
    assert (reply["swires"]["policy"], reply["swires"]["preset"]) == (policy, preset)
    assert reply["model"] == fields.get("model", "demo")


class Ranker(FakeScorer):
    compares = True
    ranks = True


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_scorer_that_only_ranks_is_refused_where_a_threshold_is(policy: str) -> None:
    async with FakeEngine() as engine:
        settings = Settings.model_validate({"model": "demo"})
        app = create_app(engine, {"fake": FakeScorer(), "ranker": Ranker()}, settings)
        async with connect(app) as client:
            reply = await ask(client, swires={"policy": policy, "scorer": "ranker"})
    if not policies.POLICIES[policy].thresholds:
        assert (reply.status_code, reply.json()["swires"]["scorer"]) == (200, "ranker")
        return
    assert (reply.status_code, reply.json()["error"]) == (
        400,
        {
            "message": f"swires.scorer: ranker only ranks, but {policy} compares scores with a threshold; "
            "policies for ranker are greedy, best_of_n, sentence_beam, stage_beam",
            "type": "invalid_request_error",
            "param": "swires.scorer",
            "code": "invalid_value",
        },
    )


async def test_scorers_are_given_the_messages_as_they_were_sent() -> None:
    given: list[Problem] = []

    class Noting(FakeScorer):
        async def score(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
            given.append(problem)
            return await super().score(problem, trajectories)

    image = {"type": "image_url", "image_url": {"url": image_url(), "detail": "low"}}
    text = {"type": "text", "text": "How many?"}
    messages: list[Json] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [image, text]},
        {"role": "assistant", "content": "2", "reasoning": "1 + 1"},
        {"role": "user", "content": "Sure?"},
    ]
    async with FakeEngine() as engine:
        app = create_app(engine, {"noting": Noting()}, Settings.model_validate({"model": "demo"}))
        async with connect(app) as client:
            await ask(client, messages=messages)
    assert given[0].messages == (
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{**image, "image_url": {"url": image_url()}}, text]},
        {"role": "assistant", "content": [{"type": "text", "text": "2"}]},
        {"role": "user", "content": [{"type": "text", "text": "Sure?"}]},
    )


async def test_numbers_go_over_the_preset(client: httpx.AsyncClient) -> None:
    reply = (await ask(client, swires={"policy": "best_of_n", "preset": "thorough", "candidates": 3})).json()
    assert reply["swires"]["generations"] == 3


async def test_temperature_0_repeats_itself_and_so_does_a_seed(client: httpx.AsyncClient) -> None:
    fixed = [await message_of(client, temperature=0, seed=None) for _ in range(2)]
    seeded = [await message_of(client, seed=seed) for seed in (7, 7)]
    others = [await message_of(client, seed=seed) for seed in range(5)]
    assert fixed[0] == fixed[1]
    assert seeded[0] == seeded[1]
    assert len({message["reasoning"] for message in others}) > 1


async def test_raw_is_the_tagged_transcript(client: httpx.AsyncClient) -> None:
    plain, raw = [await message_of(client, swires={"raw": raw}) for raw in (False, True)]
    assert raw["reasoning"] is None
    assert raw["content"].startswith("<SUMMARY>")
    assert raw["content"].endswith(f"<CONCLUSION>{plain['content']}</CONCLUSION>")
    stream = chunks(await ask(client, stream=True, swires={"raw": True}))
    assert joined(stream, "content") == raw["content"]


async def test_the_trace_is_the_whole_tree(client: httpx.AsyncClient) -> None:
    told = (await ask(client, swires={"trace": True})).json()["swires"]
    nodes = {node["id"]: node for node in told["trace"]}
    assert len(nodes) == told["generations"]
    chosen = [node for node in nodes.values() if node["fate"] == "chosen"]
    assert [node["stage"] for node in chosen] == [stage.name for stage in Stage]
    assert all(node["parent"] == parent["id"] for parent, node in pairwise(chosen))
    assert sum(node["tokens"] for node in chosen) == told["tokens"]["winner"]
    for node in nodes.values():
        assert node["parent"] is None or node["parent"] in nodes
        assert set(node) == {
            "id", "parent", "stage", "text", "tokens", "finish_reason", "logprob", "score", "fate"
        }  # fmt: skip


@pytest.mark.parametrize("policy", POLICIES)
async def test_n_answers_are_further_conclusions_of_the_same_reasoning(client: httpx.AsyncClient, policy: str) -> None:
    swires = {"policy": policy, "trace": True}
    one, three = [(await ask(client, n=n, swires=swires)).json() for n in (1, 3)]
    assert [choice["index"] for choice in three["choices"]] == [0, 1, 2]
    messages = [choice["message"] for choice in three["choices"]]
    assert all(message["content"] for message in messages)
    assert len({message["reasoning"] for message in messages}) == 1
    assert [choice["finish_reason"] for choice in three["choices"]] == ["stop"] * 3
    told = three["swires"]
    chosen = [node for node in told["trace"] if node["fate"] == "chosen"]
    assert [node["text"] for node in chosen if node["text"].startswith("<CONCLUSION>")] == [
        f"<CONCLUSION>{message['content']}</CONCLUSION>" for message in messages
    ]
    assert len({node["parent"] for node in chosen[-3:]}) == 1
    assert told["tokens"]["winner"] == sum(node["tokens"] for node in chosen)
    details, in_content = three["usage"]["completion_tokens_details"], 3 * told["stages"][-1]["tokens"]
    assert details["reasoning_tokens"] == three["usage"]["completion_tokens"] - in_content
    if policy in ("swires", "adaptive", "stage_beam"):
        assert three["choices"][0] == one["choices"][0]
        assert told["generations"] == one["swires"]["generations"] + 2


@pytest.mark.parametrize("policy", POLICIES)
async def test_n_answers_keep_generations_for_themselves(client: httpx.AsyncClient, policy: str) -> None:
    swires = {"policy": policy, "preset": "thorough", "max_generations": 40}
    thresholds = {"accept_z": 100} if policies.POLICIES[policy].thresholds else {}
    reply = (await ask(client, n=8, swires={**swires, **thresholds})).json()
    assert len(reply["choices"]) == 8
    assert reply["swires"]["generations"] <= 40
    assert all(choice["message"]["content"] for choice in reply["choices"])


async def test_n_answers_where_no_token_is_left_for_the_others(client: httpx.AsyncClient) -> None:
    summary = (await ask(client)).json()["swires"]["stages"][0]
    reply = (await ask(client, n=3, max_tokens=summary["tokens"])).json()
    assert [choice["finish_reason"] for choice in reply["choices"]] == ["length"] * 3
    assert [choice["message"]["reasoning"] for choice in reply["choices"]] == [summary["text"]] * 3


async def test_n_is_blamed_where_it_is_too_many(client: httpx.AsyncClient) -> None:
    error = (await ask(client, n=54)).json()["error"]
    assert error["message"] == "n: with 54 the policy swires takes at least 65 generations, the limit is 64"


async def test_a_dry_run_counts_further_answers(client: httpx.AsyncClient) -> None:
    one, three = [(await ask(client, n=n, swires={"dry_run": True})).json()["swires"]["dry_run"] for n in (1, 3)]
    for bound in ("least", "expected", "greatest"):
        assert three[bound]["generations"] == pytest.approx(one[bound]["generations"] + 2, abs=0.11)


async def test_stop_ends_the_conclusion_alone(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.engine.fake._sentences", lambda *_: ["It is so.", " Four END five."])
    async with started() as app, connect(app) as client:
        for policy in POLICIES:
            for stop, content in (
                ("END", "It is so. Four "),
                (["!", "so"], "It is "),
                ([], "It is so. Four END five."),
            ):
                fields = {"stop": stop, "swires": {"policy": policy}}
                (choice,) = (await ask(client, **fields)).json()["choices"]
                assert (choice["message"]["content"], choice["finish_reason"]) == (content, "stop")
                assert choice["message"]["reasoning"] == "\n\n".join(["It is so. Four END five."] * 3)
                stream = chunks(await ask(client, stream=True, **fields))
                assert joined(stream, "content") == content
                assert joined(stream, "reasoning") == choice["message"]["reasoning"]


@pytest.mark.parametrize("policy", POLICIES)
async def test_logprobs_are_of_the_tokens_of_the_content(client: httpx.AsyncClient, policy: str) -> None:
    fields = {"logprobs": True, "top_logprobs": 3, "n": 2, "swires": {"policy": policy}}
    reply = (await ask(client, **fields)).json()
    for choice in reply["choices"]:
        tokens = choice["logprobs"]["content"]
        assert "".join(token["token"] for token in tokens) == choice["message"]["content"]
        assert bytes(byte for token in tokens for byte in token["bytes"]).decode() == choice["message"]["content"]
        assert all(len(token["top_logprobs"]) == 3 and token["logprob"] <= 0 for token in tokens)
        assert choice["logprobs"]["refusal"] is None
    stream = chunks(await ask(client, stream=True, **fields))
    ends = {
        chunk["choices"][0]["index"]: chunk["choices"][0] for chunk in stream if chunk["choices"][0]["finish_reason"]
    }
    assert [ends[index]["logprobs"] for index in (0, 1)] == [choice["logprobs"] for choice in reply["choices"]]


async def test_no_more_logprobs_are_asked_for_than_the_engine_tells(started: Started) -> None:
    engine = FakeEngine()
    engine.max_logprobs = 2
    async with started(engine) as app, connect(app) as client:
        assert (await ask(client, logprobs=True, top_logprobs=2)).status_code == 200
        refused = await ask(client, logprobs=True, top_logprobs=3)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "top_logprobs")


async def test_logprobs_without_alternatives(client: httpx.AsyncClient) -> None:
    (choice,) = (await ask(client, logprobs=True)).json()["choices"]
    assert [token["top_logprobs"] for token in choice["logprobs"]["content"]] == [[]] * len(
        choice["message"]["content"]
    )


@pytest.mark.parametrize("policy", POLICIES)
async def test_response_format_binds_the_conclusion(client: httpx.AsyncClient, policy: str) -> None:
    schema = {"type": "object", "properties": {"count": {"type": "integer"}, "sure": {"type": "boolean"}}}
    plain = await message_of(client, swires={"policy": policy}, response_format={"type": "text"})
    message = await message_of(client, swires={"policy": policy}, response_format=json_schema(schema))
    assert set(json.loads(message["content"])) == {"count", "sure"}
    assert "{" not in message["reasoning"]
    assert "{" not in plain["content"]
    anything = await message_of(client, swires={"policy": policy}, response_format={"type": "json_object"})
    assert isinstance(json.loads(anything["content"]), dict)


async def test_reasoning_content_too_where_the_server_is_told_so(started: Started) -> None:
    async with started(reasoning_content=True) as app, connect(app) as client:
        message = await message_of(client)
        assert message["reasoning_content"] == message["reasoning"]
        stream = chunks(await ask(client, stream=True))
        assert joined(stream, "reasoning_content") == joined(stream, "reasoning") == message["reasoning"]


async def test_max_tokens_bounds_the_answer(client: httpx.AsyncClient) -> None:
    for field in ("max_tokens", "max_completion_tokens"):
        reply = (await ask(client, model="demo:greedy", **{field: 5})).json()
        assert reply["choices"][0]["finish_reason"] == "length"
        assert reply["swires"]["tokens"]["winner"] == 5


async def test_an_answer_that_ends_with_an_earlier_stage_is_cut(client: httpx.AsyncClient) -> None:
    summary = (await ask(client)).json()["swires"]["stages"][0]
    reply = (await ask(client, max_tokens=summary["tokens"])).json()
    assert [stage["stage"] for stage in reply["swires"]["stages"]] == ["SUMMARY"]
    assert reply["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("policy", ["greedy", "best_of_n"])
async def test_a_whole_answer_may_be_longer_than_a_stage(
    started: Started, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    monkeypatch.setattr("server.engine.fake._sentences", lambda *_: ["x" * 1000])
    async with started(FakeEngine(max_model_len=8192)) as app, connect(app) as client:
        reply = (await ask(client, max_tokens=4096, swires={"policy": policy})).json()
    assert reply["choices"][0]["finish_reason"] == "stop"
    assert 4000 < reply["swires"]["tokens"]["winner"] <= 4096


@pytest.mark.parametrize("policy", POLICIES)
async def test_the_end_of_the_models_context_ends_the_search(started: Started, policy: str) -> None:
    engine = FakeEngine()
    async with started(engine) as app, connect(app) as client:
        prompt = (await ask(client, model="demo:greedy")).json()["usage"]["prompt_tokens"]
        engine.max_model_len = prompt + 70  # the summary ends, no caption does
        told = (await ask(client, swires={"policy": policy})).json()["swires"]
    assert (told["stopped_by"], told["retraces"]) == ("answer_tokens", 0)
    assert told["tokens"]["winner"] <= 70


async def test_the_budget_names_the_limit_that_ended_the_search(client: httpx.AsyncClient) -> None:
    swires = {"preset": "thorough", "accept_z": 100, "max_generations": 20}
    told = (await ask(client, swires=swires)).json()["swires"]
    assert (told["generations"], told["stopped_by"], told["accepted"]) == (20, "generations", False)


@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("policy", POLICIES)
async def test_a_stream_tells_what_the_answer_tells(
    client: httpx.AsyncClient, policy: str, seed: int, events: bool
) -> None:
    swires = {"policy": policy, "events": events}
    answer = (await ask(client, seed=seed, swires=swires)).json()
    stream = chunks(await ask(client, seed=seed, swires=swires, stream=True))
    message = answer["choices"][0]["message"]
    assert joined(stream, "content") == message["content"]
    assert joined(stream, "reasoning") == (message["reasoning"] or "")
    last = stream[-1]["swires"]
    for key in ("stages", "generations", "tokens", "score", "accepted"):
        assert last[key] == answer["swires"][key]


async def test_the_shape_of_a_stream(client: httpx.AsyncClient) -> None:
    stream = chunks(await ask(client, stream=True))
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in stream}) == 1
    assert stream[0]["object"] == "chat.completion.chunk"
    assert stream[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all(len(chunk["choices"]) == 1 and "usage" not in chunk for chunk in stream)
    assert [chunk["choices"][0]["finish_reason"] for chunk in stream[:-1]] == [None] * (len(stream) - 1)
    assert stream[-1]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}


async def test_a_stream_of_several_answers(client: httpx.AsyncClient) -> None:
    reply = (await ask(client, n=3)).json()
    stream = chunks(await ask(client, n=3, stream=True))
    for choice in reply["choices"]:
        deltas = [part["delta"] for chunk in stream for part in chunk["choices"] if part["index"] == choice["index"]]
        assert deltas[0] == {"role": "assistant", "content": ""}
        for key in ("reasoning", "content"):
            assert "".join(delta.get(key, "") for delta in deltas) == choice["message"][key]
    ends = [chunk["choices"][0]["index"] for chunk in stream if chunk["choices"][0]["finish_reason"]]
    assert ends == [1, 2, 0]
    assert stream[-1]["swires"]["generations"] == reply["swires"]["generations"]


async def test_include_usage(client: httpx.AsyncClient) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}  # the second is as guidellm sends it
    stream = chunks(await ask(client, stream=True, stream_options=options))
    answer = (await ask(client)).json()
    assert all(chunk["usage"] is None for chunk in stream[:-1])
    assert (stream[-1]["choices"], stream[-1]["usage"]) == ([], answer["usage"])


async def test_events(client: httpx.AsyncClient) -> None:
    swires = {"events": True, "accept_z": 100, "max_retraces": 1}
    stream = chunks(await ask(client, stream=True, swires=swires))
    told = [chunk for chunk in stream if "swires" in chunk]
    assert all(chunk["choices"][0]["delta"] == {} for chunk in told)
    events = [chunk["swires"] for chunk in told]
    names = [event["event"] for event in events]
    assert set(names) == {
        "stage_started", "candidate_finished", "candidate_scored", "stage_leading", "retraced", "stage_chosen",
        "search_finished",
    }  # fmt: skip
    assert names[-1] == "search_finished"
    assert names.count("candidate_finished") == events[-1]["generations"]
    assert [event for event in events if event["event"] == "retraced"] == [
        {"event": "retraced", "to": "CAPTION", "void": ["CAPTION", "REASONING"]}
    ]
    assert [event["stage"] for event in events if event["event"] == "stage_chosen"] == [stage.name for stage in Stage]
    assert all(event["text"] for event in events if event["event"] == "candidate_finished")


async def test_without_events_only_the_last_chunk_tells_of_the_search(client: httpx.AsyncClient) -> None:
    stream = chunks(await ask(client, stream=True))
    assert [index for index, chunk in enumerate(stream) if "swires" in chunk] == [len(stream) - 1]
    assert "event" not in stream[-1]["swires"]


async def test_a_conversation_is_rendered_with_its_images_in_place(started: Started) -> None:
    class Renders(FakeEngine):
        async def render(self, messages, images):  # type: ignore[no-untyped-def]
            self.rendered = messages, [image.getpixel((0, 0)) for image in images]
            return await super().render(messages, images)

    engine = Renders()
    red, blue = (chat()["messages"][0]["content"][0], {"type": "image_url", "image_url": {"url": image_url("blue")}})
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "One?"}, red]},
        {
            "role": "assistant",
            "content": "1",
            "reasoning": "I counted.",
            "refusal": None,
            "tool_calls": None,
            "provider_specific_fields": {"reasoning": "I counted."},
        },
        {"role": "user", "content": [blue, {"type": "text", "text": "Two?"}]},
    ]
    async with started(engine, max_images=2) as app, connect(app) as client:
        assert (await ask(client, messages=messages)).status_code == 200
    assert engine.rendered == (
        [
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": [{"type": "text", "text": "One?"}, {"type": "image"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "1"}]},
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Two?"}]},
        ],
        [(255, 0, 0), (0, 0, 255)],
    )


async def test_fields_that_tell_about_the_caller_are_let_in(client: httpx.AsyncClient) -> None:
    fields = {
        "user": "me", "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "safety_identifier": "x",
        "prompt_cache_key": "x", "parallel_tool_calls": True, "n": 1, "stop": None, "logprobs": False,
        "response_format": {"type": "text"}, "presence_penalty": 0, "tool_choice": "none", "modalities": ["text"],
        "frequency_penalty": 0.0,
    }  # fmt: skip
    assert (await ask(client, **fields)).status_code == 200


async def test_what_vllm_router_adds_to_a_request_is_let_in(client: httpx.AsyncClient) -> None:
    fields = {
        "logprobs": False, "no_stop_trim": False, "ignore_eos": False, "continue_final_message": False,
        "skip_special_tokens": True, "separate_reasoning": True, "stream_reasoning": True,
        "return_hidden_states": False, "include_reasoning": True,
    }  # fmt: skip
    assert (await ask(client, **fields)).status_code == 200
    refused = await ask(client, ignore_eos=True)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "ignore_eos")


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "gpt"}, 404, "model"),
        ({"model": "demo:slow"}, 404, "model"),
        ({"swires": {"scorer": "judge"}}, 400, "swires.scorer"),
        ({"swires": {"scorer": ""}}, 400, "swires.scorer"),
        ({"swires": {"policy": "best_of_n", "captions": 2}}, 400, "swires.captions"),
        ({"model": "demo:greedy", "swires": {"candidates": 2}}, 400, "swires.candidates"),
        ({"swires": {"captions": 0}}, 400, "swires.captions"),
        ({"swires": {"captions": 10**4300 - 1}}, 400, "swires.captions"),
        ({"swires": {"max_retraces": -1}}, 400, "swires.max_retraces"),
        ({"swires": {"accept_rank": 9}}, 400, "swires.accept_rank"),
        ({"swires": {"max_generations": 3}}, 400, "swires.max_generations"),
        ({"swires": {"max_generations": 10**6}}, 400, "swires.max_generations"),
        ({"swires": {"max_total_tokens": 10**9}}, 400, "swires.max_total_tokens"),
        ({"swires": {"timeout_s": 10**6}}, 400, "swires.timeout_s"),
        ({"stream_options": {"include_usage": True}}, 400, "stream_options"),
        ({"n": 54}, 400, "n"),
        ({"response_format": json_schema({"type": "no-such-type"})}, 400, "response_format"),
        ({"messages": [{"role": "user", "content": "x" * 5000}]}, 400, "messages"),
    ],
)
async def test_a_refusal_names_the_field(client: httpx.AsyncClient, fields: Json, status: int, param: str) -> None:
    for stream in (False, True):
        reply = await ask(client, **fields, **({"stream": True} if stream and "stream_options" not in fields else {}))
        assert reply.status_code == status
        error = reply.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert (error["type"], error["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize(
    ("swires", "param", "message"),
    [
        (
            {"captions": 1000},
            "captions",
            "with 1000 the policy swires takes at least 1008 generations, the limit is 64",
        ),
        (
            {"policy": "best_of_n", "candidates": 9, "max_generations": 8},
            "candidates",
            "with 9 the policy best_of_n takes at least 9 generations, the limit is 8",
        ),
        (
            {"max_generations": 3, "accept_rank": 1},
            "max_generations",
            "the policy swires takes at least 12 generations, the limit is 3",
        ),
        ({"max_total_tokens": 3}, "max_total_tokens", "the policy swires takes at least 12 tokens, the limit is 3"),
    ],
)
async def test_a_search_beyond_its_limits_is_refused_before_its_image_is_decoded(
    client: httpx.AsyncClient, swires: Json, param: str, message: str
) -> None:
    content = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    reply = await ask(client, messages=[{"role": "user", "content": content}], swires=swires)
    error = reply.json()["error"]
    assert (reply.status_code, error["param"], error["code"]) == (400, f"swires.{param}", "invalid_value")
    assert error["message"] == f"swires.{param}: {message}"


async def test_a_number_of_the_policy_is_named_once(client: httpx.AsyncClient) -> None:
    error = (await ask(client, swires={"captions": 0})).json()["error"]
    assert error["message"] == "swires.captions must be at least 1, not 0"


@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b"{", b'{"a": "\\ud800"}', b"[" * 100_000, b'{"seed": ' + b"1" * 5000 + b"}"]
)
async def test_a_body_that_is_no_request(client: httpx.AsyncClient, content: bytes) -> None:
    reply = await client.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
    assert reply.status_code == 400
    assert reply.json()["error"]["message"]


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data", ""])
async def test_other_content_types_are_415(client: httpx.AsyncClient, content_type: str) -> None:
    reply = await client.post("/v1/chat/completions", content=b"{}", headers={"content-type": content_type})
    assert (reply.status_code, reply.json()["error"]["code"]) == (415, "unsupported_content_type")


async def test_a_body_over_the_limit_is_413(started: Started) -> None:
    async with started(max_body_mib=1) as app, connect(app) as client:
        reply = await ask(client, user="x" * (1 << 20))
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "request_too_large")


async def test_a_body_that_does_not_arrive_is_408(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "BODY_TIMEOUT_S", 0.001)

    async def drip() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with started() as app, connect(app) as client:
        headers = {"content-type": "application/json"}
        reply = await client.post("/v1/chat/completions", content=drip(), headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (408, "request_timeout")


async def test_requests_that_arrive_at_once_are_bounded(started: Started) -> None:
    reading, arrive = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        reading.set()
        await arrive.wait()
        yield json.dumps(chat()).encode()

    async with started(max_arriving=1) as app, connect(app) as client:
        headers = {"content-type": "application/json"}
        first = asyncio.create_task(client.post("/v1/chat/completions", content=slowly(), headers=headers))
        await reading.wait()
        refused = await ask(client)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        arrive.set()
        assert (await first).status_code == 200
        assert (await ask(client)).status_code == 200


async def test_a_search_that_runs_keeps_nobody_from_arriving(started: Started) -> None:
    held = Held()
    async with started(FakeEngine(step=held), max_arriving=1) as app, connect(app) as client:
        held.arm()
        first = asyncio.create_task(ask(client))
        await held.reached.wait()
        second = asyncio.create_task(ask(client))
        await turns_until(lambda: app.state.service.scheduler.num_running == 2)
        held.let_go.set()
        assert [reply.status_code for reply in await asyncio.gather(first, second)] == [200, 200]


@pytest.mark.parametrize(
    ("url", "status"),
    [("http://127.0.0.1/x.png", 400), ("data:image/svg+xml;base64,AAAA", 415), ("data:image/png;base64,AAAA", 422)],
)
async def test_an_image_that_is_refused(client: httpx.AsyncClient, url: str, status: int) -> None:
    content = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": url}}]
    reply = await ask(client, messages=[{"role": "user", "content": content}])
    assert reply.status_code == status
    assert reply.json()["error"]["param"] == "messages[0].content[1].image_url.url"


async def test_too_many_images(client: httpx.AsyncClient) -> None:
    (message,) = chat()["messages"]
    reply = await ask(client, messages=[message, message])
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, "messages[1].content[0].image_url.url")


async def turns_until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until `condition` holds, and the threads that decode images have their time too."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError


async def test_a_full_server_answers_503_at_once(started: Started) -> None:
    held = Held()
    async with started(FakeEngine(step=held), max_candidates=1, max_waiting=0) as app, connect(app) as client:
        held.arm()
        first = asyncio.create_task(ask(client))
        await held.reached.wait()
        for stream in (False, True):
            reply = await ask(client, stream=stream)
            assert reply.status_code == 503
            assert int(reply.headers["retry-after"]) >= 1
            assert reply.json()["error"]["code"] == "overloaded"
        held.let_go.set()
        assert (await first).status_code == 200


@pytest.mark.parametrize("shrinks", [False, True])
async def test_an_answer_tells_that_load_has_ended_its_search(started: Started, shrinks: bool) -> None:
    held, swires = Held(), {"preset": "thorough", "accept_z": 100}
    settings = {"max_candidates": 4, "max_waiting": 2, "shrink_under_load": shrinks}
    async with started(FakeEngine(step=held), **settings) as app, connect(app) as client:
        held.arm()
        running = [asyncio.create_task(ask(client, swires=swires))]
        await held.reached.wait()
        running += [asyncio.create_task(ask(client, swires=swires)) for _ in range(2)]
        await turns_until(lambda: app.state.service.scheduler.num_waiting == 2)
        held.let_go.set()
        told = sorted(
            (reply.json()["swires"] for reply in await asyncio.gather(*running)), key=lambda each: each["generations"]
        )
        metrics = (await client.get("/metrics")).text
    assert [(each["stopped_by"], each["generations"]) for each in told] == [
        ("load", 28) if shrinks else (None, 44),
        (None, 44),
        (None, 44),
    ]
    assert ('outcome="load"' in metrics) == shrinks


async def test_a_request_for_which_there_is_no_room_is_refused_before_its_image_is_decoded(started: Started) -> None:
    content = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    async with started() as app, connect(app) as client:
        await app.state.service.scheduler.drain()
        reply = await ask(client, messages=[{"role": "user", "content": content}])
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "overloaded")
    assert int(reply.headers["retry-after"]) >= 1


@pytest.mark.parametrize("stream", [False, True])
async def test_of_many_at_once_none_is_rendered_that_is_then_refused(started: Started, stream: bool) -> None:
    class Slow(FakeEngine):
        num_rendered = 0
        may_render = asyncio.Event()

        async def render(self, messages, images):  # type: ignore[no-untyped-def]
            self.num_rendered += 1
            await self.may_render.wait()
            return await super().render(messages, images)

    engine = Slow()
    engine.may_render.set()
    async with started(engine, max_candidates=1, max_waiting=2) as app, connect(app) as client:
        engine.may_render.clear()
        engine.num_rendered = 0
        asked = [asyncio.create_task(ask(client, stream=stream)) for _ in range(10)]
        await turns_until(lambda: sum(task.done() for task in asked) == 7 and engine.num_rendered == 3)
        engine.may_render.set()
        statuses = [reply.status_code for reply in await asyncio.gather(*asked)]
        scheduler = app.state.service.scheduler
        assert (scheduler.num_running, scheduler.num_waiting) == (0, 0)
    assert (statuses.count(200), statuses.count(503), engine.num_rendered) == (3, 7, 3)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_that_proves_invalid_gives_back_its_turn(started: Started, stream: bool) -> None:
    bad = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    async with started(max_candidates=1, max_waiting=0) as app, connect(app) as client:
        for _ in range(2):
            reply = await ask(client, stream=stream, messages=[{"role": "user", "content": bad}])
            assert reply.status_code == 422
        assert (await ask(client, stream=stream)).status_code == 200


async def test_draining_that_begins_while_a_request_is_rendered(started: Started) -> None:
    class Drains(FakeEngine):
        scheduler: Scheduler | None = None

        async def render(self, messages, images):  # type: ignore[no-untyped-def]
            if self.scheduler is not None:
                await self.scheduler.drain()
            return await super().render(messages, images)

    engine = Drains()
    async with started(engine) as app, connect(app) as client:
        engine.scheduler = app.state.service.scheduler
        assert (await ask(client)).status_code == 503
        assert 'outcome="refused"' in (await client.get("/metrics")).text


@pytest.mark.parametrize("stream", [False, True])
async def test_draining_finishes_what_runs_and_refuses_the_rest(started: Started, stream: bool) -> None:
    held = Held(free=5)
    async with started(FakeEngine(step=held)) as app, connect(app) as client:
        held.arm()
        running = asyncio.create_task(ask(client, stream=stream))
        await held.reached.wait()
        assert (await client.get("/ready")).status_code == 200
        draining = asyncio.create_task(app.state.service.scheduler.drain())
        await asyncio.sleep(0)
        refused = await ask(client)
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        assert (await client.get("/ready")).status_code == 503
        assert (await client.get("/health")).status_code == 200
        held.let_go.set()
        await draining
        reply = await running
        assert reply.status_code == 200
        if stream:
            assert chunks(reply)[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("free", [0, 30, 200])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_hang_up_frees_the_engine(started: Started, stream: bool, free: int) -> None:
    held, raw = Held(free), RawRequest(chat(stream=stream))
    engine = FakeEngine(step=held)
    async with started(engine) as app:
        held.arm()
        exchange = asyncio.create_task(raw.post(app))
        await held.reached.wait()
        assert engine.num_running > 0
        raw.hang_up.set()
        await exchange
        assert engine.num_running == 0
        scheduler = app.state.service.scheduler
        assert (scheduler.num_running, scheduler.num_waiting) == (0, 0)


async def test_a_hang_up_in_the_line_leaves_it(started: Started) -> None:
    held, first, second = Held(), RawRequest(chat(**TEXT)), RawRequest(chat(**TEXT, stream=True))
    async with started(FakeEngine(step=held), max_candidates=1, max_waiting=1) as app:
        held.arm()
        scheduler = app.state.service.scheduler
        running = asyncio.create_task(first.post(app))
        await held.reached.wait()
        waiting = asyncio.create_task(second.post(app))
        await turns_until(lambda: scheduler.num_waiting == 1)
        second.hang_up.set()
        await waiting
        assert (scheduler.num_running, scheduler.num_waiting) == (1, 0)
        first.hang_up.set()
        await running


async def test_a_stream_that_waits_in_the_line_is_kept_alive(started: Started) -> None:
    held, waiting = Held(), RawRequest(chat(stream=True))
    engine = FakeEngine(step=held)
    async with started(engine, max_candidates=1, keep_alive_s=0.001) as app, connect(app) as client:
        held.arm()
        first = asyncio.create_task(ask(client))
        await held.reached.wait()
        exchange = asyncio.create_task(waiting.post(app))
        await waiting.got(KEEP_ALIVE)
        held.let_go.set()
        await exchange
        await first
    assert waiting.lines[-1] == DONE


async def fail() -> None:
    raise EngineError("worker at 10.0.0.7 is gone")


async def test_an_engine_failure_is_a_500_without_internals(started: Started, caplog: pytest.LogCaptureFixture) -> None:
    engine = FakeEngine()
    async with started(engine) as app, connect(app) as client:
        engine._step = fail
        reply = await ask(client)
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "engine_error")
    assert "10.0.0.7" not in reply.text
    assert "10.0.0.7" in caplog.text


async def test_a_bug_is_a_500_without_internals_that_is_not_tried_again(started: Started) -> None:
    async def trip() -> None:
        raise KeyError("secret")

    engine = FakeEngine()
    async with started(engine) as app, connect(app) as client:
        engine._step = trip
        reply = await ask(client)
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "internal_error")
    assert reply.headers["x-should-retry"] == "false"
    assert "secret" not in reply.text


async def test_an_engine_failure_in_a_stream_is_its_last_chunk(started: Started) -> None:
    engine = FakeEngine()
    async with started(engine) as app, connect(app) as client:
        engine._step = fail
        *_, error = chunks(await ask(client, stream=True))
    assert (error["choices"], error["error"]["code"]) == ([], "engine_error")
    assert "10.0.0.7" not in str(error)


async def test_a_search_that_is_out_of_time_before_any_text(started: Started) -> None:
    held = Held()
    async with started(FakeEngine(step=held)) as app, connect(app) as client:
        held.arm()
        reply = await ask(client, swires={"timeout_s": 0.01})
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert reply.headers["x-should-retry"] == "false"
