"""The simulation against what can be told without it, and what is committed against the simulation."""

import json
import math
from contextlib import ExitStack
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.bench import simulate
from deploy.bench.simulate_cluster import Cluster, Fronts, LiveSearch, Simulation
from deploy.bench.simulate_estimate import Roofline
from deploy.bench.simulate_inputs import ROOT, RecordedCandidate, RecordedSearch, StepTimes, Workload
from deploy.bench.simulate_record import recorded
from deploy.bench.simulate_routing import BOUND, ROUTINGS, Router, Routing
from deploy.bench.simulate_sweep import ARRANGEMENTS, Row, Sweep, bend, per_s
from server.engine.fake import FakeEngine
from server.facts import traced
from server.scorer.fake import FakeScorer
from swires.plan import SearchPlan
from swires.policies import Swires
from swires.search import search

BLOCK = 32
TIMES = StepTimes(
    source="made up",
    decode_s={1: 0.010, 2: 0.011, 4: 0.013, 64: 0.073},
    prefill_token_s=0.0001,
    image_s=0.005,
    request_s=0.001,
    turnaround_s=0.004,
    front_request_s=0.002,
)
TREE = RecordedSearch(
    40,
    (
        RecordedCandidate(0, ROOT, 5, read=False),
        RecordedCandidate(1, 0, 3, read=True),
        RecordedCandidate(1, 0, 7, read=True),
        RecordedCandidate(2, 2, 2, read=False),
    ),
)
FRONTS: tuple[Fronts, ...] = ("each", "one", "same core")


def workload(*searches: RecordedSearch) -> Workload:
    return Workload(source="made up", block=BLOCK, searches=searches or (TREE,))


def made_up_tree(chance: Random, num_candidates: int = 8) -> RecordedSearch:
    candidates = tuple(
        RecordedCandidate(place, chance.randrange(ROOT, place), chance.randint(1, 90), chance.random() < 0.5)
        for place in range(num_candidates)
    )
    return RecordedSearch(chance.randint(1, 200), candidates)


def test_a_lone_search_takes_the_steps_that_it_takes() -> None:
    simulation = Simulation(Cluster(1), TIMES, workload(), seed=0)
    simulation.closed(1, seconds=0.001)
    front = 0.002 * (1 + 4 + 1)
    turnarounds = 0.004 * (1 + 1 + 1 + 1)
    summary = TIMES.step_s(1, 1, 40, 1) + 4 * TIMES.step_s(1, 0, 0, 0)
    # Of the prompt and summary 32 of 45 tokens are cached. The first caption is read after three steps while the
    # second still grows: of 48 tokens 32 are cached, as the last is never computed. Its reader misses a step.
    captions = TIMES.step_s(2, 2, 13 + 13, 0) + 2 * TIMES.step_s(2, 0, 0, 0) + TIMES.step_s(1, 0, 0, 0)
    captions += TIMES.step_s(2, 1, 48 - 32, 0) + 2 * TIMES.step_s(1, 0, 0, 0)
    read = TIMES.step_s(1, 1, 52 - 32, 0)
    conclusion = TIMES.step_s(1, 1, 52 - 32, 0) + TIMES.step_s(1, 0, 0, 0)
    whole = front + turnarounds + summary + captions + read + conclusion
    assert [each.seconds for each in simulation.served] == [pytest.approx(whole)]


