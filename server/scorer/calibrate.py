"""What is usual: mean and deviation of the raw scores of each scorer and stage, measured on sample questions."""

import math
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, closing, suppress
from dataclasses import dataclass, replace
from random import Random
from statistics import fmean, stdev

from server.checkpoint import Calibration, Deviation, load, save
from server.engine.classifier import Classifier
from server.engine.merge import merged
from server.images import data_url
from server.scorer.questions import Question
from server.scorer.raw import RawScorer, calibration_key, raw_scorers
from server.scorer.shown import stage_judged
from server.serving_engine import CheckpointEngine
from server.settings import Sees
from swires.budget import Budget, Spend
from swires.errors import ScorerError
from swires.expansion import Expansion
from swires.policies import Swires
from swires.protocols import Scores, SearchPolicy
from swires.stages import Stage
from swires.types import Expand, Problem, Sampling, Trajectory

POLICY = Swires(max_retraces=0)
"""What it samples is what scores are used on. One round: more of them would favour the problems that need them."""

SAMPLING = Sampling()
PATIENCE_S = 3600
"""For one question; a candidate that is cut would not be measured."""

AT_ONCE = 8
"""Questions that are worked on at a time."""


async def calibrate(
    model: str,
    engine: CheckpointEngine,
    questions: Sequence[Question],
    *,
    progress: Callable[[int], None],
    sampling: Sampling = SAMPLING,
    policy: SearchPolicy = POLICY,
    seed: int = 0,
    sees: Sees = "answer",
    classifier: Classifier | None = None,
) -> dict[str, Calibration]:
    """Calibrate all scorers of the checkpoint in the directory `model`, which `engine` serves, and with a `classifier`
    that reward model, and write it down there, with the stages' lengths. What of that has been measured before and not
    now stays.

    `progress` is told how many questions are done. Raises ScorerError where a scorer or a stage cannot be calibrated,
    CheckpointError, EngineError.
    """
    checkpoint = load(model)
    scorers = raw_scorers(engine, checkpoint, sees, classifier)
    recorder = Recorder({calibration_key(name, sees): scorer for name, scorer in scorers.items()})
    sampler = Sampler(engine, recorder, policy, replace(sampling, likelihood=True))
    seeded = [(Random(f"{seed} {number}"), question) for number, question in enumerate(questions)]
    shares = [sampler.answers(seeded[start::AT_ONCE]) for start in range(AT_ONCE)]
    done = 0
    async with aclosing(merged(shares)) as answered:
        async for _ in answered:
            done += 1
            progress(done)
    calibrations = recorder.calibrations()
    kept = {**checkpoint.calibration, **calibrations}
    save(model, checkpoint.model_copy(update={"calibration": kept, "lengths": recorder.lengths()}))
    return calibrations


class Recorder:
    """Notes what all of the scorers make of each candidate; the first of them decides how the sampling goes on."""

    needs_likelihood = True
    compares = True  # some do, and each candidate is to be measured, the same or not
    ranks = False

    def __init__(self, scorers: Mapping[str, RawScorer]) -> None:
        self._scorers = scorers
        self._noted: dict[tuple[str, Stage], list[float]] = defaultdict(list)
        self._lengths: dict[Stage, list[int]] = defaultdict(list)
        self.failure: ScorerError | None = None

    async def score(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        try:
            measured = {name: await scorer.measure(problem, trajectories) for name, scorer in self._scorers.items()}
        except ScorerError as error:
            self.failure = error
            raise
        for trajectory in trajectories:
            self._lengths[stage_judged(trajectory)].append(len(trajectory.last.token_ids))
        for name, scores in measured.items():
            for trajectory, value in zip(trajectories, scores.values, strict=True):
                self._noted[name, stage_judged(trajectory)].append(value)
        return next(iter(measured.values()))

    def calibrations(self) -> dict[str, Calibration]:
        """Raises ScorerError where what was noted does not tell a deviation."""
        return {name: {stage: self._deviation(name, stage) for stage in Stage} for name in self._scorers}

    def lengths(self) -> dict[Stage, float]:
        """The mean number of tokens of each stage."""
        return {stage: fmean(lengths) for stage, lengths in sorted(self._lengths.items())}

    def _deviation(self, name: str, stage: Stage) -> Deviation:
        values = self._noted[name, stage]
        if not all(map(math.isfinite, values)) or len(set(values)) < 2:
            raise ScorerError(
                f"{name}: {len(values)} scores of {stage.name} are too few or too much alike to calibrate"
            )
        return Deviation(mean=fmean(values), std=stdev(values))


@dataclass(frozen=True, slots=True)
class Sampler:
    """Answers questions as the policy does, but has each candidate scored."""

    engine: CheckpointEngine
    scorer: Recorder
    policy: SearchPolicy
    sampling: Sampling

    async def answers(self, questions: Sequence[tuple[Random, Question]]) -> AsyncGenerator[None, None]:
        """One question after the other; yields after each."""
        for chance, question in questions:
            problem = await self._problem(question)
            spend = Spend(Budget(timeout_s=PATIENCE_S))
            with closing(self.policy.flow(spend)) as flow, suppress(StopIteration):
                expand = next(flow)
                while True:
                    expand = flow.send(await self._expand(expand, problem, spend, chance))
            yield

    async def _problem(self, question: Question) -> Problem:
        text = {"type": "text", "text": question.text}
        rendered = await self.engine.render([_asked({"type": "image"}, text)], [question.image])
        image = {"type": "image_url", "image_url": {"url": data_url(question.image)}}
        return replace(rendered, messages=(_asked(image, text),))

    async def _expand(self, expand: Expand, problem: Problem, spend: Spend, chance: Random) -> tuple[Trajectory, ...]:
        expansion = Expansion(
            replace(expand, scored=True),
            [replace(self.sampling, seed=chance.getrandbits(48)) for _ in expand.parents],
            problem=problem,
            engine=self.engine,
            scorer=self.scorer,
            spend=spend,
            emit=lambda event: None,
            first_id=spend.generations,
            deadline=spend.deadline,
        )
        grown = await expansion.run()
        if expansion.degraded:
            raise self.scorer.failure or ScorerError("a candidate could not be scored")
        return grown


def _asked(*parts: Mapping[str, object]) -> dict[str, object]:
    return {"role": "user", "content": [*parts]}
