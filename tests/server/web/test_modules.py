"""The page's pure functions, run in the browser that they are for."""

import json
from random import Random
from typing import Any

import pytest

from swires.parser import parse
from swires.stages import TAGS
from tests.server.web.conftest import Opened

pytestmark = pytest.mark.asyncio(loop_scope="module")

Node = dict[str, Any]


def tagged_text(random: Random) -> str:
    pieces = [*TAGS, *TAGS, "a", "4 left.", " \n", "<", "</CAP", "<b>", "<SUMMARY", "é"]
    return "".join(random.choice(pieces) for _ in range(random.randint(0, 12)))


async def test_sections_are_those_of_the_server(opened: Opened) -> None:
    texts = [tagged_text(Random(seed)) for seed in range(1000)]
    async with opened() as page:
        found = await page.run(
            "const { sections } = await import('/web/sections.js');"
            "return argument.map((text) => sections(text, { whole: true }).map(({ stage, text }) => [stage, text]));",
            texts,
        )
    for text, sections in zip(texts, found, strict=True):
        assert sections == [[section.stage.name, section.text] for section in parse(text)], text


async def test_a_stream_reads_the_same_however_it_is_cut(opened: Opened) -> None:
    stream = 'data: {"a": 1}\n\n: keep-alive\n\ndata: {"b": "é\\n\\n"}\n\ndata: [DONE]\n\n'
    cuts = [[stream[start : start + width] for start in range(0, len(stream), width)] for width in range(1, 60)]
    async with opened() as page:
        found = await page.run(
            "const { events } = await import('/web/stream.js');"
            "return Promise.all(argument.map(async (chunks) => {"
            "  const read = []; for await (const event of events(chunks)) read.push(event); return read; }));",
            cuts,
        )
    assert found == [[{"a": 1}, {"b": "é\n\n"}]] * len(cuts)


async def test_a_stream_without_its_end_is_broken(opened: Opened) -> None:
    async with opened() as page:
        told = await page.run(
            "const { events } = await import('/web/stream.js');"
            "try { for await (const _ of events(['data: {}\\n\\n'])); } catch (error) { return error.message; }"
        )
    assert told == "the stream broke off"


def random_search(random: Random) -> dict[str, Any]:
    """Candidates that continue any of the earlier stages' as a search may, in the order of their ids."""
    stages = ("SUMMARY", "CAPTION", "REASONING", "CONCLUSION")
    nodes: list[Node] = []
    for number in range(random.randint(1, 60)):
        parents = [node for node in nodes if node["stage"] != "CONCLUSION" or random.random() < 0.3]
        parent = random.choice([None, *parents, *parents[-3:]])
        first = stages.index(parent["stage"]) + 1 if parent else 0
        stage = random.choice(stages[min(first, 3) :])
        nodes.append({"id": number, "parent": parent["id"] if parent else None, "stage": stage, "round": 0})
    return {"nodes": nodes, "rounds": [{"turn": False, "first": 0}]}


async def test_candidates_stand_apart_and_their_edges_do_not_cross(opened: Opened) -> None:
    searches = [random_search(Random(seed)) for seed in range(100)]
    async with opened() as page:
        plans = await page.run(
            "const { layout } = await import('/web/layout.js');"
            "return argument.map((search) => Object.fromEntries(layout(search).cells));",
            searches,
        )
    for search, plan in zip(searches, plans, strict=True):
        cells = {int(number): (cell["column"], cell["row"]) for number, cell in plan.items()}
        assert len(set(cells.values())) == len(search["nodes"])
        edges = [(cells[node["parent"]], cells[node["id"]]) for node in search["nodes"] if node["parent"] is not None]
        assert all(column < to_column and row <= to_row for (column, row), (to_column, to_row) in edges)
        assert crossings(edges) == []
        assert [edge for edge in edges if through(edge) & set(cells.values())] == []


