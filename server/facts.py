"""What an answer tells of its search, under the key `swires`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from swires.estimate import Estimate
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
from swires.result import Node, SearchResult

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Facts:
    """How the search was set up, which the answer repeats."""

    policy: str
    preset: str
    scorer: str
    numbers: Mapping[str, float | None]
    budget: Mapping[str, float]
    trace: bool = False

    def dry_run(self, estimate: Estimate) -> Json:
        return {**self._plan(), "dry_run": _estimated(estimate)}

    def search(self, result: SearchResult) -> Json:
        return {
            **self._plan(),
            "scorer_degraded": result.scorer_degraded,
            "stages": [
                {"stage": part.stage.name, "text": part.text, "score": part.score, "tokens": part.num_tokens}
                for part in result.sections
            ],
            "generations": result.generations,
            "retraces": result.retraces,
            "score": result.answer.score,
            "accepted": result.accepted,
            "stopped_by": result.stopped_by,
            "tokens": asdict(result.tokens),
            "seconds": round(result.seconds, 3),
            "trace": [traced(node) for node in result.nodes] if self.trace else None,
        }

    def _plan(self) -> Json:
        return {
            "policy": self.policy,
            "preset": self.preset,
            "scorer": self.scorer,
            "numbers": self.numbers,
            "budget": self.budget,
        }


def _estimated(estimate: Estimate) -> Json:
    costs = {"least": estimate.least, "expected": estimate.expected, "greatest": estimate.greatest}
    rounded = {
        name: {"generations": round(cost.generations, 1), "tokens": round(cost.tokens)} for name, cost in costs.items()
    }
    return {**rounded, "lengths": {stage.name: length for stage, length in estimate.lengths.items()}}


def traced(node: Node) -> Json:
    candidate = node.candidate
    return {
        "id": candidate.id,
        "parent": node.parent,
        "stage": candidate.stage.name,
        "text": candidate.text,
        "tokens": len(candidate.token_ids),
        "finish_reason": candidate.finish_reason,
        "logprob": candidate.logprob,
        "score": node.score,
        "fate": node.fate,
    }


def event_facts(event: Event) -> Json | None:
    """An event as a stream tells it; None for what the stream tells in other ways."""
    match event:
        case StageStarted(stage, parents, num_candidates):
            return {"event": "stage_started", "stage": stage.name, "parents": parents, "candidates": num_candidates}
        case CandidateFinished(candidate, parent):
            return {
                "event": "candidate_finished",
                "id": candidate.id,
                "parent": parent,
                "stage": candidate.stage.name,
                "text": candidate.text,
                "tokens": len(candidate.token_ids),
                "finish_reason": candidate.finish_reason,
            }
        case CandidateScored(id, stage, score):
            return {"event": "candidate_scored", "id": id, "stage": stage.name, "score": score}
        case StageLeading(id, stage, score):
            return {"event": "stage_leading", "id": id, "stage": stage.name, "score": score}
        case Retraced(to, void):
            return {"event": "retraced", "to": to.name, "void": [stage.name for stage in void]}
        case StageChosen(candidate, score):
            return {"event": "stage_chosen", "id": candidate.id, "stage": candidate.stage.name, "score": score}
        case TextCommitted() | SearchFinished():
            return None
