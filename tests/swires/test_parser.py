import re

from hypothesis import given
from hypothesis import strategies as st

from swires.parser import Section, Splitter, parse
from swires.stages import TAGS, Stage
from tests.swires.scripted import many

PARTS = st.sampled_from([*TAGS, "<", "</", ">", "<SUM", "</CONCLUSION", "<B>", " ", "\n", "a", "two words", "é"])
TEXTS = st.lists(PARTS | st.text(max_size=2), max_size=14).map("".join)


def sections_by_the_book(text: str) -> list[Section]:
    """The rules one after another, on the whole text."""
    openings = {stage.opening: stage for stage in Stage}
    runs: list[tuple[Stage | None, str]] = [(None, "")]
    for part in re.split(f"({'|'.join(TAGS)})", text):
        stage, written = runs[-1]
        if part in openings:
            runs.append((openings[part], ""))
        elif stage is not None and part == stage.closing:
            runs.append((None, ""))
        elif part not in TAGS:
            runs[-1] = (stage, written + part)
    inside = [Section(stage, written.strip()) for stage, written in runs if stage is not None and written.strip()]
    conclusions = [section for section in inside if section.stage is Stage.CONCLUSION]
    outside = "\n".join(written.strip() for stage, written in runs if stage is None and written.strip())
    if not conclusions and outside:
        return [*inside, Section(Stage.CONCLUSION, outside)]
    return [each for each in inside if each.stage is not Stage.CONCLUSION or each is conclusions[0]]


@many
@given(TEXTS)
def test_as_by_the_book(text: str) -> None:
    assert list(parse(text)) == sections_by_the_book(text)


def cut(text: str, data: st.DataObject) -> list[str]:
    """In pieces, some of them empty; or in characters."""
    places = st.lists(st.integers(0, len(text)), max_size=6).map(sorted) | st.just(list(range(len(text))))
    cuts = data.draw(places)
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@many
@given(TEXTS, st.data())
def test_chunks_make_no_difference(text: str, data: st.DataObject) -> None:
    splitter = Splitter()
    pieces = [piece for chunk in cut(text, data) for piece in splitter.feed(chunk)]
    pieces += splitter.close()
    joined: list[tuple[Stage, str]] = []
    for stage, written, begins in pieces:
        assert written
        joined.append((stage, ("" if begins else joined.pop()[1]) + written))
    assert joined == [(section.stage, section.text) for section in parse(text)]


@many
@given(st.text())
def test_untagged_text_is_the_conclusion(text: str) -> None:
    assert parse(text) == ((Section(Stage.CONCLUSION, text.strip()),) if text.strip() else ())


def test_text_goes_out_as_soon_as_it_is_certain() -> None:
    splitter = Splitter()
    fed = ["<CAPTION> a", " b \n", "c <", "1 </CAP", "TION> \n<CONC", "LUSION>4", "2"]
    told = [[(piece.text, piece.begins) for piece in splitter.feed(chunk)] for chunk in fed]
    assert told == [
        [("a", True)],
        [(" b", False)],
        [(" \nc", False)],
        [(" <1", False)],
        [],
        [("4", True)],
        [("2", False)],
    ]
    assert splitter.close() == []


def test_a_regular_answer() -> None:
    text = "".join(f"{stage.opening}\n {stage.name.lower()} \n{stage.closing}\n\n" for stage in Stage)
    assert parse(text) == tuple(Section(stage, stage.name.lower()) for stage in Stage)


def test_irregular_answers() -> None:
    reasoning, conclusion = Stage.REASONING, Stage.CONCLUSION
    assert parse("<REASONING>a<CONCLUSION>4") == (Section(reasoning, "a"), Section(conclusion, "4"))
    assert parse("<REASONING>a</CAPTION>b</REASONING>") == (Section(reasoning, "ab"),)
    assert parse("<REASONING>a</REASONING>It is 4.") == (Section(reasoning, "a"), Section(conclusion, "It is 4."))
    assert parse("<CONCLUSION>4</CONCLUSION><CONCLUSION>5</CONCLUSION>6") == (Section(conclusion, "4"),)
    assert parse("x<CONCLUSION> </CONCLUSION><REASONING>a<REASONING>b</REASONING>y") == (
        Section(reasoning, "a"),
        Section(reasoning, "b"),
        Section(conclusion, "x\ny"),
    )
