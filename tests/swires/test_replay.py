"""A search decided anew over its own tree, against the search itself."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from swires.budget import Budget
from swires.errors import ScorerError
from swires.plan import SearchPlan
from swires.policies import POLICIES, BestOfN, Swires
from swires.protocols import Scorer, SearchPolicy
from swires.replay import Replay, StoredScores, replay
from swires.result import Node, SearchResult
from swires.stages import Stage
from swires.types import Trajectory
from tests.swires.scripted import PROBLEM, Line, Request, ScriptedEngine, ScriptedScorer, run, searched


def judged(seed: int, trajectory: Trajectory) -> float:
    return Random(f"{seed} {trajectory.last.id}").gauss(0, 1)


def script(request: Request, index: int) -> Line:
    """Some candidates do not come to their end."""
    whole = Random(f"{request.prefix} {index}").random() < 0.9
    text = f"{request.stage.opening}{len(request.prefix)}.{index}"
    return Line(text + request.stage.closing) if whole else Line(text, finish_reason="length")


def found(policy: SearchPolicy, seed: int, budget: Budget | None = None) -> SearchResult:
    scorer = ScriptedScorer(lambda trajectory: judged(seed, trajectory))
    return searched(SearchPlan(PROBLEM, policy, budget=budget or Budget()), ScriptedEngine(script), scorer)[0]


def replayed(
    policy: SearchPolicy, nodes: Sequence[Node], scorer: Scorer | None = None, budget: Budget | None = None
) -> Replay:
    plan = SearchPlan(PROBLEM, policy, budget=budget or Budget())
    return run(replay(plan, nodes, scorer or StoredScores(nodes)))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", POLICIES)
def test_with_nothing_changed_the_search_is_found_again(name: str, seed: int) -> None:
    policy = POLICIES[name]()
    budget = Budget(max_generations=Random(seed).randint(policy.least_generations, 40))
    result = found(policy, seed, budget)
    again = replayed(policy, result.nodes, budget=budget)
    assert again.lacking is None
    assert again.result.answer == result.answer
    assert again.result.nodes == result.nodes
    for fact in ("accepted", "stopped_by", "retraces", "generations"):
        assert getattr(again.result, fact) == getattr(result, fact)


@pytest.mark.parametrize("seed", range(20))
def test_a_narrow_policy_over_a_wide_tree(seed: int) -> None:
    """The first of each parent's candidates are what the narrow search would have sampled."""
    wide = Swires(captions=4, keep_captions=4, reasonings=3, keep_reasonings=12, accept_rank=1, max_retraces=0)
    result = found(wide, seed)
    narrow = replace(wide, captions=3, keep_captions=2, reasonings=1, keep_reasonings=1)
    again = replayed(narrow, result.nodes)
    assert again.lacking is None
    assert again.result.generations == 1 + 3 + 2 + 1
    captions = [node for node in result.nodes if node.candidate.stage is Stage.CAPTION][:3]
    kept = sorted(captions, key=lambda node: node.score or 0.0, reverse=True)[:2]
    chosen = again.result.answer.candidates[1]
    assert chosen in [node.candidate for node in kept]


def test_a_retrace_that_did_not_happen_ends_the_replay() -> None:
    accepted = found(Swires(accept_z=-100.0), 0)
    again = replayed(Swires(accept_z=100.0), accepted.nodes)
    assert again.lacking is not None
    assert (again.lacking.stage, again.lacking.num_candidates) == (Stage.CAPTION, 4)
    assert (again.result.stopped_by, again.result.accepted, again.result.retraces) == ("tree", None, 0)
    assert Stage.CONCLUSION.closing in again.result.answer.text


def test_captions_that_nothing_was_reasoned_about_end_the_replay() -> None:
    """The scorer likes what was not kept: the last captions instead of the first ones."""
    result = found(Swires(max_retraces=0), 1)
    kept = {node.parent for node in result.nodes if node.candidate.stage is Stage.REASONING}
    other = ScriptedScorer(lambda trajectory: -1.0 if trajectory.last.id in kept else 1.0)
    again = replayed(Swires(max_retraces=0), result.nodes, other)
    assert again.lacking is not None
    assert again.lacking.stage is Stage.REASONING
    assert again.result.stopped_by == "tree"
    assert {parent.last.id for parent in again.lacking.parents}.isdisjoint(kept)
    assert again.result.answer.last.stage is Stage.CAPTION


def test_a_candidate_that_was_cut_loses_whatever_the_scorer_says() -> None:
    cut = ScriptedEngine(lambda request, index: Line("x", finish_reason="stop" if index else "length"))
    result, _ = searched(SearchPlan(PROBLEM, BestOfN(2)), cut, ScriptedScorer())
    scorer = ScriptedScorer(lambda trajectory: -5.0)
    again = replayed(BestOfN(2), result.nodes, scorer)
    assert again.result.answer.last.id == 1
    assert [[each.last.id for each in batch] for batch in scorer.batches] == [[1]]


def test_the_generations_of_the_budget_bound_a_replay() -> None:
    retraced = found(Swires(accept_z=100.0), 0)
    again = replayed(Swires(accept_z=100.0, keep_reasonings=1), retraced.nodes, budget=Budget(max_generations=25))
    assert (again.result.accepted, again.result.retraces) == (False, 1)
    assert again.result.generations <= 1 + 2 * 8 + 1


@pytest.mark.parametrize("seed", range(10))
def test_what_was_accepted_is_told_though_its_conclusion_is_not_there(seed: int) -> None:
    """The search went on, and concluded better reasonings than those that are good enough now."""
    retraced = found(Swires(accept_z=100.0, keep_reasonings=1), seed)
    again = replayed(Swires(accept_z=-100.0, keep_reasonings=1), retraced.nodes)
    assert (again.result.accepted, again.result.retraces) == (True, 0)
    concluded = again.result.answer.last.stage is Stage.CONCLUSION
    assert concluded is (again.lacking is None)
    assert again.result.stopped_by == (None if concluded else "tree")
    reasonings = [node for node in again.result.nodes if node.candidate.stage is Stage.REASONING]
    best = max(reasonings, key=lambda node: node.score or 0.0)
    assert again.result.answer.candidates[2] == best.candidate


def test_a_score_that_a_candidate_never_had_is_missed_by_name() -> None:
    unscored = [replace(node, score=None) for node in found(BestOfN(2), 3).nodes]
    with pytest.raises(ScorerError, match=r"candidate \d was never scored"):
        replayed(BestOfN(2), unscored)


def test_an_empty_tree() -> None:
    again = replayed(BestOfN(2), [])
    assert (again.result.stopped_by, again.result.answer.text, again.result.generations) == ("tree", "", 0)
