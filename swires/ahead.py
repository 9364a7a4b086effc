"""Likely next stages, begun early: while candidates are awaited whose scores may send the search back, it goes back.

What a search asks for if they are all rejected is known beforehand: its policy is run once more, over what has come of
the search so far, with rejected candidates in place of those awaited. Only what the policy then does ask for, to the
last number, is used; the rest is undone. So the outcome is one that the policy allows, with a seed the same one.
"""

import asyncio
import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from swires.budget import Spend
from swires.errors import EngineError
from swires.events import Emit, Event
from swires.expansion import Expansion
from swires.protocols import SearchPolicy
from swires.stages import Stage
from swires.types import Candidate, Expand, Flow, Sampling, Trajectory

LIKELY = 0.6
"""The share of guesses that have come true above which the next of its kind is acted upon. Acting upon all, of which a
third came true, cost 4 clients of the embedded checkpoint 8 % of their searches/s."""

NEWEST_SHARE = 0.05
"""The least weight of the newest guess in that share, a mean until there are twenty, then a running one."""

Kind: TypeAlias = tuple[str, int, int]
"""Of a guess: the policy, the number of the expansion that is awaited, the number of the one that is guessed."""


class Foresight:
    """What the searches on one engine have learned of their guesses, and how far they may act upon them: while all
    candidates at once, with those of started searches as `held` tells them, are `most` at the utmost.

    `on_undone` is told, by policy, how many tokens a search had sampled early and has not used.
    """

    def __init__(self, most: int, held: Callable[[], int]) -> None:
        self.on_undone: Callable[[str, int], None] = lambda policy, num_tokens: None
        self._most = most
        self._held = held
        self._num_ahead = 0
        self._shares = defaultdict[Kind, float](float)
        self._learned = Counter[Kind]()

    def expects(self, kind: Kind) -> bool:
        return self._shares[kind] > LIKELY

    def learn(self, kind: Kind, *, came_true: bool) -> None:
        """As if there had been one before that did not."""
        self._learned[kind] += 1
        weight = max(NEWEST_SHARE, 1 / (1 + self._learned[kind]))
        self._shares[kind] += weight * (came_true - self._shares[kind])

    def has_room(self, width: int) -> bool:
        return self._held() + self._num_ahead + width <= self._most

    def hold(self, width: int, task: asyncio.Task[None]) -> None:
        """As long as the task lasts."""

        def release(_: asyncio.Task[None]) -> None:
            self._num_ahead -= width

        self._num_ahead += width
        task.add_done_callback(release)


@dataclass(frozen=True, slots=True)
class Step:
    """All that determines what an expansion samples; `number` counts those of the search, from 0."""

    number: int
    expand: Expand
    samplings: tuple[Sampling | None, ...]
    deadline: float
    first_id: int


@dataclass(frozen=True, slots=True)
class Guess:
    """An expansion that the policy may ask for, with `flow` and `spend` as they will be then."""

    kind: Kind
    expand: Expand
    first_id: int
    flow: Flow
    spend: Spend

    @property
    def number(self) -> int:
        return self.kind[-1]


@dataclass(frozen=True, slots=True)
class Early:
    """An expansion that was begun before it was asked for, and what it has told so far."""

    step: Step
    expansion: Expansion
    events: list[Event]

    def adopt(self, emit: Emit) -> Expansion:
        for event in self.events:
            emit(event)
        self.expansion.emit = emit
        return self.expansion