Cell = tuple[int, int]
Edge = tuple[Cell, Cell]


def through(edge: Edge) -> set[Cell]:
    """The places that an edge passes in the row of its end."""
    (column, _), (to_column, to_row) = edge
    return {(each, to_row) for each in range(column + 1, to_column)}


def crossings(edges: list[Edge]) -> list[tuple[Edge, Edge]]:
    """An edge goes down beside its start, then along the row of its end."""
    return [(one, other) for one in edges for other in edges if one[0] != other[0] and crosses(one, other)]


def crosses(one: Edge, other: Edge) -> bool:
    (column, row), (_, to_row) = one
    (from_column, from_row), (other_column, other_row) = other
    beside = from_column == column and not (from_row > to_row or other_row < row)
    along = from_column < column < other_column and row <= other_row <= to_row
    return beside or along


def shared(**fields: object) -> str:
    """A file that a page would share, with any fields over it."""
    run = {"events": [], "state": "stopped", "seconds": 1}
    image = "data:image/png;base64,AAAA"
    choice = {"policy": "swires", "preset": "fast", "scorer": "fake"}
    return json.dumps(
        {"playground": 1, "question": "?", "image": image, "choice": choice, "searched": run, "greedy": None} | fields
    )


def scored(number: int, score: object) -> dict[str, object]:
    return {"event": "candidate_scored", "id": number, "score": score}


def told(*events: dict[str, object], state: str = "stopped") -> dict[str, object]:
    return {"events": events, "state": state, "seconds": 1}


STARTED: dict[str, object] = {"event": "stage_started", "stage": "CAPTION", "parents": [], "candidates": 2}

UNSOUND = {
    "[]": "it was not shared from this page",
    "{": "it holds no JSON",
    shared(playground=2): "it is of another version of this page",
    shared(image="https://example.com/a.png"): "image",
    shared(image="data:image/svg+xml;base64,AAAA"): "image",
    shared(image='data:image/png;base64,AAAA" onload="'): "image",
    shared(question=5): "question",
    shared(choice={}): "choice",
    shared(choice={"policy": {}, "preset": "fast", "scorer": "fake"}): "choice",
    shared(greedy=5): "greedy",
    shared(searched=told(state="running")): "searched.state",
    shared(searched=told(state="finished")): "searched.events",
    shared(searched=told({"event": "alert"})): "searched.events[0]: alert",
    shared(searched=told({"event": "toString"})): "searched.events[0]: toString",
    shared(searched=told({"event": "text", "text": 5})): "searched.events[0]: text",
    shared(searched=told({"event": "stage_chosen", "id": 0})): "searched.events[0]: stage_chosen",
    shared(searched=told(STARTED | {"candidates": 10**9})): "searched.events[0]: stage_started",
    shared(searched=told(STARTED | {"stage": "__proto__"})): "searched.events[0]: stage_started",
    shared(searched=told(STARTED | {"parents": [0]})): "searched.events[0]: stage_started",
    shared(searched=told(STARTED, STARTED | {"parents": [0, 1], "candidates": 3})): "searched.events[1]: stage_started",
    shared(searched=told(STARTED, scored(2, 0))): "searched.events[1]: candidate_scored",
    shared(searched=told(STARTED, scored(1, "0"))): "searched.events[1]: candidate_scored",
    shared(searched=told({"event": "search_finished"}, state="finished")): "searched.events[0]: search_finished",
}  # fmt: skip


async def test_a_file_is_read_only_where_it_is_sound(opened: Opened) -> None:
    async with opened() as page:
        complaints = await page.run(
            "const { read, NotOurs } = await import('/web/share.js');"
            "return argument.map((text) => { try { read(text); return null; } catch (error) {"
            "  return error instanceof NotOurs ? error.message : String(error); } });",
            [*UNSOUND, shared(), shared(searched=told(STARTED))],
        )
    assert complaints == [*UNSOUND.values(), None, None]
