"""What is counted of searches, scorers and refusals, and by what."""

import asyncio
import warnings
from collections.abc import Sequence
from contextlib import suppress

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.callers import Limits, Share
from server.engine.fake import FakeEngine
from server.errors import Refused, failure
from server.metrics import families
from server.metrics.families import Families
from server.metrics.page import REJECTIONS
from server.metrics.scorer import WatchedScorer
from server.metrics.search import WatchedSearch, by_fate
from server.scorer.fake import FakeScorer
from server.scorer.guarded import Guarded
from swires.admission import Line, Turn
from swires.errors import DeadlineExceeded, EngineError, Overloaded, ScorerError
from swires.events import CandidateFinished, Event, Retraced, SearchFinished, StageStarted, TextCommitted
from swires.protocols import Scores
from swires.result import Fate, Node, SearchResult, TokenSplit
from swires.stages import Stage
from swires.types import ROOT, Candidate, Problem, Trajectory
from tests.scorer.answers import PROBLEM, captions
from tests.server.client import ask, connect
from tests.server.conftest import Started
from tests.server.docs.metrics import BY_METRIC, VALUES


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def candidate(number: int, stage: Stage = Stage.CAPTION, tokens: int = 1) -> Candidate:
    return Candidate(number, stage, "", (0,) * tokens, "stop")


def finished(nodes: Sequence[Node] = ()) -> SearchFinished:
    tokens = TokenSplit(prompt=10, winner=1, discarded=1, aborted=0, scored=5, cached=70, computed=30)
    return SearchFinished(SearchResult(ROOT, (), True, None, 1, 3, True, tokens, 2.0, tuple(nodes)))


def value(counted: Families, name: str, **labels: str) -> float | None:
    return counted.registry.get_sample_value(name, labels)


@pytest.fixture
async def turn() -> Turn:
    return Line(1).join(1)


@pytest.fixture
def clock(turn: Turn) -> Clock:
    turn.joined_at = 0.0
    return Clock()


async def test_seconds_go_to_the_queue_and_to_the_stage_that_they_were_spent_on(turn: Turn, clock: Clock) -> None:
    counted = Families()
    turn.waited_s = 2.0
    told: Sequence[tuple[float, Event]] = [
        (3, StageStarted(Stage.SUMMARY, (), 1)),
        (4, TextCommitted("a")),
        (5, TextCommitted("b")),
        (7, StageStarted(Stage.CAPTION, (), 1)),
        (9, Retraced(Stage.SUMMARY, (Stage.SUMMARY, Stage.CAPTION))),
        (9, StageStarted(Stage.SUMMARY, (), 1)),
        (14, finished()),
    ]
    with WatchedSearch(counted, turn, "swires", "fast", clock) as search:
        for clock.now, event in told:
            search.take(event)
        clock.now = 15
    sums = {
        stage: value(counted, "swires_stage_seconds_sum", policy="swires", stage=stage)
        for stage in ("SUMMARY", "CAPTION")
    }
    assert sums == {"SUMMARY": 4 + 5, "CAPTION": 2}
    assert value(counted, "swires_queue_seconds_sum") == 2
    assert value(counted, "swires_time_to_first_text_seconds_sum", policy="swires", preset="fast") == 4
    assert value(counted, "swires_search_seconds_sum", policy="swires", preset="fast") == 15
    assert value(counted, "swires_retraces_total", policy="swires", stage="SUMMARY") == 1


def test_what_a_retrace_made_void_is_told_apart_from_what_only_lost() -> None:
    fates: Sequence[Fate] = ("chosen", "chosen", "discarded", "discarded", "aborted")
    nodes = [Node(candidate(number), None, 0.0, fate) for number, fate in enumerate(fates)]
    found = {fate: [each.id for each in candidates] for fate, candidates in by_fate(nodes, {0, 2, 4}).items()}
    assert found == {"chosen": [0, 1], "retraced": [2], "discarded": [3], "aborted": [4]}


