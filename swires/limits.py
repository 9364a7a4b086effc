"""How far an expansion may go within the budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swires.budget import Limit, Spend
from swires.stages import Stage
from swires.types import Expand, Trajectory

CONCLUDING_SHARE = 4
"""One part in so many of the time, and at most of the tokens, is kept for a conclusion when a limit ends the search."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """`max_tokens` for each candidate of each parent, and the time (on the search's clock) at which they are cut.

    `narrowed_by` is the limit that gives every parent less than the stages' own limits do.
    """

    max_tokens: tuple[int, ...]
    deadline: float
    narrowed_by: Limit | None


def allowance(expand: Expand, max_tokens: Mapping[Stage, int], spend: Spend) -> Allowance:
    """Where each stage may have at most so many tokens."""
    share = _share_of_tokens(expand, max_tokens, spend)
    rooms = [_room(parent, spend) for parent in expand.parents]
    most = [sum(max_tokens[stage] for stage in spanned(expand, parent)) for parent in expand.parents]
    given = tuple(max(0, min(each, share, room)) for each, room in zip(most, rooms, strict=True))
    narrowed_by: Limit | None = None
    if all(less < each for less, each in zip(given, most, strict=True)):
        narrowed_by = "tokens" if share < max(rooms) else "answer_tokens"
    return Allowance(given, _deadline(expand, spend), narrowed_by)


def limit_before(expand: Expand, allowed: Allowance, spend: Spend) -> Limit | None:
    """What forbids the expansion."""
    if limit := spend.limit_of(expand.num_candidates):
        return limit
    if spend.clock() >= allowed.deadline:
        return "seconds"
    return None if any(allowed.max_tokens) else allowed.narrowed_by


def limit_after(grown: Sequence[Trajectory], allowed: Allowance) -> Limit | None:
    """What has kept all of its candidates from being finished."""
    reasons = {trajectory.last.finish_reason for trajectory in grown}
    if "stop" in reasons:
        return None
    return "seconds" if "cut" in reasons else allowed.narrowed_by


def spanned(expand: Expand, parent: Trajectory) -> Sequence[Stage]:
    """The stages that a candidate may run through; one that ends with a stop string stays within one."""
    text = parent.text
    missing = [stage for stage in Stage if stage <= expand.stage and stage.closing not in text] or [expand.stage]
    return missing[:1] if expand.stop else missing


def _room(parent: Trajectory, spend: Spend) -> int:
    """None after what the engine has failed on, whose text is not known."""
    failed = bool(parent.candidates) and parent.last.finish_reason == "failed"
    return 0 if failed else spend.budget.max_answer_tokens - parent.num_tokens


def _share_of_tokens(expand: Expand, max_tokens: Mapping[Stage, int], spend: Spend) -> int:
    """What is left, for each candidate and each that is reserved; one that is scored may cost its length once more."""
    total = spend.budget.max_total_tokens
    kept = 0 if expand.concludes else min(max_tokens[Stage.CONCLUSION], total // CONCLUDING_SHARE)
    return (total - spend.num_tokens - kept) // (expand.num_candidates * (1 + expand.scored) + spend.reserved)


def _deadline(expand: Expand, spend: Spend) -> float:
    return spend.deadline if expand.concludes else spend.deadline - spend.budget.timeout_s / CONCLUDING_SHARE