def test_a_step_takes_what_is_told_and_is_on_a_line_between() -> None:
    for num, seconds in TIMES.decode_s.items():
        assert TIMES.step_s(num, 0, 0, 0) == pytest.approx(seconds)
    assert TIMES.step_s(3, 0, 0, 0) == pytest.approx(0.012)
    assert TIMES.step_s(124, 0, 0, 0) == pytest.approx(0.133)
    assert TIMES.step_s(1, 3, 100, 2) == pytest.approx(0.010 + 0.003 + 0.010 + 0.010)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_prefilled_is_what_a_cache_of_full_blocks_lacks(seed: int) -> None:
    """Against a cache that holds the blocks themselves."""
    chance = Random(seed)
    tree = made_up_tree(chance)
    search, blocks = LiveSearch(tree, home=0), dict[int, set[tuple[str, ...]]]()
    for place, candidate in enumerate(tree.candidates):
        replica = chance.randrange(3)
        held = blocks.setdefault(replica, set())
        text = texts(tree, candidate.parent)
        full = [text[: end + BLOCK] for end in range(0, len(text) - BLOCK + 1, BLOCK)]
        num_cached = sum(block in held and len(block) < len(text) for block in full)
        tokens, images = search.prefill(replica, candidate.parent, BLOCK)
        assert tokens == len(text) - num_cached * BLOCK
        assert images == (not held)
        held.update(full, {()})
        search.held[replica].add(place)
        sampled = texts(tree, place)
        held.update(sampled[: end + BLOCK] for end in range(0, len(sampled) - BLOCK + 1, BLOCK))


def texts(tree: RecordedSearch, node: int) -> tuple[str, ...]:
    if node == ROOT:
        return tuple(f"prompt {index}" for index in range(tree.prompt_tokens))
    candidate = tree.candidates[node]
    return texts(tree, candidate.parent) + tuple(f"{node} {index}" for index in range(candidate.tokens))


@settings(max_examples=40)
@given(
    replicas=st.integers(1, 6),
    routing=st.sampled_from(list(ROUTINGS)),
    fronts=st.sampled_from(FRONTS),
    burst=st.sampled_from([1, 90]),
    seed=st.integers(0, 1000),
)
def test_no_search_is_lost(replicas: int, routing: Routing, fronts: Fronts, burst: int, seed: int) -> None:
    trees = [made_up_tree(Random(index)) for index in range(5)]
    simulation = Simulation(Cluster(replicas, routing, fronts, 8), TIMES, workload(*trees), seed=seed)
    simulation.open(20, 5, burst=burst)
    assert simulation.num_arrived == len(simulation.served) + simulation.num_refused
    assert all(each.finished_s > each.arrived_s for each in simulation.served)
    assert all(replica._joining == [] and not replica._ending for replica in simulation._replicas)


@pytest.mark.parametrize("name", ARRANGEMENTS)
def test_more_replicas_serve_no_less(name: str) -> None:
    routing, fronts = ARRANGEMENTS[name]
    sweep = Sweep(TIMES, workload(), num_searches=3000)
    offered_per_s = 6 * sweep.most_per_s
    served = [
        sweep.row(name, Cluster(size, routing, fronts), offered_per_s=offered_per_s, burst=0).searches_per_s
        for size in (1, 2, 4, 8)
    ]
    for fewer, more in pairwise(served):
        assert more >= 0.97 * fewer
    assert served[1] > 1.5 * served[0]


def test_little_load_is_all_served_in_time() -> None:
    sweep = Sweep(TIMES, workload(), num_searches=600)
    row = sweep.row("", Cluster(4), offered_per_s=0.2 * 4 * sweep.most_per_s, burst=0)
    assert row.refused == 0
    assert row.share_in_time == 1
    assert row.p50_s == pytest.approx(sweep.lone_s, rel=0.5)


def test_one_replica_is_the_same_however_it_is_chosen() -> None:
    sweep = Sweep(TIMES, workload(), num_searches=300)
    told = {
        tuple(asdict(sweep.row("", Cluster(1, routing), offered_per_s=10, burst=0)).values())
        for routing in ("least", "request")
    }
    assert len(told) == 1


def test_without_affinity_more_is_computed() -> None:
    sweep = Sweep(TIMES, workload(), num_searches=600)
    least, request = (
        sweep.row("", Cluster(8, routing), offered_per_s=sweep.most_per_s, burst=0) for routing in ("least", "request")
    )
    assert request.p50_s > least.p50_s


