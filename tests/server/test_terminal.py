"""What people see of an answer: in a terminal of a given size, and in a pipe."""

import re
from collections.abc import AsyncGenerator
from io import StringIO

import pytest
from rich.console import Console, RenderableType

from server.app import create_app
from server.ask import AskError, Chunk
from server.engine.fake import FakeEngine
from server.progress import Line
from server.scorer.fake import FakeScorer
from server.settings import Settings
from server.terminal import Plain, Tail, Terminal, candidates_shown, section_shown, shown, told_in_one_line, view
from swires.parser import Section
from swires.stages import Stage
from tests.server.client import Json, ask, chunks, connect

FACTS: Json = {
    "stages": [],
    "generations": 1204,
    "retraces": 1,
    "score": 1.2345,
    "accepted": False,
    "stopped_by": "tokens",
    "tokens": {"prompt": 9, "winner": 1, "discarded": 2, "aborted": 3},
    "seconds": 4.21,
    "scorer_degraded": False,
}


def plain(renderable: RenderableType, *, width: int = 60, height: int = 24) -> list[str]:
    console = Console(file=(out := StringIO()), width=width, height=height)
    console.print(renderable)
    return out.getvalue().splitlines()


def terminal(*, width: int = 80) -> Console:
    return Console(file=StringIO(), width=width, height=24, force_terminal=True, color_system=None, highlight=False)


async def told(*answers: Json) -> AsyncGenerator[Chunk, None]:
    for each in answers:
        yield Chunk.model_validate({"choices": [], **each})


def content(text: str) -> Json:
    return {"choices": [{"delta": {"content": text}}]}


async def searched(**swires: object) -> list[Json]:
    async with FakeEngine() as engine:
        app = create_app(engine, {"fake": FakeScorer()}, Settings(model="demo"))
        async with connect(app) as client:
            return chunks(await ask(client, stream=True, swires={"events": True, "raw": True, **swires}))


def test_a_candidate_has_one_line_at_any_width() -> None:
    lines = (
        Line(9, Stage.CAPTION, "<CAPTION>One [red]circle[/red] and a square, side by side.</CAPTION>", -0.5, "kept"),
        Line(10, Stage.REASONING),
    )
    assert [line.rstrip() for line in plain(candidates_shown(lines))] == [
        " 9 CAPTION    One [red]circle[/red] and a squ… -0.50 kept",
        "10 REASONING  …",
    ]
    assert [line.rstrip() for line in plain(candidates_shown(lines), width=40)] == [
        " 9 CAPTION    One [red]ci… -0.50 kept",
        "10 REASONING  …",
    ]


def test_the_answer_stands_out() -> None:
    assert plain(section_shown(Section(Stage.CAPTION, "Two [b]."))) == ["CAPTION", "Two [b].", ""]
    assert plain(section_shown(Section(Stage.CONCLUSION, "4"))) == ["╭───╮", "│ 4 │", "╰───╯"]


def test_what_is_below_never_fills_more_than_the_terminal() -> None:
    assert plain(Tail("\n".join("abcdefgh")), height=4) == ["f", "g", "h"]
    assert plain(Tail("a\nb"), height=4) == ["a", "b"]


def test_the_last_line() -> None:
    assert told_in_one_line(FACTS) == (
        "4.2 s · 1,204 generations · 1 retrace · 6 tokens · score +1.23 · not accepted · stopped by tokens"
    )
    nothing = {"score": None, "accepted": None, "stopped_by": None, "retraces": 0, "generations": 1}
    assert told_in_one_line({**FACTS, **nothing}) == "4.2 s · 1 generation · 0 retraces · 6 tokens"
    assert told_in_one_line({**FACTS, "scorer_degraded": True}).endswith(" · the scorer failed")


@pytest.mark.parametrize("policy", ["swires", "adaptive", "stage_beam", "sentence_beam", "best_of_n", "greedy"])
@pytest.mark.parametrize("width", [40, 80])
async def test_a_terminal_ends_with_the_stages_the_answer_and_what_it_took(policy: str, width: int) -> None:
    answers = await searched(policy=policy, accept_z=100) if policy == "swires" else await searched(policy=policy)
    with Terminal(console := terminal(width=width)) as below:
        summary = await shown(told(*answers), below)
    final = screen(console)
    assert summary["policy"] == policy
    where = 0
    for stage in summary["stages"]:
        for word in ([] if stage["stage"] == "CONCLUSION" else [stage["stage"]]) + stage["text"].split():
            where = final.index(word, where) + len(word)
    assert final.count("↩ retraced to CAPTION") == summary["retraces"]
    assert " ".join(final[where:].split("╯")[1].split()) == told_in_one_line(summary)


def screen(console: Console) -> str:
    """What a terminal shows in the end: what `Live` writes steers by erasing whole lines and going up."""
    assert isinstance(console.file, StringIO)
    rows, row = [""], 0
    for part in re.split(r"(\x1b\[\d*[A-Za-z]|\x1b\[\?\d+[hl]|[\r\n])", console.file.getvalue()):
        if part == "\n":
            row += 1
            rows += [""] * (row == len(rows))
        elif part == "\x1b[2K":
            rows[row] = ""
        elif part == "\x1b[1A":
            row -= 1
        elif part == "\r" or part.startswith("\x1b[?"):
            pass
        else:
            assert "\x1b" not in part
            rows[row] += part
    return "\n".join(rows)


async def test_a_pipe_gets_stages_and_answer_alone() -> None:
    answers = await searched(policy="greedy")
    with Plain(out := StringIO()) as piped:
        summary = await shown(told(*answers), piped)
    assert out.getvalue() == "\n\n".join(stage["text"] for stage in summary["stages"]) + "\n"
    assert isinstance(view(StringIO()), Plain)


async def test_text_cannot_steer_the_terminal() -> None:
    with Plain(out := StringIO()) as piped:
        await shown(told(content("<CONCLUSION>\x1b[2J4\x07\n\u00e9</CONCLUSION>"), {"swires": FACTS}), piped)
    assert out.getvalue() == "\ufffd[2J4\ufffd\n\u00e9\n"
    line = Line(0, Stage.CAPTION, "\x1b[2Jtwo")
    assert "\ufffd[2Jtwo" in plain(candidates_shown((line,)))[0]


async def test_text_without_tags_is_the_answer() -> None:
    with Plain(out := StringIO()) as piped:
        await shown(told(content("Fo"), content("ur"), {"swires": FACTS}), piped)
    assert out.getvalue() == "Four\n"


async def test_a_server_that_does_not_search_is_an_error() -> None:
    with Plain(StringIO()) as piped, pytest.raises(AskError, match="does not search"):
        await shown(told(content("<CONCLUSION>4")), piped)


async def test_what_has_come_stays_where_the_stream_breaks_off() -> None:
    async def broken() -> AsyncGenerator[Chunk, None]:
        async for chunk in told(content("<SUMMARY>Look"), content(" for")):
            yield chunk
        raise AskError("gone")

    with pytest.raises(AskError, match="gone"), Terminal(console := terminal()) as below:
        await shown(broken(), below)
    assert screen(console).split() == ["SUMMARY", "Look", "for"]
    with pytest.raises(AskError, match="gone"), Plain(out := StringIO()) as piped:
        await shown(broken(), piped)
    assert out.getvalue() == "Look for\n"