async def test_tokens_by_fate(turn: Turn) -> None:
    stages = (Stage.SUMMARY, Stage.CAPTION, Stage.CAPTION, Stage.CAPTION)
    counted, all_of_them = Families(), [candidate(each, stage, 10**each) for each, stage in enumerate(stages)]
    fates: Sequence[Fate] = ("discarded", "discarded", "discarded", "chosen")
    nodes = [Node(each, None, 0.0, fate) for each, fate in zip(all_of_them, fates, strict=True)]
    with WatchedSearch(counted, turn, "swires", "fast") as search:
        for each in all_of_them[:2]:
            search.take(CandidateFinished(each, None))
        search.take(Retraced(Stage.CAPTION, (Stage.CAPTION,)))
        for each in all_of_them[2:]:
            search.take(CandidateFinished(each, None))
        search.take(finished(nodes))
    tokens = {
        fate: value(counted, "swires_generated_tokens_total", policy="swires", fate=fate)
        for fate in ("chosen", "retraced", "discarded", "lost")
    }
    assert tokens == {"chosen": 1000, "retraced": 10, "discarded": 101, "lost": None}
    assert value(counted, "swires_generations_total", policy="swires", stage="CAPTION") == 3
    assert value(counted, "swires_prompt_tokens_total", source="cached") == 70
    assert value(counted, "swires_judged_searches_total", policy="swires", preset="fast", accepted="true") == 1
    assert value(counted, "swires_scorer_degraded_total") == 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (EngineError("dead"), "failed"),
        (ValueError(), "failed"),
        (DeadlineExceeded(), "deadline"),
        (Overloaded("full"), "refused"),
        (asyncio.CancelledError(), "cancelled"),
        (GeneratorExit(), "cancelled"),
    ],
)
async def test_of_a_search_without_an_answer_all_tokens_are_lost(
    turn: Turn, error: BaseException, outcome: str
) -> None:
    counted = Families()
    with suppress(type(error)), WatchedSearch(counted, turn, "swires", "fast") as search:
        search.take(CandidateFinished(candidate(0, tokens=7), None))
        raise error
    assert value(counted, "swires_searches_total", policy="swires", preset="fast", outcome=outcome) == 1
    assert value(counted, "swires_generated_tokens_total", policy="swires", fate="lost") == 7


async def test_a_client_that_leaves_with_the_answer_has_it(turn: Turn) -> None:
    counted = Families()
    with suppress(GeneratorExit), WatchedSearch(counted, turn, "swires", "fast") as search:
        search.take(finished())
        raise GeneratorExit
    assert value(counted, "swires_searches_total", policy="swires", preset="fast", outcome="finished") == 1


