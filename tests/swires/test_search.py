import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from swires.budget import Budget, Limit, Spend
from swires.choosing import best
from swires.errors import DeadlineExceeded, EngineError, ScorerError
from swires.events import (
    CandidateFinished,
    CandidateScored,
    Event,
    Retraced,
    SearchFinished,
    StageChosen,
    StageLeading,
    StageStarted,
    TextCommitted,
)
from swires.plan import SearchPlan
from swires.policies import POLICIES, BestOfN, Greedy, SentenceBeam, StageBeam, Swires
from swires.protocols import Chunk, Scores
from swires.search import search
from swires.stages import Stage
from swires.types import ROOT, Candidate, Expand, Flow, Outcome, Problem, Sampling, Trajectory
from tests.swires.scripted import (
    PROBLEM,
    Line,
    Request,
    ScriptedEngine,
    ScriptedScorer,
    Trusting,
    few,
    ids,
    many,
    run,
    searched,
)

SUMMARY, CAPTION, REASONING, CONCLUSION = Stage


def tagged(stage: Stage, text: object) -> str:
    return f"{stage.opening}{text}{stage.closing}"


def random_script(seed: int, *, wrong: bool = False) -> Callable[[Request, int], Line]:
    """Texts and durations by request and sample; with `wrong` also stages without their end."""

    def script(request: Request, index: int) -> Line:
        chance = Random(f"{seed} {request.prefix} {request.stage} {request.sampling.seed} {index}")
        text = tagged(request.stage, f"{chance.random():.3f}")
        if request.sampling.stop and chance.random() < 0.7:
            text = f"{chance.random():.3f}."[1:]
        if wrong and chance.random() < 0.2:
            return Line(text[:-3], chance.random(), "length")
        return Line(text, chance.random())

    return script


def random_judge(seed: int) -> Callable[[Trajectory], float]:
    return lambda trajectory: round(Random(f"{seed} {trajectory.text}").gauss(0, 1), 1)


def followed(plan: SearchPlan, engine: ScriptedEngine, scorer: ScriptedScorer) -> Outcome:
    """What the policy decides when all is done one after another, in order."""
    spend = Spend(plan.budget, lambda: 0.0)
    flow = plan.policy.flow(spend)
    expand = next(flow)
    num_expands = 0
    try:
        while True:
            grown = []
            for index, parent in enumerate(expand.parents):
                seed = Random(f"{plan.sampling.seed} {num_expands} {index}").getrandbits(48)
                sampling = Sampling(seed=None if expand.greedy else seed, stop=expand.stop)
                request = Request(parent.text, expand.stage, expand.samples, sampling, expand.live)
                for sample in range(expand.samples):
                    line = engine.script(request, sample)
                    candidate = Candidate(
                        spend.generations, expand.stage, line.text, ids(line.text), line.finish_reason
                    )
                    spend.generations += 1
                    score = scorer.judge(parent.then(candidate)) if line.finish_reason == "stop" else -math.inf
                    grown.append(parent.then(candidate, score if expand.scored else None))
            num_expands += 1
            expand = flow.send(tuple(grown))
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome


@few
@given(st.sampled_from(sorted(POLICIES)), st.integers(0, 999), st.floats(0, 1), st.booleans(), st.booleans())
def test_the_outcome_does_not_depend_on_who_arrives_first(
    name: str, seed: int, scorer_s: float, wrong: bool, looks_ahead: bool
) -> None:
    plan = SearchPlan(PROBLEM, POLICIES[name](), Sampling(seed=seed))
    engine = ScriptedEngine(random_script(seed, wrong=wrong))
    scorer = ScriptedScorer(random_judge(seed), scorer_s)
    result, _ = searched(plan, engine, scorer, Trusting() if looks_ahead else None)
    outcome = followed(plan, engine, scorer)
    assert (result.answer, result.accepted, result.stopped_by) == (
        outcome.answer,
        outcome.accepted,
        outcome.stopped_by,
    )


