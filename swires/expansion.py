"""One expansion at work: its candidates are sampled, and scored as they finish."""

import asyncio
import math
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from swires.budget import Spend
from swires.errors import EngineError, ScorerError
from swires.events import CandidateFinished, CandidateScored, Emit, StageLeading, TextCommitted
from swires.protocols import Chunk, Engine, Scorer
from swires.types import Candidate, Expand, FinishReason, Problem, Sampling, Trajectory


@dataclass(slots=True)
class Draft:
    """A candidate that still grows."""

    id: int
    text: str = ""
    token_ids: tuple[int, ...] = ()


@dataclass(slots=True)
class Expansion:
    """Grows the parents of `expand`, each as its sampling says, those without one not at all.

    What still runs at `deadline` is cut. A candidate that is cut, by time or by length, or that the engine failed on is
    not scored and loses; where the engine failed on all, the search fails. When the scorer fails, or has not answered
    half-way from there to the end of the search's time, all others count as average: `degraded`. What reads the same to
    the last token as a trajectory `known` to the search has its score.
    """

    expand: Expand
    samplings: Sequence[Sampling | None]
    problem: Problem
    engine: Engine
    scorer: Scorer
    spend: Spend
    emit: Emit
    first_id: int
    deadline: float
    known: dict[tuple[int, ...], float] = field(default_factory=dict)
    degraded: bool = field(default=False, init=False)
    _task: asyncio.Task[tuple[Trajectory, ...]] | None = field(default=None, init=False)
    _num_asked: int = field(default=0, init=False)
    _num_failed: int = field(default=0, init=False)
    _failure: EngineError | None = field(default=None, init=False)
    _grown: list[tuple[Trajectory, Candidate]] = field(default_factory=list, init=False)
    _arrivals: asyncio.Queue[Trajectory] = field(default_factory=asyncio.Queue, init=False)
    _scores: dict[int, float] = field(default_factory=dict, init=False)

    def start(self) -> asyncio.Task[tuple[Trajectory, ...]]:
        """`run`, in a task of its own; there is but one, whoever asks."""
        self._task = self._task or asyncio.create_task(self.run())
        return self._task

    async def run(self) -> tuple[Trajectory, ...]:
        """What the parents have grown into, parent by parent. Raises EngineError."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for index in range(len(self.expand.parents)):
                    tasks.create_task(self._grow(index))
                if self.expand.scored:
                    tasks.create_task(self._score())
        except ExceptionGroup as group:
            first = group.exceptions[0]
            raise first from first.__cause__
        if self._failure is not None and self._num_failed == self._num_asked:
            raise self._failure
        grown = sorted(self._grown, key=lambda grown: grown[1].id)
        return tuple(parent.then(candidate, self._score_of(candidate)) for parent, candidate in grown)

    async def _grow(self, index: int) -> None:
        parent, sampling, samples = self.expand.parents[index], self.samplings[index], self.expand.samples
        first_id = self.first_id + index * samples
        drafts = {sample: Draft(first_id + sample) for sample in range(samples)}
        reason = "length" if sampling is None else await self._sample(parent, drafts, sampling)
        for draft in drafts.values():
            self._finish(parent, draft, reason)

    async def _sample(self, parent: Trajectory, drafts: dict[int, Draft], sampling: Sampling) -> FinishReason:
        """What has ended those that it leaves in `drafts`."""
        self.spend.generations += len(drafts)
        self._num_asked += len(drafts)
        stream = self.engine.generate(
            self.problem,
            parent.token_ids,
            stage=self.expand.stage,
            n=len(drafts),
            sampling=sampling,
            live=self.expand.live,
        )
        try:
            async with asyncio.timeout_at(self.deadline), aclosing(stream) as chunks:
                async for chunk in chunks:
                    self._take(parent, drafts, chunk)
        except TimeoutError:
            return "cut"
        except EngineError as error:
            if error.dead:
                raise
            self._failure = error
            self._num_failed += len(drafts)
            return "failed"
        if drafts:
            raise EngineError("the engine ended a request before its candidates")
        return "stop"

    def _take(self, parent: Trajectory, drafts: dict[int, Draft], chunk: Chunk) -> None:
        draft = drafts[chunk.index]
        draft.text += chunk.text
        draft.token_ids += chunk.token_ids
        self.spend.num_generated_tokens += len(chunk.token_ids)
        self.spend.num_cached_tokens += chunk.num_cached_tokens
        self.spend.num_computed_tokens += chunk.num_prompt_tokens - chunk.num_cached_tokens
        if self.expand.live and chunk.text:
            self.emit(TextCommitted(chunk.text))
        if chunk.finish_reason is not None:
            self._finish(parent, drafts.pop(chunk.index), chunk.finish_reason, chunk)

    def _finish(self, parent: Trajectory, draft: Draft, reason: FinishReason, last: Chunk | None = None) -> None:
        logprob, token_logprobs = (None, ()) if last is None else (last.logprob, last.token_logprobs)
        candidate = Candidate(draft.id, self.expand.stage, draft.text, draft.token_ids, reason, logprob, token_logprobs)
        self._grown.append((parent, candidate))
        self._arrivals.put_nowait(parent.then(candidate))
        self.emit(CandidateFinished(candidate, parent.last.id if parent.candidates else None))

    async def _score(self) -> None:
        """What arrives while the scorer is busy is its next batch; one that compares waits for all."""
        num_expected = self.expand.num_candidates
        while num_expected:
            batch = [await self._arrivals.get()]
            while not self._arrivals.empty() or (self.scorer.compares and len(batch) < num_expected):
                batch.append(await self._arrivals.get())
            num_expected -= len(batch)
            whole = [trajectory for trajectory in batch if trajectory.last.finish_reason == "stop"]
            if whole and not self.degraded:
                await self._score_batch(whole)

    async def _score_batch(self, batch: Sequence[Trajectory]) -> None:
        unread = {each.token_ids: each for each in batch if each.token_ids not in self.known}
        asked = batch if self.scorer.compares else tuple(unread.values())
        values = await self._values(asked)
        if self.degraded:
            return
        self.known.update(zip((each.token_ids for each in asked), values, strict=True))
        for trajectory in batch:
            self._note(trajectory.last, self.known[trajectory.token_ids])

    async def _values(self, batch: Sequence[Trajectory]) -> tuple[float, ...]:
        """Empty where the scorer fails, which makes this `degraded`."""
        if not batch:
            return ()
        try:
            async with asyncio.timeout_at((self.deadline + self.spend.deadline) / 2):
                scores = await self.scorer.score(self.problem, batch)
        except (ScorerError, TimeoutError):
            self.degraded = True
            return ()
        if scores.num_tokens:  # else the scorer has read nothing: some go by the likelihood alone
            self.spend.num_read_tokens += sum(len(trajectory.last.token_ids) for trajectory in batch)
        self.spend.num_scored_tokens += scores.num_tokens
        self.spend.num_computed_tokens += scores.num_tokens
        self.spend.num_cached_tokens += scores.num_cached_tokens
        if len(scores.values) != len(batch) or not all(map(math.isfinite, scores.values)):
            self.degraded = True
            return ()
        return scores.values

    def _note(self, candidate: Candidate, score: float) -> None:
        leads = score > max(self._scores.values(), default=-math.inf)
        self._scores[candidate.id] = score
        self.emit(CandidateScored(candidate.id, candidate.stage, score))
        if leads:
            self.emit(StageLeading(candidate.id, candidate.stage, score))

    def _score_of(self, candidate: Candidate) -> float | None:
        if not self.expand.scored:
            return None
        if candidate.finish_reason != "stop":
            return -math.inf
        return 0.0 if self.degraded else self._scores[candidate.id]
