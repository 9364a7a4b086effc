"""A stored tree decided upon again, and what has changed by it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from PIL.Image import Image
from pydantic import ValidationError

from server.engine.tokens import following
from server.facts import Json, traced
from server.schemas import ChatRequest, SwiresOptions
from server.serving_engine import CheckpointEngine
from server.stored import StoredError, StoredSearch
from swires.parser import parse
from swires.plan import SearchPlan
from swires.policies import POLICIES, KnownPolicy
from swires.protocols import Scorer
from swires.replay import Replay, replay
from swires.stages import Stage
from swires.types import Expand

ROW = "{:>4} {:>6}  {:11}{:>9} {:>9}  {:10} {}"


def renumbered(search: StoredSearch, given: Mapping[str, str]) -> KnownPolicy:
    """The policy of the search, some of its numbers as the command line has them. Raises StoredError, InvalidPlan."""
    known = {field.name for field in fields(POLICIES[search.policy])}
    for name in given:
        if name not in known:
            raise StoredError(f"{_option(name)}: the policy {search.policy} has no such number")
    try:
        numbers = SwiresOptions.model_validate_strings(given).model_dump(include=set(given))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise StoredError(f"{_option(str(first['loc'][0]))}: {first['msg']}") from error
    both: dict[str, Any] = {**search.numbers, **numbers}
    return POLICIES[search.policy](**both)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a search was about: the request, its images decoded."""

    request: ChatRequest
    images: Sequence[Image]


async def rescored(
    search: StoredSearch, plan: SearchPlan, scorer: Scorer, asked: Asked | None, engine: CheckpointEngine | None
) -> Replay:
    """Have `scorer` judge the tree, what was `asked` in its view, through the `engine` if it goes by ids.

    Ids are encoded from the text of each candidate, which some tokenizers cut otherwise than it was sampled. Raises
    ScorerError, EngineError, InvalidPlan.
    """
    problem, nodes = plan.problem, search.nodes()
    if asked is not None and engine is not None:
        problem = await engine.render(asked.request.rendering(), asked.images)
        nodes = search.nodes(lambda text: tuple(following(text, encode=engine.encode)))
    if asked is not None:
        problem = replace(problem, messages=asked.request.plain())
    return await replay(replace(plan, problem=problem), nodes, scorer)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def report(search: StoredSearch, replayed: Replay, numbers: Mapping[str, float | None], scorer: str) -> Json:
    """What the search found, under `before`, beside what the replay finds in its tree, with every candidate."""
    result = replayed.result
    nodes = {node.candidate.id: node for node in result.nodes}
    trace = search.trace or ()
    chosen = "".join(node.text for node in trace if node.fate == "chosen")
    return {
        "policy": search.policy,
        "numbers": numbers,
        "scorer": scorer,
        "answer": _conclusion(result.answer.text),
        "score": result.answer.score,
        "accepted": result.accepted,
        "stopped_by": result.stopped_by,
        "lacking": None if replayed.lacking is None else _asked(replayed.lacking),
        "generations": result.generations,
        "retraces": result.retraces,
        "before": {
            "scorer": search.scorer,
            "answer": _conclusion(chosen),
            "score": search.score,
            "accepted": search.accepted,
            "stopped_by": search.stopped_by,
        },
        "trace": [
            {
                **traced(nodes[node.id] if node.id in nodes else node.node(None)),
                "tokens": node.tokens,
                "score": nodes[node.id].score if node.id in nodes else None,
                "fate": nodes[node.id].fate if node.id in nodes else "unused",
                "before": {"score": node.score, "fate": node.fate},
            }
            for node in trace
        ],
    }


def _conclusion(text: str) -> str | None:
    return next((section.text for section in parse(text) if section.stage is Stage.CONCLUSION), None)


def _asked(expand: Expand) -> Json:
    parents = [parent.last.id for parent in expand.parents if parent.candidates]
    return {"stage": expand.stage.name, "parents": parents, "candidates": expand.num_candidates}


def table(told: Json) -> str:
    """The report as plain text: a line for each candidate, then the decision."""
    before = told["before"]
    head = ROW.format("id", "parent", "stage", "before", "now", "before", "now")
    rows = [
        ROW.format(
            node["id"],
            _said(node["parent"]),
            node["stage"],
            _said(node["before"]["score"]),
            _said(node["score"]),
            node["before"]["fate"],
            node["fate"],
        )
        for node in told["trace"]
    ]
    numbers = ", ".join(f"{name} {number}" for name, number in told["numbers"].items() if number is not None)
    facts = [
        f"{name:12}{_said(before[name])} -> {_said(told[name])}"
        for name in ("scorer", "answer", "score", "accepted", "stopped_by")
    ]
    lacking = [_told_lacking(told["lacking"])] if told["lacking"] else []
    return "\n".join([head, *rows, "", f"{'policy':12}{told['policy']} {numbers}", *facts, *lacking])


def _told_lacking(lacking: Json) -> str:
    parents = f" of {', '.join(map(str, lacking['parents']))}" if lacking["parents"] else ""
    asked = f"{lacking['candidates']} candidates of {lacking['stage']}{parents}"
    return f"The policy asks for {asked}. The tree does not hold them all: the answer is the best that it holds."


def _said(value: float | str | bool | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
