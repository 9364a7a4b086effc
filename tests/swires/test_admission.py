import asyncio
from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from swires.admission import Line

CAPACITY = 5


class Refused(Exception):
    pass


class Asker:
    """Asks for a share, holds it until it is told to leave."""

    def __init__(self, line: Line, cost: int) -> None:
        self.cost = cost
        self.holds = False
        self.leave = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._hold(line))

    async def _hold(self, line: Line) -> None:
        with line.join(self.cost) as turn:
            await turn.come()
            self.holds = True
            try:
                await self.leave.wait()
            finally:
                self.holds = False


class LineOfAskers(RuleBasedStateMachine):
    """Against a list: the first of those who wait hold a share as long as the shares fit the capacity."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.line = Line(CAPACITY)
        self.holding: list[Asker] = []
        self.waiting: list[Asker] = []
        self.gone: list[Asker] = []

    def act(self, *actions: Callable[[], object]) -> None:
        """All in one turn of the loop; then it comes to rest."""

        async def main() -> None:
            for action in actions:
                action()
            for _ in range(6):
                await asyncio.sleep(0)

        self.loop.run_until_complete(main())
        while self.waiting and self.waiting[0].cost <= CAPACITY - sum(asker.cost for asker in self.holding):
            self.holding.append(self.waiting.pop(0))

    @rule(costs=st.lists(st.integers(1, CAPACITY), min_size=1, max_size=3))
    def ask(self, costs: list[int]) -> None:
        for cost in costs:
            self.act(lambda cost=cost: self.waiting.append(Asker(self.line, cost)))  # type: ignore[misc]

    @precondition(lambda self: self.holding)
    @rule(data=st.data(), cancelled=st.booleans())
    def leave(self, data: st.DataObject, cancelled: bool) -> None:
        asker = data.draw(st.sampled_from(self.holding))
        self.holding.remove(asker)
        self.gone.append(asker)
        self.act(asker.task.cancel if cancelled else asker.leave.set)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        asker = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(asker)
        self.gone.append(asker)
        self.act(asker.task.cancel)

    @precondition(lambda self: self.holding and self.waiting)
    @rule(data=st.data(), turns=st.integers(0, 3))
    def give_up_while_being_called(self, data: st.DataObject, turns: int) -> None:
        """One leaves and, after some turns of the loop, the next one gives up its place or its share."""
        leaver, asker = data.draw(st.sampled_from(self.holding)), self.waiting[0]
        self.holding.remove(leaver)
        self.waiting.remove(asker)
        self.gone += [leaver, asker]

        async def main() -> None:
            leaver.leave.set()
            for _ in range(turns):
                await asyncio.sleep(0)
            asker.task.cancel()

        self.loop.run_until_complete(main())
        self.act()

    @rule()
    def dismiss(self) -> None:
        dismissed, self.waiting = self.waiting, []
        self.act(lambda: self.line.dismiss(Refused()))
        assert all(isinstance(asker.task.exception(), Refused) for asker in dismissed)

    @invariant()
    def as_the_list_says(self) -> None:
        assert all(asker.holds for asker in self.holding)
        assert not any(asker.holds for asker in self.waiting)
        assert all(asker.task.cancelled() or not asker.task.exception() for asker in self.gone)
        assert self.line.num_holding == len(self.holding)
        assert self.line.free == CAPACITY - sum(asker.cost for asker in self.holding)
        assert (len(self.line), self.line.cost) == (len(self.waiting), sum(asker.cost for asker in self.waiting))
        assert all(self.line.would_wait(cost) == bool(self.waiting or cost > self.line.free) for cost in (1, CAPACITY))

    def teardown(self) -> None:
        self.act(*(asker.task.cancel for asker in [*self.holding, *self.waiting]))
        self.loop.close()


TestLine = LineOfAskers.TestCase
TestLine.settings = settings(max_examples=40, stateful_step_count=20)
