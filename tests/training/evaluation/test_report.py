import json
from pathlib import Path

from tests.training.conftest import Serving
from training.evaluation.answers import Arm, Record
from training.evaluation.ask import ask
from training.evaluation.problems import problems
from training.evaluation.report import write_report


async def test_a_report_holds_tables_curves_and_searches(serving: Serving, tmp_path: Path) -> None:
    arms = [Arm.parse("greedy"), Arm.parse("best_of_n:candidates=2"), Arm.parse("swires:max_retraces=0")]
    names = [arm.name for arm in arms]
    examples = problems("scenes", 4, 1)
    async with serving() as server:
        answers = await ask(server.url, examples, arms, Record(tmp_path / "record"), seed=1, trace=True)
    answers = [one if one.arm == "greedy" else type(one)(**{**vars(one), "content": one.expected}) for one in answers]
    write_report(tmp_path / "report", "scenes & more", answers, names, examples)
    assert [row["arm"] for row in json.loads((tmp_path / "report" / "results.json").read_text())] == names
    for name in ("tokens", "seconds"):
        assert (tmp_path / "report" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "report" / "report.html").read_text()
    assert "scenes &amp; more" in page
    assert "rescued from greedy" in page
    assert "lost to greedy" not in page
    assert page.count("<ul>") == page.count("</ul>") > 2
    assert page.count("<li") == page.count("</li>")
    assert "<script" not in page


async def test_what_a_model_writes_is_no_markup(tmp_path: Path) -> None:
    from training.evaluation.answers import Answer

    node = {
        "id": 0,
        "parent": None,
        "stage": "CAPTION",
        "text": "<CAPTION><img src=x></CAPTION>",
        "score": 1.0,
        "finish_reason": "stop",
        "fate": "chosen",
    }
    answers = [
        Answer(arm, 0, 0, "3", content, 10, 0, 1, 0, 0.1, (node,))
        for arm, content in (("greedy", "2"), ("swires", "3"))
    ]
    write_report(tmp_path, "t", answers, ["greedy", "swires"], problems("scenes", 1, 1))
    page = (tmp_path / "report.html").read_text()
    assert "&lt;img src=x&gt;" in page
    assert "<img src=x" not in page