class Silent(FakeScorer):
    async def score(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        await asyncio.Event().wait()
        raise AssertionError


class Broken(FakeScorer):
    def __init__(self, error: Exception) -> None:
        self._error = error

    async def score(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        raise self._error


@pytest.mark.parametrize(
    ("scorer", "reason"),
    [
        (Silent(), "timeout"),
        (Broken(ScorerError("no")), "error"),
        (Broken(EngineError("dead")), "engine"),
    ],
)
async def test_a_scorers_faults(scorer: FakeScorer, reason: str) -> None:
    counted = Families()
    watched = WatchedScorer(counted, "judge", Guarded("judge", scorer, 0.01))
    assert value(counted, "swires_scorer_faults_total", scorer="judge", reason=reason) == 0
    with pytest.raises((ScorerError, EngineError)):
        await watched.score(PROBLEM, captions("Two."))
    assert value(counted, "swires_scorer_faults_total", scorer="judge", reason=reason) == 1
    assert value(counted, "swires_scorer_seconds_count", scorer="judge") is None


async def test_a_scorers_scores() -> None:
    counted = Families()
    watched = WatchedScorer(counted, "fake", FakeScorer())
    scores = await watched.score(PROBLEM, captions("Two.", "Three."))
    assert scores == await FakeScorer().score(PROBLEM, captions("Two.", "Three."))
    assert value(counted, "swires_candidate_score_count", scorer="fake", stage="CAPTION") == 2
    below = sum(score <= 0 for score in scores.values)
    assert value(counted, "swires_candidate_score_bucket", scorer="fake", stage="CAPTION", le="0.0") == below
    assert value(counted, "swires_scorer_seconds_count", scorer="fake") == 1


async def test_refusals_for_want_of_room_by_what_was_full(started: Started) -> None:
    async with started(max_candidates=1, max_waiting=0) as app, connect(app) as client:
        with app.state.service.scheduler.join(1):
            assert (await ask(client)).status_code == 503
        await app.state.service.scheduler.drain()
        assert (await ask(client)).status_code == 503
        page = (await client.get("/metrics")).text
    assert 'swires_admission_rejections_total{reason="waiting_full"} 1.0' in page
    assert 'swires_admission_rejections_total{reason="draining"} 1.0' in page
    assert 'swires_admission_rejections_total{reason="arriving_full"} 0.0' in page


@pytest.mark.parametrize("limits", [Limits(searches=0), Limits(tokens_per_minute=1)])
def test_a_key_over_its_share_is_refused_for_a_known_reason(limits: Limits) -> None:
    share = Share()
    share.spend(10)
    with pytest.raises(Refused) as refused:
        share.place(limits)
    assert failure(refused.value).reason in REJECTIONS


async def test_labels_are_not_for_clients_to_make_up(started: Started) -> None:
    made_up = "made-up-by-a-client"
    async with started() as app, connect(app) as client:
        await ask(client, user=made_up, metadata={"key": made_up})
        await ask(client, model=made_up)
        await ask(client, swires={"policy": made_up, "preset": made_up, "scorer": made_up, made_up: 1})
        await client.get(f"/{made_up}", headers={"x-request-id": made_up, "x-session-id": made_up})
        await client.request(made_up, "/v1/chat/completions")
        page = (await client.get("/metrics")).text
    assert made_up not in page
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            for label, told in sample.labels.items() if sample.name.startswith("swires_") else ():
                known = (*VALUES.get(label, (told,)), *BY_METRIC.get(sample.name, ()), "fake", "other")
                assert told in known, sample


async def test_a_server_tells_its_state(started: Started) -> None:
    async def told(client: httpx.AsyncClient) -> dict[str, float]:
        page = (await client.get("/metrics")).text
        return {
            sample.name: sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name.startswith("swires_") and not sample.labels
        }

    engine = FakeEngine()
    async with started(engine, max_candidates=8, max_waiting=3) as app, connect(app) as client:
        with app.state.service.scheduler.join(6), app.state.service.scheduler.join(6):
            busy = await told(client)
        engine.alive = False
        await app.state.service.scheduler.drain()
        page, after = (await client.get("/metrics")).text, await told(client)
    assert (busy["swires_active_candidates"], busy["swires_max_candidates"]) == (6, 8)
    assert (busy["swires_waiting_searches"], busy["swires_max_waiting_searches"]) == (1, 3)
    assert (busy["swires_engine_alive"], busy["swires_draining"]) == (1, 0)
    assert (after["swires_active_candidates"], after["swires_engine_alive"], after["swires_draining"]) == (0, 0, 1)
    assert 'swires_build_info{engine="fake",model="demo"' in page
    assert "\nprocess_start_time_seconds " in page


def test_buckets_of_seconds_are_vllms() -> None:
    with warnings.catch_warnings(action="ignore"):
        from vllm.v1.metrics import buckets
    assert families.LATENCY_S == buckets.REQUEST_LATENCY_BUCKETS
    assert families.FIRST_S == buckets.TIME_TO_FIRST_TOKEN_BUCKETS