@dataclass(frozen=True)
class Wandering:
    """Expands anything that its promises allow."""

    seed: int
    name: ClassVar[str] = "wandering"
    thresholds: ClassVar[bool] = True
    width: ClassVar[int] = 9
    least_generations: ClassVar[int] = 1
    most_generations: ClassVar[None] = None

    def flow(self, spend: Spend) -> Flow:
        chance = Random(self.seed)
        possible: list[Trajectory] = [ROOT]
        for _ in range(chance.randint(1, 6)):
            parents = tuple(chance.sample(possible, chance.randint(1, min(3, len(possible)))))
            final = chance.random() < 0.5
            grown = yield Expand(
                chance.choice(list(Stage)),
                parents,
                chance.randint(1, 3),
                final=final,
                scored=chance.random() < 0.7,
                stop=chance.choice([(), (".",)]),
            )
            possible = list(grown) if final else [*possible, *grown]
        return Outcome(chance.choice([each for each in possible if each.candidates]))


@many
@given(
    st.integers(0, 99_999),
    st.builds(
        Budget,
        max_generations=st.integers(1, 20),
        max_total_tokens=st.integers(1, 2000),
        timeout_s=st.floats(0.01, 6),
        max_answer_tokens=st.integers(1, 200),
    ),
    st.integers(0, 60),
    st.integers(1, 4),
    st.booleans(),
)
def test_any_search_keeps_its_limits_and_its_word(
    seed: int, budget: Budget, tokens_each: int, num_answers: int, looks_ahead: bool
) -> None:
    assume(num_answers <= min(budget.max_generations, budget.max_total_tokens))
    engine = ScriptedEngine(random_script(seed, wrong=True))
    scorer = ScriptedScorer(random_judge(seed), 0.3, tokens_each)
    try:
        plan = SearchPlan(PROBLEM, Wandering(seed), Sampling(), budget, num_answers=num_answers)
        result, events = searched(plan, engine, scorer, Trusting() if looks_ahead else None)
    except DeadlineExceeded:
        assert budget.timeout_s < 6
        return
    finally:
        assert engine.num_running == 0
    assert events[-1] == SearchFinished(result)
    assert result.generations <= sum(request.n for request in engine.requests)
    assert result.generations == sum(request.n for request in engine.requests) or looks_ahead
    assert result.generations <= budget.max_generations
    assert result.tokens.generated <= budget.max_total_tokens
    assert len(result.answers) == num_answers
    assert all(len(answer.token_ids) <= budget.max_answer_tokens for answer in result.answers)
    chosen = {each.id: each for answer in result.answers for each in answer.candidates}
    assert result.tokens.winner == sum(len(candidate.token_ids) for candidate in chosen.values())
    assert result.seconds <= budget.timeout_s + 1e-6
    assert [node.candidate.id for node in result.nodes] == list(range(len(result.nodes)))
    finished = [event for event in events if isinstance(event, CandidateFinished)]
    assert {event.candidate.id: event.parent for event in finished} == {
        node.candidate.id: node.parent for node in result.nodes
    }


def by_id(trajectory: Trajectory) -> float:
    return float(trajectory.last.id)


def starts(events: Sequence[Event]) -> list[tuple[Stage, tuple[int, ...], int]]:
    return [(each.stage, each.parents, each.num_candidates) for each in events if isinstance(each, StageStarted)]


def test_swires_from_start_to_end() -> None:
    engine = ScriptedEngine()
    result, events = searched(SearchPlan(PROBLEM, Swires()), engine, ScriptedScorer(by_id))
    assert starts(events) == [(SUMMARY, (), 1), (CAPTION, (0,), 4), (REASONING, (4, 3), 4), (CONCLUSION, (8, 7, 6), 3)]
    assert [candidate.id for candidate in result.answer.candidates] == [0, 4, 6, 11]
    assert result.answer.scores == (None, 4.0, 6.0, 11.0)
    assert [section.stage for section in result.sections] == list(Stage)
    assert (result.generations, result.retraces, result.accepted, result.stopped_by) == (12, 0, True, None)
    assert [node.parent for node in result.nodes] == [None, 0, 0, 0, 0, 4, 4, 3, 3, 8, 7, 6]
    assert [node.candidate.id for node in result.nodes if node.fate == "chosen"] == [0, 4, 6, 11]
    assert not result.scorer_degraded


def test_where_the_tokens_went() -> None:
    """Every prompt is computed anew, and the stages before are cached; the scorer computes 3 tokens and finds 1."""
    engine, scorer = ScriptedEngine(), ScriptedScorer(by_id, tokens_each=3)
    result, _ = searched(SearchPlan(PROBLEM, StageBeam(candidates=2, keep=1)), engine, scorer)
    tokens, stages = result.tokens, [len(candidate.text) for candidate in result.answer.candidates]
    assert (tokens.winner, tokens.discarded, tokens.aborted) == (sum(stages), sum(stages), 0)
    assert (tokens.prompt, tokens.generated, tokens.scored) == (10, 2 * sum(stages), 8 * 3)
    assert tokens.computed == 8 * 10 + 8 * 3
    assert tokens.cached == 2 * sum(sum(stages[:stage]) for stage in Stage) + 8


