"""What has come of a search so far: the tree of its candidates and the text that is final."""

from swires.budget import Spend
from swires.events import Emit, Retraced, StageChosen, StageStarted, TextCommitted
from swires.result import Fate, Node, SearchResult, TokenSplit, answer_sections
from swires.stages import Stage
from swires.types import ROOT, Candidate, Expand, FinishReason, Outcome, Problem, Trajectory

CUT: tuple[FinishReason, ...] = ("cut", "failed")
"""How a candidate ends whose text may be known in part."""


class Record:
    """Tells `emit` what becomes final."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._trajectories = [ROOT]
        self._committed = ROOT
        self._stage = Stage.SUMMARY
        self._retraces = 0

    @property
    def next_id(self) -> int:
        return len(self._trajectories) - 1

    def begin(self, expand: Expand) -> None:
        """Where the answer is bound to descend from `expand`, what its parents have in common is final."""
        if expand.stage < self._stage:
            self._retraces += 1
            self._emit(Retraced(expand.stage, tuple(Stage)[expand.stage : self._stage + 1]))
        self._stage = expand.stage
        if expand.final:
            self.commit(_common(expand.parents))
        parents = tuple(parent.last.id for parent in expand.parents if parent.candidates)
        self._emit(StageStarted(expand.stage, parents, expand.num_candidates))

    def add(self, expand: Expand, grown: tuple[Trajectory, ...]) -> None:
        self._trajectories += grown
        if expand.live:
            self.commit(grown[0], streamed=True)

    def commit(self, beginning: Trajectory, *, streamed: bool = False) -> None:
        """`beginning` is that of the answer; with `streamed` its new text has been told already."""
        steps = list(zip(beginning.candidates, beginning.scores, strict=True))
        for candidate, score in steps[len(self._committed.candidates) :]:
            if candidate.text and not streamed:
                self._emit(TextCommitted(candidate.text))
            self._emit(StageChosen(candidate, score))
            self._committed = self._committed.then(candidate, score)

    def furthest(self) -> Trajectory:
        """Where to conclude from when a limit ends the search: of all that may still become the answer, the trajectory
        with most finished stages, then the best score, then the most text."""
        final = self._committed.candidates
        possible = [each for each in self._trajectories if each.candidates[: len(final)] == final]
        # Of a candidate that was cut, the text is known only where it was told as it grew.
        return max((each for each in possible if each.candidates == final or not _is_cut(each)), key=_progress)

    def result(
        self,
        problem: Problem,
        outcome: Outcome,
        spend: Spend,
        *,
        scorer_degraded: bool,
        others: tuple[Trajectory, ...] = (),
    ) -> SearchResult:
        answers = (outcome.answer, *others)
        nodes = tuple(_node(each, answers) for each in self._trajectories[1:])
        cut_short = any(node.candidate.finish_reason == "cut" for node in nodes)
        return SearchResult(
            answer=outcome.answer,
            sections=answer_sections(outcome.answer),
            accepted=outcome.accepted,
            stopped_by=outcome.stopped_by or ("seconds" if cut_short else None),
            retraces=self._retraces,
            generations=spend.generations,
            scorer_degraded=scorer_degraded,
            tokens=_split(problem, nodes, spend),
            seconds=spend.seconds,
            nodes=nodes,
            others=others,
        )


def _common(trajectories: tuple[Trajectory, ...]) -> Trajectory:
    """The longest beginning that all of them share."""
    first, *others = trajectories
    length = len(first.candidates)
    while any(other.candidates[:length] != first.candidates[:length] for other in others):
        length -= 1
    return Trajectory(first.candidates[:length], first.scores[:length])


def _is_cut(trajectory: Trajectory) -> bool:
    return bool(trajectory.candidates) and trajectory.last.finish_reason in CUT


def _progress(trajectory: Trajectory) -> tuple[int, float, int]:
    steps = zip(trajectory.candidates, trajectory.scores, strict=True)
    scores = [score or 0.0 for candidate, score in steps if candidate.finish_reason == "stop"]
    return len(scores), scores[-1] if scores else 0.0, trajectory.num_tokens


def _node(trajectory: Trajectory, answers: tuple[Trajectory, ...]) -> Node:
    candidate, parents = trajectory.last, trajectory.candidates[:-1]
    return Node(candidate, parents[-1].id if parents else None, trajectory.score, _fate(candidate, answers))


def _fate(candidate: Candidate, answers: tuple[Trajectory, ...]) -> Fate:
    if any(candidate in answer.candidates for answer in answers):
        return "chosen"
    return "aborted" if candidate.finish_reason in CUT else "discarded"


def _split(problem: Problem, nodes: tuple[Node, ...], spend: Spend) -> TokenSplit:
    by_fate = dict[Fate, int].fromkeys(("chosen", "discarded", "aborted"), 0)
    for node in nodes:
        by_fate[node.fate] += len(node.candidate.token_ids)
    return TokenSplit(
        prompt=problem.num_prompt_tokens,
        winner=by_fate["chosen"],
        discarded=by_fate["discarded"],
        aborted=by_fate["aborted"],
        scored=spend.num_scored_tokens,
        cached=spend.num_cached_tokens,
        computed=spend.num_computed_tokens,
    )
