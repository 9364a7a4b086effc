"""The search policies: what to sample next, decided from scores alone.

Baselines as in LLaVA-CoT (arXiv 2411.10440v6, section 3.2), SWIRES with the numbers of its released implementation
(https://github.com/PKU-YuanGroup/LLaVA-CoT, inference/VLMEvalKit/swires.py). One that `thresholds` compares scores with
a fixed one or across expansions, which a scorer that only ranks has nothing to say to. Those whose candidates are whole
answers sample the CONCLUSION by itself where it `concludes_apart`, for what is asked of that stage alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from swires.adaptive import Adaptive
from swires.budget import Limit, Spend
from swires.choosing import MOST_WIDENED, StageUse, best, rank, require, require_finite
from swires.errors import InvalidPlan
from swires.stages import Stage
from swires.types import ROOT, Expand, Flow, Outcome, Trajectory

SENTENCE_END = "."


@dataclass(frozen=True, slots=True)
class Greedy:
    """One answer, the likeliest token each time."""

    name: ClassVar[str] = "greedy"
    stages: ClassVar[Mapping[Stage, StageUse]] = {}
    thresholds: ClassVar[bool] = False
    width: ClassVar[int] = 1
    concludes_apart: bool = False

    @property
    def least_generations(self) -> int:
        return 1 + self.concludes_apart

    @property
    def most_generations(self) -> int:
        return self.least_generations

    def flow(self, spend: Spend) -> Flow:
        parents: tuple[Trajectory, ...] = (ROOT,)
        if self.concludes_apart:
            parents = yield Expand(Stage.REASONING, parents, 1, scored=False, greedy=True)
        (answer,) = yield Expand(Stage.CONCLUSION, parents, 1, scored=False, greedy=True)
        return Outcome(answer)


@dataclass(frozen=True, slots=True)
class BestOfN:
    """Whole answers, of which the best is kept."""

    name: ClassVar[str] = "best_of_n"
    stages: ClassVar[Mapping[Stage, StageUse]] = {}
    thresholds: ClassVar[bool] = False
    candidates: int = 4
    concludes_apart: bool = False

    def __post_init__(self) -> None:
        require("candidates", self.candidates, least=1)

    @property
    def width(self) -> int:
        return self.candidates

    @property
    def least_generations(self) -> int:
        return self.candidates * (1 + self.concludes_apart)

    @property
    def most_generations(self) -> int:
        return self.least_generations

    def flow(self, spend: Spend) -> Flow:
        if self.concludes_apart:
            reasonings = yield Expand(Stage.REASONING, (ROOT,), self.candidates, scored=False)
            answers = yield Expand(Stage.CONCLUSION, reasonings, 1)
        else:
            answers = yield Expand(Stage.CONCLUSION, (ROOT,), self.candidates)
        return Outcome(best(answers, 1)[0])


@dataclass(frozen=True, slots=True)
class SentenceBeam:
    """Sentence after sentence, each the best of several, until the answer is whole."""

    name: ClassVar[str] = "sentence_beam"
    stages: ClassVar[Mapping[Stage, StageUse]] = {}
    thresholds: ClassVar[bool] = False
    most_generations: ClassVar[None] = None
    candidates: int = 2
    concludes_apart: bool = False

    def __post_init__(self) -> None:
        require("candidates", self.candidates, least=1)

    @property
    def width(self) -> int:
        return self.candidates

    @property
    def least_generations(self) -> int:
        return self.candidates + 1

    def flow(self, spend: Spend) -> Flow:
        answer, whole = ROOT, False
        through = Stage.REASONING if self.concludes_apart else Stage.CONCLUSION
        while not whole and spend.allows(self.candidates + 1):
            sentences = yield Expand(through, (answer,), self.candidates, stop=(SENTENCE_END,))
            answer = best(sentences, 1)[0]
            whole = _is_whole(answer)
        if not whole or self.concludes_apart:
            (answer,) = yield Expand(Stage.CONCLUSION, (answer,), 1, scored=False)
        return Outcome(answer, stopped_by=None if whole else spend.limit_of(self.candidates + 1))


def _is_whole(answer: Trajectory) -> bool:
    """Ended by the closing tag or by the model, not by the end of a sentence."""
    return answer.last.finish_reason == "stop" and not answer.last.text.endswith(SENTENCE_END)


@dataclass(frozen=True, slots=True)
class StageBeam:
    """`candidates` a stage, or as many as its own number says, of which the best `keep` go on, each with its share of
    the next stage's candidates."""

    name: ClassVar[str] = "stage_beam"
    stages: ClassVar[Mapping[Stage, StageUse]] = {
        Stage.SUMMARY: StageUse("summaries"),
        Stage.CAPTION: StageUse("captions"),
        Stage.REASONING: StageUse("reasonings"),
        Stage.CONCLUSION: StageUse("conclusions"),
    }
    thresholds: ClassVar[bool] = False
    candidates: int = 4
    keep: int = 2
    summaries: int | None = None
    captions: int | None = None
    reasonings: int | None = None
    conclusions: int | None = None

    def __post_init__(self) -> None:
        require("candidates", self.candidates, least=1)
        require("keep", self.keep, least=1, most=self.candidates)
        if self.candidates % self.keep:
            raise InvalidPlan(
                f"keep must divide candidates, {self.keep} does not divide {self.candidates}", field="keep"
            )
        num_parents = 1
        for name, num_candidates in self._candidates.items():
            require(name, num_candidates, least=1)
            if num_candidates % num_parents:
                raise InvalidPlan(
                    f"{name} must be a multiple of the {num_parents} that go on, {num_candidates} is not", field=name
                )
            num_parents = min(self.keep, num_candidates)

    @property
    def _candidates(self) -> Mapping[str, int]:
        """Stage by stage, under the names of the numbers that go over `candidates`."""
        own = {
            "summaries": self.summaries,
            "captions": self.captions,
            "reasonings": self.reasonings,
            "conclusions": self.conclusions,
        }
        return {name: self.candidates if number is None else number for name, number in own.items()}

    @property
    def width(self) -> int:
        return max(self._candidates.values())

    @property
    def least_generations(self) -> int:
        return sum(self._candidates.values())

    @property
    def most_generations(self) -> int:
        return self.least_generations

    def flow(self, spend: Spend) -> Flow:
        beam: tuple[Trajectory, ...] = (ROOT,)
        for stage, num_candidates in zip(Stage, self._candidates.values(), strict=True):
            grown = yield Expand(stage, beam, num_candidates // len(beam))
            beam = best(grown, self.keep)
        return Outcome(beam[0])


@dataclass(frozen=True, slots=True)
class Swires:
    """Stage-wise retracing search: captions and reasonings are sampled again, into one growing pool of reasonings,
    until the `accept_rank`-th best of them scores above `accept_z` standard deviations. Retraces `widen` the sampling.
    """

    name: ClassVar[str] = "swires"
    stages: ClassVar[Mapping[Stage, StageUse]] = {
        Stage.SUMMARY: StageUse(scored=False),
        Stage.CAPTION: StageUse("captions"),
        Stage.REASONING: StageUse("reasonings", accept_z="accept_z"),
        Stage.CONCLUSION: StageUse(),
    }
    thresholds: ClassVar[bool] = True
    captions: int = 4
    keep_captions: int = 2
    reasonings: int = 2  # of each caption
    keep_reasonings: int = 3
    max_retraces: int = 4
    accept_rank: int = 2
    accept_z: float = 0.2533
    widen: float = 1.0

    def __post_init__(self) -> None:
        require("captions", self.captions, least=1)
        require("keep_captions", self.keep_captions, least=1, most=self.captions)
        require("reasonings", self.reasonings, least=1)
        require("keep_reasonings", self.keep_reasonings, least=1, most=self.keep_captions * self.reasonings)
        require("max_retraces", self.max_retraces, least=0)
        require("accept_rank", self.accept_rank, least=1, most=self.keep_captions * self.reasonings)
        require_finite("accept_z", self.accept_z)
        require("widen", self.widen, least=1, most=MOST_WIDENED)

    @property
    def width(self) -> int:
        return max(self.captions, self.keep_captions * self.reasonings, self.keep_reasonings)

    @property
    def round_cost(self) -> int:
        return self.captions + self.keep_captions * self.reasonings

    @property
    def least_generations(self) -> int:
        return 1 + self.round_cost + self.keep_reasonings

    @property
    def most_generations(self) -> int:
        return self.least_generations + self.max_retraces * self.round_cost

    def flow(self, spend: Spend) -> Flow:
        summary = yield Expand(Stage.SUMMARY, (ROOT,), 1, scored=False)
        pool: tuple[Trajectory, ...] = ()
        final = self.max_retraces == 0
        stopped_by: Limit | None = None
        for retraces_left in reversed(range(1 + self.max_retraces)):
            widen = self.widen if pool else 1.0
            captions = yield Expand(Stage.CAPTION, summary, self.captions, final=final, widen=widen)
            kept = best(captions, self.keep_captions)
            pool += yield Expand(Stage.REASONING, kept, self.reasonings, final=final, widen=widen)
            accepted = rank(best(pool, self.accept_rank)[-1]) > self.accept_z
            if accepted or not retraces_left:
                break
            if stopped_by := spend.limit_of(self.round_cost + self.keep_reasonings):
                break
        conclusions = yield Expand(Stage.CONCLUSION, best(pool, self.keep_reasonings), 1)
        return Outcome(best(conclusions, 1)[0], accepted, stopped_by)


KnownPolicy: TypeAlias = Greedy | BestOfN | SentenceBeam | StageBeam | Swires | Adaptive

POLICIES: Mapping[str, type[KnownPolicy]] = {
    policy.name: policy for policy in (Greedy, BestOfN, SentenceBeam, StageBeam, Swires, Adaptive)
}
"""The policies by the name that a request gives."""
