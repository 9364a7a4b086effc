"""The experiment as one HTML page that needs nothing else: tables, curves, and searches to look into."""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from swires.parser import parse
from training.evaluation import picks, statistics
from training.evaluation.answers import Answer
from training.evaluation.plot import draw
from training.evaluation.statistics import Result
from training.tasks.example import Example
from training.tasks.truth import is_true

Node = Mapping[str, Any]

HEAD = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --soft: #7a828e; --line: #8884; --right: #15803d; --wrong: #c2410c; }}
@media (prefers-color-scheme: dark) {{ :root {{ --right: #4ade80; --wrong: #fb923c; }} }}
body {{ margin: 0 auto; max-width: 72rem; padding: 1.5rem; font: 1rem/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.4rem; }} h2 {{ font-size: 1.1rem; margin-top: 2rem; }}
pre {{ overflow-x: auto; font-size: .85rem; line-height: 1.4; }}
.curves img {{ max-width: 100%; }}
article {{ border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; margin: 1rem 0; }}
article > img {{ width: 12rem; image-rendering: pixelated; float: right; margin-left: 1rem; }}
ul {{ list-style: none; padding-left: 1.1rem; border-left: 1px solid var(--line); margin: .2rem 0; }}
li {{ margin: .25rem 0; overflow-wrap: anywhere; }}
.said {{ white-space: pre-wrap; }}
.score {{ font-variant-numeric: tabular-nums; color: var(--soft); font-size: .85rem; }}
.right > .score b {{ color: var(--right); }} .wrong > .score b {{ color: var(--wrong); }}
.discarded > .said, .aborted > .said {{ color: var(--soft); }}
.chosen > .said {{ font-weight: 600; }}
</style>
</head>
<body>
<h1>{title}</h1>
"""
TAIL = "</body>\n</html>\n"


def write_report(
    folder: Path, title: str, answers: Sequence[Answer], arms: Sequence[str], examples: Sequence[Example]
) -> None:
    """`results.json`, `tokens.png`, `seconds.png` and `report.html` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = statistics.results(answers, arms)
    (folder / "results.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    draw(rows, folder / "tokens.png", lambda row: row.tokens, "generated tokens an answer, losing candidates included")
    draw(rows, folder / "seconds.png", lambda row: row.seconds, "seconds an answer, under the load of the experiment")
    (folder / "report.html").write_text("".join(_page(folder, title, rows, answers, arms, examples)))


def _page(
    folder: Path,
    title: str,
    rows: Sequence[Result],
    answers: Sequence[Answer],
    arms: Sequence[str],
    examples: Sequence[Example],
) -> Iterator[str]:
    yield HEAD.format(title=escape(title))
    yield f"<pre>{escape(statistics.table(rows))}</pre>\n"
    if found := statistics.rivals(answers, rows):
        yield f"<h2>At no more tokens</h2>\n<pre>{escape(statistics.rivals_table(found))}</pre>\n"
    yield "<div class='curves'>"
    for name in ("tokens", "seconds"):
        picture = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
        yield f'<img alt="accuracy over {name}" src="data:image/png;base64,{picture}">\n'
    yield "</div>\n"
    traced = [arm for arm in arms[1:] if any(one.trace for one in answers if one.arm == arm)]
    for arm in traced:
        mine = [one for one in answers if one.arm == arm]
        yield f"<h2>{escape(arm)}: stage by stage</h2>\n<pre>{escape(picks.table(picks.picks(mine, examples)))}</pre>\n"
    for arm in traced[-1:]:
        yield from _worked(arm, arms[0], answers, examples)
    yield TAIL


def _worked(arm: str, first: str, answers: Sequence[Answer], examples: Sequence[Example]) -> Iterator[str]:
    """A search that rescued a wrong first answer, and one that lost a right one."""
    before = {(one.problem, one.repeat): one for one in answers if one.arm == first}
    pairs = [(before[one.problem, one.repeat], one) for one in answers if one.arm == arm and one.trace]
    for heading, had, got in ((f"rescued from {first}", False, True), (f"lost to {first}", True, False)):
        found = [pair for pair in pairs if (pair[0].right, pair[1].right) == (had, got)]
        for plain, searched in sorted(found, key=lambda pair: -pair[1].retraces)[:2]:
            yield f"<h2>{escape(arm)}: {escape(heading)}</h2>\n{_article(plain, searched, examples[searched.problem])}"


def _article(plain: Answer, searched: Answer, example: Example) -> str:
    told = f"{plain.arm}: {plain.content}; searched: {searched.content}; right: {searched.expected}"
    tree = _branches(searched.trace, None, example)
    question = f"<p><b>{escape(example.question)}</b><br>{escape(told)}</p>"
    return f'<article><img alt="" src="{example.data_url}">{question}{tree}</article>\n'


def _branches(trace: Sequence[Node], parent: int | None, example: Example) -> str:
    nodes = [node for node in trace if node["parent"] == parent]
    items = "".join(_item(node, example) + _branches(trace, node["id"], example) + "</li>" for node in nodes)
    return f"<ul>{items}</ul>" if items else ""


def _item(node: Node, example: Example) -> str:
    sections = parse(node["text"])
    right = bool(sections) and is_true(example, sections[-1].stage, sections[-1].text)
    said = escape("\n".join(section.text for section in sections))
    score = "" if node["score"] is None else f" {node['score']:+.2f}"
    fact = f"{node['stage']} {'✓' if right else '✗'}{score}"
    kind = "right" if right else "wrong"
    return (
        f'<li class="{kind} {node["fate"]}"><span class="score"><b>{fact}</b></span> <span class="said">{said}</span>'
    )