def test_a_server_for_all_is_the_bound_where_it_is_slow() -> None:
    slow = TIMES.model_copy(update={"front_request_s": 0.02})
    simulation = Simulation(Cluster(16, "least", "one"), slow, workload(), seed=0)
    simulation.closed(50, seconds=200)
    assert per_s(simulation.served, 50, 200) == pytest.approx(1 / (6 * 0.02), rel=0.02)


def test_a_client_that_is_refused_asks_again() -> None:
    simulation = Simulation(Cluster(1, max_candidates=2), TIMES, workload(), seed=0)
    simulation.closed(80, seconds=5)
    assert simulation.num_refused
    assert simulation.served[-1].finished_s > 5


def test_bounded_loads_are_bounded() -> None:
    router, loads = Router("bounded", 7, Random(0)), [0] * 7
    with ExitStack() as under_way:
        for num in range(1, 200):
            loads[under_way.enter_context(router.search())] += 1
            assert max(loads) <= math.ceil(BOUND * num / 7)


def test_hashing_alone_is_uneven() -> None:
    loads = [0] * 100
    router = Router("hash", 100, Random(0))
    for _ in range(100_000):
        with router.search() as home:
            loads[home] += 1
    assert 1.1 < max(loads) / 1000 < 1.6, "of 160 points each, the greatest share of a hundred"


def test_the_bend_is_where_too_little_comes_in_time() -> None:
    def row(replicas: int, in_time: float) -> Row:
        return Row("", 0, replicas, replicas, replicas, in_time * replicas, 1, 1, 0)

    assert bend([row(1, 1), row(2, 0.95), row(4, 0.8), row(8, 0.7)]) == 4
    assert bend([row(1, 1), row(2, 0.95)]) is None
    assert bend([row(1, 0.6), row(2, 0.58), row(4, 0.5)]) == 4


def test_an_estimate_says_that_it_is_one() -> None:
    times = Roofline().step_times(front_request_s=0)
    assert times.source.startswith("ESTIMATE")
    weights_s = 2 * 7.6e9 / (0.7 * 3.35e12)
    assert times.step_s(1, 0, 0, 0) == pytest.approx(0.002 + weights_s, rel=0.01)


async def test_a_search_is_recorded_from_its_trace() -> None:
    async with FakeEngine() as engine:
        problem = await engine.render([{"role": "user", "content": "How many?"}], [])
        plan = SearchPlan(problem, Swires(max_retraces=1, accept_z=99))
        result = await search(plan, engine, FakeScorer(), lambda _: None)
    told = {"trace": [traced(node) for node in result.nodes], "tokens": {"prompt": problem.num_prompt_tokens}}
    kept = recorded(json.loads(json.dumps(told)))
    assert [len(expansion) for expansion in kept.expansions] == [1, 4, 4, 4, 4, 3]
    assert sum(each.tokens for each in kept.candidates) == sum(len(n.candidate.token_ids) for n in result.nodes)
    assert all(candidate.parent < place for place, candidate in enumerate(kept.candidates))
    assert not kept.candidates[0].read


def test_what_is_committed_is_what_the_simulation_tells(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    committed = json.loads((simulate.HERE / "simulate.json").read_text())
    options = ["--load", str(committed["load"]), "--num-searches", str(committed["num_searches"])]
    assert simulate.main(["grow", *options, "--replicas", "1", "--out", str(tmp_path)]) == 0
    told = json.loads((tmp_path / "simulate.json").read_text())
    assert told["rows"] == [row for row in committed["rows"] if row["replicas"] == 1]
    assert (tmp_path / "simulate.png").stat().st_size > 1000
    assert "in time/s" in capsys.readouterr().out


@pytest.mark.parametrize("text", [None, "{}", "no JSON"])
def test_a_file_that_cannot_be_read_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str | None
) -> None:
    if text is not None:
        (tmp_path / "times.json").write_text(text)
    assert simulate.main(["node", "--step-times", str(tmp_path / "times.json")]) == 1
    told = capsys.readouterr().err
    assert told.startswith("simulate: ")
    assert told.count("\n") == 1
