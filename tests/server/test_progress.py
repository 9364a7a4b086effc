"""What is known of a search from its stream alone."""

import pytest

from server.app import create_app
from server.engine.fake import FakeEngine
from server.progress import Line, Progress
from server.scorer.fake import FakeScorer
from server.settings import Settings
from swires.stages import Stage
from tests.server.client import Json, ask, chunks, connect


def event(name: str, **facts: object) -> Json:
    return {"event": name, **facts}


def started(stage: str, parents: tuple[int, ...], candidates: int) -> Json:
    return event("stage_started", stage=stage, parents=parents, candidates=candidates)


def finished(number: int, text: str = "", reason: str = "stop") -> Json:
    return event("candidate_finished", id=number, text=text, finish_reason=reason)


def after(*events: Json) -> Progress:
    progress = Progress()
    for each in events:
        progress = progress.after(each)
    return progress


def standings(progress: Progress) -> dict[int, str | None]:
    return {line.id: line.standing for line in progress.lines}


TWO_CAPTIONS = (
    started("SUMMARY", (), 1),
    finished(0),
    event("stage_chosen", stage="SUMMARY"),
    started("CAPTION", (0,), 2),
    finished(1, "<CAPTION>Two\n circles.</CAPTION>"),
)


def test_a_line_for_each_candidate_from_the_start() -> None:
    one, two = after(*TWO_CAPTIONS).lines
    assert (one.id, one.stage, one.beginning, one.standing) == (1, Stage.CAPTION, "Two circles.", "sampled")
    assert two == Line(2, Stage.CAPTION)


def test_one_leads_until_another_does() -> None:
    leading = (finished(2), event("candidate_scored", id=2, score=-1.5), event("stage_leading", id=2))
    progress = after(*TWO_CAPTIONS, *leading)
    assert standings(progress) == {1: "sampled", 2: "leads"}
    assert progress.lines[1].score == -1.5
    assert standings(progress.after(event("stage_leading", id=1))) == {1: "leads", 2: "sampled"}


def test_what_the_next_stage_continues_is_kept() -> None:
    progress = after(*TWO_CAPTIONS, finished(2, reason="length"))
    assert standings(progress) == {1: "sampled", 2: "cut"}
    assert standings(progress.after(started("REASONING", (1,), 1))) == {1: "kept", 2: "dropped", 3: None}
    assert standings(progress.after(started("CAPTION", (0,), 1))) == {1: "sampled", 2: "cut", 3: None}


def test_what_a_retrace_goes_back_over_returns_where_it_is_kept() -> None:
    retraced = event("retraced", to="CAPTION", void=["CAPTION", "REASONING"])
    progress = after(*TWO_CAPTIONS, finished(2), started("REASONING", (2,), 1), finished(3), retraced)
    assert progress.lines == ()
    progress = progress.after(started("CAPTION", (0,), 1)).after(started("REASONING", (4,), 1))
    assert standings(progress) == {4: "kept", 5: None}
    progress = progress.after(finished(5)).after(started("CONCLUSION", (3,), 1))
    assert standings(progress) == {3: "kept", 4: "kept", 5: "dropped", 6: None}


def test_what_is_chosen_needs_no_line_and_neither_does_what_is_read_as_it_grows() -> None:
    assert after(*TWO_CAPTIONS, event("stage_chosen", stage="CAPTION")).lines == ()
    assert after(started("SUMMARY", (), 1)).streaming().lines == ()


@pytest.mark.parametrize(
    ("stage", "text", "beginning"),
    [
        (Stage.CONCLUSION, "<SUMMARY>Count.</SUMMARY><CONCLUSION>4</CONCLUSION>", "4"),
        (Stage.CONCLUSION, "<SUMMARY>Count.", "Count."),
        (Stage.CONCLUSION, " They are small.</CAPTION>", "They are small."),
        (Stage.CAPTION, "", ""),
    ],
)
def test_the_beginning_of_a_text(stage: Stage, text: str, beginning: str) -> None:
    assert Line(0, stage, text).beginning == beginning


@pytest.mark.parametrize("policy", ["swires", "adaptive", "stage_beam", "sentence_beam", "best_of_n", "greedy"])
async def test_lines_are_those_of_the_tree(policy: str) -> None:
    """Whatever a policy does, each candidate has had its line, with its own text and score."""
    options = {"policy": policy, "events": True, "trace": True}
    async with FakeEngine() as engine:
        app = create_app(engine, {"fake": FakeScorer()}, Settings(model="demo"))
        async with connect(app) as client:
            facts = [
                chunk["swires"] for chunk in chunks(await ask(client, stream=True, swires=options)) if "swires" in chunk
            ]
    progress, lines = Progress(), dict[int, Line]()
    for each in facts:
        progress = progress.after(each)
        lines |= {line.id: line for line in progress.lines}
    for node in facts[-1]["trace"]:
        line = lines[node["id"]]
        assert (line.stage.name, line.text, line.score) == (node["stage"], node["text"], node["score"])
    assert progress.lines == ()