def test_retraces_are_told_with_what_they_make_void() -> None:
    result, events = searched(SearchPlan(PROBLEM, Swires(max_retraces=2)), ScriptedEngine(), ScriptedScorer())
    assert [each for each in events if isinstance(each, Retraced)] == [Retraced(CAPTION, (CAPTION, REASONING))] * 2
    assert (result.retraces, result.accepted) == (2, False)


def test_a_lone_candidate_that_is_final_is_told_as_it_grows() -> None:
    told: list[tuple[float, str]] = []

    def emit(event: Event) -> None:
        if isinstance(event, TextCommitted):
            told.append((asyncio.get_running_loop().time(), event.text))

    engine = ScriptedEngine(lambda request, index: Line("four", 4.0))
    run(search(SearchPlan(PROBLEM, Greedy()), engine, ScriptedScorer(), emit))
    assert told == [(1.0, "f"), (2.0, "o"), (3.0, "u"), (4.0, "r")]
    assert [request.live for request in engine.requests] == [True]


def test_a_lone_candidate_that_a_retrace_may_void_is_not_told() -> None:
    policy = Swires(captions=1, keep_captions=1, reasonings=1, keep_reasonings=1, accept_rank=1, max_retraces=1)
    engine = ScriptedEngine()
    searched(SearchPlan(PROBLEM, policy), engine, ScriptedScorer())
    assert [request.live for request in engine.requests] == [True, False, False, False, False, True]


def test_what_all_parents_share_is_told_when_they_are_expanded() -> None:
    policy = Swires(captions=2, keep_captions=1, max_retraces=0, keep_reasonings=2)
    _, events = searched(SearchPlan(PROBLEM, policy), ScriptedEngine(), ScriptedScorer(by_id))
    order = [
        each.stage if isinstance(each, StageStarted) else each.candidate.stage.name
        for each in events
        if isinstance(each, StageStarted | StageChosen)
    ]
    assert order == [SUMMARY, "SUMMARY", CAPTION, "CAPTION", REASONING, CONCLUSION, "REASONING", "CONCLUSION"]


def test_scores_are_asked_for_as_candidates_arrive() -> None:
    """They come after 1, 2, 3 and 4 seconds; the scorer takes 2.5 for a batch."""
    engine = ScriptedEngine(lambda request, index: Line(tagged(CONCLUSION, index), 4.0 - index))
    scorer = ScriptedScorer(lambda trajectory: [3.0, 1.0, 2.0, 0.0][trajectory.last.id], seconds=2.5)
    result, events = searched(SearchPlan(PROBLEM, BestOfN(4)), engine, scorer)
    assert [[each.last.id for each in batch] for batch in scorer.batches] == [[3], [2, 1], [0]]
    assert result.seconds == pytest.approx(8.5)
    assert [each.id for each in events if isinstance(each, CandidateScored)] == [3, 2, 1, 0]
    assert [each.id for each in events if isinstance(each, StageLeading)] == [3, 2, 0]