@dataclass(slots=True)
class LookAhead:
    """Begins, for one search, what its policy will likely ask for. `plan` makes a step of an expansion, its number and
    its first id, unless a limit forbids it; `prepare` makes what runs a step. To be closed, whatever happens."""

    foresight: Foresight
    policy: SearchPolicy
    spend: Spend
    plan: Callable[[Expand, Spend, int, int], Step | None]
    prepare: Callable[[Step, Emit], Expansion]
    _guesses: list[Guess] = field(default_factory=list, init=False)
    _early: deque[Early] = field(default_factory=deque, init=False)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list, init=False)
    _undone: list[Expansion] = field(default_factory=list, init=False)

    def take(self, step: Step, emit: Emit) -> Expansion | None:
        """What runs `step`, which is asked for now, if it has been begun; `emit` is told what has come of it."""
        self._learn(step)
        if not self._early or step.number < self._early[0].step.number:
            return None
        if step != self._early[0].step:
            self._undo()
            return None
        return self._early.popleft().adopt(emit)

    def look(self, step: Step, past: Sequence[tuple[Trajectory, ...]]) -> None:
        """While `step` is under way, after what has come of those before it, begin what will likely follow."""
        may_be_rejected = self.policy.thresholds and step.expand.scored and not step.expand.concludes
        if not may_be_rejected or self._early or not self.foresight.has_room(self.policy.width):
            return
        if guess := self._guess(step, past):
            self._guesses.append(guess)
            if self.foresight.expects(guess.kind):
                early = self._begin(guess.expand, guess.spend, guess.number, guess.first_id)
                task = asyncio.create_task(self._go_on(guess, early))
                self.foresight.hold(self.policy.width, task)
                self._tasks.append(task)

    async def close(self) -> None:
        self._undo()
        await asyncio.gather(*self._tasks, *(each.start() for each in self._undone), return_exceptions=True)
        if num_tokens := sum(expansion.spend.num_generated_tokens for expansion in self._undone):
            self.foresight.on_undone(self.policy.name, num_tokens)

    def _learn(self, step: Step) -> None:
        for guess in [guess for guess in self._guesses if guess.number <= step.number]:
            self._guesses.remove(guess)
            self.foresight.learn(guess.kind, came_true=guess.number == step.number and guess.expand == step.expand)

    def _undo(self) -> None:
        for task in self._tasks:
            task.cancel()
        while self._early:
            expansion = self._early.popleft().expansion
            expansion.start().cancel()
            self._undone.append(expansion)

    def _guess(self, step: Step, past: Sequence[tuple[Trajectory, ...]]) -> Guess | None:
        """The first expansion to come of what is known by now, if all that is sampled until then is rejected."""
        spend = self.spend.part()
        flow = self.policy.flow(spend)
        with suppress(StopIteration):
            expand = next(flow)
            for grown in past:
                spend.generations += len(grown)
                expand = flow.send(grown)
            number, next_id = step.number, step.first_id
            while number == step.number or _is_made_up(expand, step.first_id):
                rejected = tuple(_rejected(expand, next_id))
                spend.generations += len(rejected)
                number, next_id = number + 1, next_id + len(rejected)
                expand = flow.send(rejected)
            spend.num_generated_tokens = self.spend.num_generated_tokens
            spend.num_read_tokens = self.spend.num_read_tokens
            return Guess((self.policy.name, step.number, number), expand, next_id, flow, spend)
        return None

    def _begin(self, expand: Expand, spend: Spend, number: int, first_id: int) -> Early | None:
        step = self.plan(expand, spend, number, first_id)
        if step is None:
            return None
        events: list[Event] = []
        early = Early(step, self.prepare(step, events.append), events)
        early.expansion.start()
        self._early.append(early)
        return early

    async def _go_on(self, guess: Guess, early: Early | None) -> None:
        """With what the policy makes of what is guessed: up to the end of a round, short of a conclusion."""
        with suppress(StopIteration):
            while early is not None:
                try:
                    grown = await early.expansion.start()
                except EngineError:
                    self._early.clear()  # the search samples it anew, if it comes there
                    return
                guess.spend.add(early.expansion.spend)
                step, expand = early.step, guess.flow.send(grown)
                if not step.expand.stage < expand.stage < Stage.CONCLUSION:
                    return
                early = self._begin(expand, guess.spend, step.number + 1, step.first_id + len(grown))


def _is_made_up(expand: Expand, first_made_up: int) -> bool:
    """Whether it continues candidates that there are not."""
    return any(candidate.id >= first_made_up for parent in expand.parents for candidate in parent.candidates)


def _rejected(expand: Expand, first_id: int) -> Iterator[Trajectory]:
    parents = (parent for parent in expand.parents for _ in range(expand.samples))
    for id_, parent in enumerate(parents, first_id):
        yield parent.then(Candidate(id_, expand.stage, "", (), "failed"), -math.inf if expand.scored else None)