def test_candidates_that_read_the_same_are_scored_once_in_a_search() -> None:
    """In the second round the captions and the reasonings of the first come again."""
    engine = ScriptedEngine(lambda request, index: Line(tagged(request.stage, index // 2)))
    scorer = ScriptedScorer(lambda trajectory: -1.0)
    policy = Swires(max_retraces=1)
    result, events = searched(SearchPlan(PROBLEM, policy), engine, scorer)
    texts = [trajectory.text for batch in scorer.batches for trajectory in batch]
    assert len(texts) == len(set(texts)) == 2 + 1 + 1  # captions, reasonings of the first caption, conclusions
    assert len([each for each in events if isinstance(each, CandidateScored)]) == result.generations - 1
    assert result.tokens.scored == len(texts)
    assert {node.score for node in result.nodes[1:]} == {-1.0}


def test_a_scorer_that_compares_is_shown_all_candidates_at_once() -> None:
    engine = ScriptedEngine(lambda request, index: Line(tagged(CONCLUSION, index // 2), 4.0 - index))
    scorer = ScriptedScorer(by_id, compares=True)
    searched(SearchPlan(PROBLEM, BestOfN(4)), engine, scorer)
    assert [[each.last.id for each in batch] for batch in scorer.batches] == [[3, 2, 1, 0]]


def test_what_the_engine_is_asked_for() -> None:
    engine, scorer = ScriptedEngine(), ScriptedScorer(by_id, needs_likelihood=True)
    searched(SearchPlan(PROBLEM, Swires(), Sampling(temperature=0.5, max_tokens=99, seed=7)), engine, scorer)
    assert [(request.stage, request.n) for request in engine.requests] == [
        (SUMMARY, 1),
        (CAPTION, 4),
        *[(REASONING, 2)] * 2,
        *[(CONCLUSION, 1)] * 3,
    ]
    assert [request.sampling.likelihood for request in engine.requests] == [False] + [True] * 6
    assert {(request.sampling.temperature, request.sampling.max_tokens) for request in engine.requests} == {(0.5, 99)}
    seeds = {request.sampling.seed for request in engine.requests}
    assert len(seeds) == len(engine.requests)
    assert scorer.batches[0][0].last.mean_logprob == -1.0


def test_a_stage_is_sampled_in_its_own_way() -> None:
    engine = ScriptedEngine()
    own = {CAPTION: Sampling(temperature=1.5, max_tokens=99, seed=7)}
    searched(SearchPlan(PROBLEM, Swires(), Sampling(seed=7), samplings=own), engine, ScriptedScorer(by_id))
    found = {(request.stage, request.sampling.temperature, request.sampling.max_tokens) for request in engine.requests}
    assert found == {(SUMMARY, 0.6, 2048), (CAPTION, 1.5, 99), (REASONING, 0.6, 2048), (CONCLUSION, 0.6, 2048)}
    assert len({request.sampling.seed for request in engine.requests}) == len(engine.requests)


def test_further_answers_are_sampled_from_what_the_answer_concludes() -> None:
    engine = ScriptedEngine()
    plan = SearchPlan(PROBLEM, Swires(max_retraces=0), Sampling(seed=7), num_answers=3)
    alone, _ = searched(replace(plan, num_answers=1), ScriptedEngine(), ScriptedScorer(by_id))
    result, events = searched(plan, engine, ScriptedScorer(by_id))
    assert result.answer == alone.answer
    assert [answer.parent for answer in result.others] == [result.answer.parent] * 2
    assert len({answer.last.id for answer in result.answers}) == 3
    last = engine.requests[-1]
    assert (last.prefix, last.stage, last.n, last.live) == (result.answer.parent.text, CONCLUSION, 2, False)
    assert starts(events)[-1] == (CONCLUSION, (result.answer.parent.last.id,), 2)
    assert result.tokens.winner == alone.tokens.winner + sum(len(answer.last.token_ids) for answer in result.others)


def test_the_answer_is_told_before_others_are_sampled() -> None:
    _, events = searched(SearchPlan(PROBLEM, Greedy(), num_answers=2), ScriptedEngine(), ScriptedScorer())
    kinds = [type(event) for event in events]
    assert kinds.index(StageChosen) < len(kinds) - 1 - kinds[::-1].index(StageStarted)


def test_what_is_asked_of_a_stage_reaches_the_engine_at_that_stage() -> None:
    own = {CONCLUSION: Sampling(top_logprobs=2, json_schema="{}")}
    engine = ScriptedEngine()
    searched(SearchPlan(PROBLEM, Swires(), samplings=own), engine, ScriptedScorer(by_id))
    found = {
        (request.stage, request.sampling.top_logprobs, request.sampling.json_schema) for request in engine.requests
    }
    assert found == {(SUMMARY, None, None), (CAPTION, None, None), (REASONING, None, None), (CONCLUSION, 2, "{}")}


def test_no_seed_is_made_up() -> None:
    engine = ScriptedEngine()
    searched(SearchPlan(PROBLEM, BestOfN(2)), engine, ScriptedScorer())
    assert engine.requests[0].sampling.seed is None


def test_greedy_is_greedy() -> None:
    engine = ScriptedEngine()
    searched(SearchPlan(PROBLEM, Greedy(), Sampling(seed=7)), engine, ScriptedScorer(needs_likelihood=True))
    sampling = engine.requests[0].sampling
    assert (sampling.temperature, sampling.seed, sampling.likelihood) == (0.0, None, False)


def test_wider_samples_are_drawn_hotter_and_from_all_tokens() -> None:
    engine = ScriptedEngine()
    policy = Swires(
        captions=1, keep_captions=1, reasonings=1, keep_reasonings=1, accept_rank=1, max_retraces=1, widen=1.5
    )
    searched(SearchPlan(PROBLEM, policy, Sampling(temperature=0.6)), engine, ScriptedScorer())
    asked = [(each.stage, round(each.sampling.temperature, 6), each.sampling.top_p) for each in engine.requests]
    assert asked == [
        (SUMMARY, 0.6, 0.9),
        (CAPTION, 0.6, 0.9),
        (REASONING, 0.6, 0.9),
        (CAPTION, 0.9, 1.0),
        (REASONING, 0.9, 1.0),
        (CONCLUSION, 0.6, 0.9),
    ]


def test_sentences_end_at_their_stop() -> None:
    def script(request: Request, index: int) -> Line:
        return Line("One." if len(request.prefix) < 8 else "</CONCLUSION>")

    engine = ScriptedEngine(script)
    result, _ = searched(SearchPlan(PROBLEM, SentenceBeam()), engine, ScriptedScorer())
    assert result.answer.text == "One.One.</CONCLUSION>"
    assert [request.sampling.stop for request in engine.requests] == [(".",)] * 3


@dataclass
class FailingScorer:
    """Gives `values` the first time, or fails where there are none, then the ids of the candidates."""

    values: Callable[[int], tuple[float, ...]] | None
    needs_likelihood: bool = False
    compares: bool = False
    ranks: bool = False
    num_calls: int = 0

    async def score(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        self.num_calls += 1
        if self.num_calls > 1:
            return Scores(tuple(by_id(trajectory) for trajectory in trajectories))
        if self.values is None:
            raise ScorerError("broken")
        return Scores(self.values(len(trajectories)))


@pytest.mark.parametrize(
    "values",
    [None, lambda n: (math.nan,) * n, lambda n: (math.inf,) * n, lambda n: (1.0,) * (n - 1)],
    ids=["raises", "nan", "inf", "too few"],
)
def test_a_scorer_that_fails_makes_all_candidates_average(
    values: Callable[[int], tuple[float, ...]] | None,
) -> None:
    plan = SearchPlan(PROBLEM, StageBeam(candidates=4, keep=2))
    result, events = searched(plan, ScriptedEngine(), FailingScorer(values))
    assert result.scorer_degraded
    assert {each.id for each in events if isinstance(each, CandidateScored)} == set(range(4, 16))
    assert [node.score for node in result.nodes] == [0.0] * 4 + [float(id_) for id_ in range(4, 16)]
    assert starts(events)[1] == (CAPTION, (0, 1), 4)


def test_a_scorer_that_does_not_answer_is_not_waited_for_in_the_end() -> None:
    plan = SearchPlan(PROBLEM, BestOfN(2), budget=Budget(timeout_s=8.0))
    result, _ = searched(plan, ScriptedEngine(), ScriptedScorer(seconds=1e9))
    assert (result.seconds, result.scorer_degraded, result.answer.score) == (8.0, True, 0.0)


def test_a_scorer_that_does_not_answer_leaves_time_for_a_conclusion() -> None:
    """Candidates would be cut after 6 of 8 seconds; of the 2 that are kept, the scores of the captions take one."""
    plan = SearchPlan(PROBLEM, Swires(), budget=Budget(timeout_s=8.0))
    result, _ = searched(plan, ScriptedEngine(), ScriptedScorer(seconds=1e9))
    assert [candidate.id for candidate in result.answer.candidates] == [0, 1, 5]
    assert result.answer.text.endswith("</CONCLUSION>")
    assert (result.seconds, result.stopped_by, result.scorer_degraded) == (7.0, "seconds", True)


class FailingEngine(ScriptedEngine):
    dead = True

    async def generate(
        self, problem: Problem, prefix: tuple[int, ...], *, stage: Stage, n: int, sampling: Sampling, live: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        if prefix[-2:] == ids("!>"):
            raise EngineError("failed", dead=self.dead) from KeyError("cause")
        async for chunk in super().generate(problem, prefix, stage=stage, n=n, sampling=sampling, live=live):
            yield chunk


def test_a_failing_engine_ends_the_search_with_its_own_error() -> None:
    """One of two requests fails, the other one is given up."""
    engine = FailingEngine(lambda request, index: Line("!>" if index else "...", 1e6 if request.prefix else 1.0))
    policy = StageBeam(candidates=2, keep=2)
    with pytest.raises(EngineError) as failed:
        run(search(SearchPlan(PROBLEM, policy), engine, ScriptedScorer(), lambda event: None))
    assert failed.value.dead
    assert isinstance(failed.value.__cause__, KeyError)
    assert engine.num_running == 0


class FailingAtTimes(FailingEngine):
    dead = False


def test_a_request_that_fails_costs_its_candidates_alone() -> None:
    engine = FailingAtTimes(lambda request, index: Line("a!>" if index and not request.prefix else f"{index}"))
    result, _ = searched(SearchPlan(PROBLEM, StageBeam(candidates=2, keep=2)), engine, ScriptedScorer())
    reasons = ["stop", "stop", "stop", "failed", "stop", "length"]
    assert [node.candidate.finish_reason for node in result.nodes[:6]] == reasons
    assert (result.nodes[3].fate, result.nodes[3].score, result.nodes[5].candidate.text) == ("aborted", -math.inf, "")
    assert not any("a!>" in request.prefix for request in engine.requests)
    assert (result.stopped_by, [candidate.id for candidate in result.answer.candidates][:3]) == (None, [0, 2, 4])


def test_where_every_request_fails_the_error_is_the_search_s() -> None:
    engine = FailingAtTimes(lambda request, index: Line("!>"))
    with pytest.raises(EngineError):
        run(search(SearchPlan(PROBLEM, StageBeam(candidates=2, keep=2)), engine, ScriptedScorer(), lambda event: None))
    assert engine.num_running == 0


def test_an_engine_that_leaves_a_candidate_out() -> None:
    class Forgetful(ScriptedEngine):
        def _chunks(self, request: Request, index: int) -> list[tuple[float, Chunk]]:
            return super()._chunks(request, index) if index else []

    with pytest.raises(EngineError):
        run(search(SearchPlan(PROBLEM, BestOfN(2)), Forgetful(), ScriptedScorer(), lambda event: None))


def slow_from(stage: Stage, *, fast: int = 0, never: Stage | None = None) -> ScriptedEngine:
    """Stages take a second; of the candidates of `stage` all but the first `fast` take forever, of `never` all."""

    def script(request: Request, index: int) -> Line:
        # A conclusion that is asked for at a limit comes after any stage.
        forever = (request.stage is stage and index >= fast) or request.stage is never
        return Line(tagged(request.stage, f"{request.stage.name.lower()} {index}"), 1e9 if forever else 1.0)

    return ScriptedEngine(script)


IN_8_S = Budget(timeout_s=8.0)


def test_at_the_soft_deadline_the_best_so_far_is_concluded() -> None:
    """Two of four captions arrive; the other two are cut after 6 of 8 seconds."""
    engine = slow_from(CAPTION, fast=2)
    result, events = searched(SearchPlan(PROBLEM, Swires(), budget=IN_8_S), engine, ScriptedScorer(by_id))
    assert [candidate.id for candidate in result.answer.candidates] == [0, 2, 5]
    assert (result.stopped_by, result.accepted) == ("seconds", None)
    assert result.seconds == pytest.approx(7.0)
    assert [node.fate for node in result.nodes] == ["chosen", "discarded", "chosen", "aborted", "aborted", "chosen"]
    assert [node.score for node in result.nodes[1:5]] == [1.0, 2.0, -math.inf, -math.inf]
    assert starts(events)[-1] == (CONCLUSION, (2,), 1)


def test_at_the_soft_deadline_a_live_candidate_is_continued_where_it_was_cut() -> None:
    def script(request: Request, index: int) -> Line:
        return Line("<SUMMARY>abc", 16.0) if request.stage is SUMMARY else Line("def", 1.0)

    result, _ = searched(SearchPlan(PROBLEM, Swires(), budget=IN_8_S), ScriptedEngine(script), ScriptedScorer())
    assert result.answer.text == "<SUMdef"
    assert result.seconds == pytest.approx(7.0)


def test_candidates_that_were_cut_unseen_are_not_built_upon() -> None:
    """Half of their ids had come, but no text."""

    def script(request: Request, index: int) -> Line:
        return Line(tagged(request.stage, index), 8.0 if request.stage is CAPTION else 1.0)

    plan = SearchPlan(PROBLEM, Swires(), budget=IN_8_S)
    result, _ = searched(plan, ScriptedEngine(script), ScriptedScorer())
    assert [candidate.id for candidate in result.answer.candidates] == [0, 5]
    assert result.tokens.aborted > 0


def test_what_was_told_is_kept_to() -> None:
    """The first caption is final before a limit is reached, though the second one has a better score."""

    @dataclass(frozen=True)
    class FirstComeFirstServed(Wandering):
        def flow(self, spend: Spend) -> Flow:
            captions = yield Expand(CAPTION, (ROOT,), 2)
            yield Expand(REASONING, captions[:1], 2)
            return Outcome(ROOT)

    plan = SearchPlan(PROBLEM, FirstComeFirstServed(0), budget=IN_8_S)
    result, _ = searched(plan, slow_from(REASONING), ScriptedScorer(by_id))
    assert [candidate.id for candidate in result.answer.candidates] == [0, 4]


def test_more_stages_count_more_than_a_better_score() -> None:
    """The retrace does not come to its end; its parents' captions had better scores than the reasonings."""

    def script(request: Request, index: int) -> Line:
        return Line(tagged(request.stage, index), 1e9 if len(engine.requests) > 4 and request.stage is CAPTION else 1.0)

    engine = ScriptedEngine(script)
    scorer = ScriptedScorer(lambda trajectory: 9.0 if trajectory.last.stage is CAPTION else -by_id(trajectory))
    result, _ = searched(SearchPlan(PROBLEM, Swires(), budget=IN_8_S), engine, scorer)
    assert [candidate.id for candidate in result.answer.candidates] == [0, 1, 5, 13]
    assert (result.retraces, result.stopped_by) == (1, "seconds")


def test_at_the_hard_deadline_there_is_what_there_is() -> None:
    engine = slow_from(CAPTION, fast=2, never=CONCLUSION)
    result, _ = searched(SearchPlan(PROBLEM, Swires(), budget=IN_8_S), engine, ScriptedScorer(by_id))
    assert (result.stopped_by, result.seconds) == ("seconds", 8.0)
    assert [candidate.finish_reason for candidate in result.answer.candidates] == ["stop", "stop", "cut"]


def test_a_conclusion_in_time_is_enough() -> None:
    def script(request: Request, index: int) -> Line:
        late = request.stage is CONCLUSION and "reasoning 1" not in request.prefix
        return Line(tagged(request.stage, f"{request.stage.name.lower()} {index}"), 1e9 if late else 1.0)

    policy = Swires(captions=1, keep_captions=1, keep_reasonings=2)
    result, _ = searched(SearchPlan(PROBLEM, policy, budget=IN_8_S), ScriptedEngine(script), ScriptedScorer(by_id))
    assert (result.accepted, result.stopped_by, result.seconds) == (True, "seconds", 8.0)
    assert "reasoning 1" in result.answer.text
    assert result.answer.text.endswith("</CONCLUSION>")


def test_no_text_in_time() -> None:
    plan = SearchPlan(PROBLEM, BestOfN(2), budget=IN_8_S)
    with pytest.raises(DeadlineExceeded):
        searched(plan, slow_from(CONCLUSION), ScriptedScorer())


@pytest.mark.parametrize(
    ("budget", "limit"),
    [
        (Budget(max_generations=12), "generations"),
        (Budget(max_total_tokens=400), "tokens"),
        (Budget(max_answer_tokens=30), "answer_tokens"),
    ],
)
def test_the_limit_that_ended_the_search_is_named(budget: Budget, limit: Limit) -> None:
    """With a scorer that accepts nothing; every candidate has over 20 tokens."""
    result, _ = searched(SearchPlan(PROBLEM, Swires(), budget=budget), ScriptedEngine(), ScriptedScorer())
    assert result.stopped_by == limit
    assert result.answer.last.finish_reason == ("length" if limit == "answer_tokens" else "stop")


@pytest.mark.parametrize(
    ("granted", "generations", "limit"),
    [(12, 12, "load"), (20, 20, "load"), (27, 20, "load"), (28, 28, "generations"), (None, 28, "generations")],
)
def test_a_search_that_is_granted_less_than_its_budget_ends_by_load(
    granted: int | None, generations: int, limit: Limit
) -> None:
    """With a scorer that accepts nothing: 12 candidates, then 8 a retrace, of which the budget has room for two."""
    plan = SearchPlan(PROBLEM, Swires(), budget=Budget(max_generations=35))
    result = run(search(plan, ScriptedEngine(), ScriptedScorer(), lambda _: None, granted=granted))
    assert (result.generations, result.stopped_by) == (generations, limit)
    assert CONCLUSION.closing in result.answer.text


def test_a_search_that_is_granted_enough_is_not_ended_by_load() -> None:
    result = run(
        search(
            SearchPlan(PROBLEM, Swires()), ScriptedEngine(), ScriptedScorer(lambda _: 1.0), lambda _: None, granted=12
        )
    )
    assert (result.accepted, result.generations, result.stopped_by) == (True, 12, None)


@pytest.mark.parametrize("tokens", range(300, 700, 50))
def test_what_the_cache_saves_a_scorer_changes_no_search(tokens: int) -> None:
    plan = SearchPlan(PROBLEM, Swires(), budget=Budget(max_total_tokens=tokens))
    results = [searched(plan, ScriptedEngine(), ScriptedScorer(tokens_each=each))[0] for each in (1, 100)]
    assert results[0].answer == results[1].answer
    assert results[0].generations == results[1].generations
    assert results[0].tokens.scored * 100 == results[1].tokens.scored


def test_a_scorer_that_reads_nothing_costs_nothing() -> None:
    plan = SearchPlan(PROBLEM, Swires(), budget=Budget(max_total_tokens=600))
    free, reading = (searched(plan, ScriptedEngine(), ScriptedScorer(tokens_each=each))[0] for each in (0, 1))
    assert free.generations > reading.generations


def test_a_parent_without_room_for_more_is_not_sampled() -> None:
    @dataclass(frozen=True)
    class TwoLengths(Wandering):
        def flow(self, spend: Spend) -> Flow:
            grown = yield Expand(CAPTION, (ROOT,), 2)
            grown = yield Expand(CONCLUSION, grown, 2)
            return Outcome(best(grown, 1)[0])

    engine = ScriptedEngine(lambda request, index: Line("word" if index or request.prefix else "12345678"))
    plan = SearchPlan(PROBLEM, TwoLengths(0), budget=Budget(max_answer_tokens=8))
    result, _ = searched(plan, engine, ScriptedScorer(by_id))
    assert [(request.prefix, request.n) for request in engine.requests] == [("", 2), ("word", 2)]
    assert [node.candidate.finish_reason for node in result.nodes[2:]] == ["length", "length", "stop", "stop"]
    assert (result.generations, result.answer.text, result.stopped_by) == (4, "wordword", None)


def test_an_answer_that_is_whole_is_not_concluded_again() -> None:
    @dataclass(frozen=True)
    class Insatiable(Wandering):
        def flow(self, spend: Spend) -> Flow:
            grown = yield Expand(CONCLUSION, (ROOT,), 2, final=False)
            while True:
                yield Expand(CONCLUSION, grown, 1, final=False)

    plan = SearchPlan(PROBLEM, Insatiable(0), budget=Budget(max_generations=3))
    result, _ = searched(plan, ScriptedEngine(), ScriptedScorer(by_id))
    assert [candidate.id for candidate in result.answer.candidates] == [1]


@few
@given(st.sampled_from(sorted(POLICIES)), st.integers(0, 999), st.floats(0, 8))
def test_a_search_may_be_cancelled_at_any_time(name: str, seed: int, after_s: float) -> None:
    engine = ScriptedEngine(random_script(seed))

    async def cancel() -> None:
        plan = SearchPlan(PROBLEM, POLICIES[name]())
        task = asyncio.create_task(search(plan, engine, ScriptedScorer(random_judge(seed), 0.2), lambda event: None))
        await asyncio.wait((task,), timeout=after_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(cancel())
    assert engine.num_running == 0


def test_the_flow_is_closed_when_the_search_fails() -> None:
    closed: list[bool] = []

    @dataclass(frozen=True)
    class Watched(Wandering):
        def flow(self, spend: Spend) -> Flow:
            try:
                yield Expand(CONCLUSION, (ROOT.then(Candidate(0, SUMMARY, "!>", ids("!>"), "stop")),), 1)
            finally:
                closed.append(True)
            return Outcome(ROOT)

    with pytest.raises(EngineError):
        run(search(SearchPlan(PROBLEM, Watched(0)), FailingEngine(), ScriptedScorer(), lambda event: None))
    assert closed == [True]
