"""One run over a file of records: whatever the journal lacks is asked of the teacher."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from training.data.annotation.call import Call
from training.data.annotation.errors import AnnotationError, BadImage, Stopped, TeacherFailed, Unanswered
from training.data.annotation.journal import Journal
from training.data.annotation.pace import Wait
from training.data.annotation.progress import Progress
from training.data.annotation.teacher import Teacher
from training.data.annotation.turns import Record, Turn, read_lines
from training.data.annotation.usage import Prices, Usage
from training.data.annotation.verdict import annotate

MAX_UNANSWERED_IN_A_ROW = 10


def wait_unless(stopping: asyncio.Event) -> Wait:
    """A sleep that raises Stopped as soon as the event is set."""

    async def wait(seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stopping.wait()
                raise Stopped("the run is to end")

    return wait


@dataclass
class Run:
    """Turns are asked side by side, `concurrency` of them at once, the calls of one turn after each other."""

    source: Path
    journal: Journal
    teacher: Teacher
    stopping: asyncio.Event
    attempts: int
    concurrency: int
    prices: Prices | None
    unanswered: dict[Turn, Unanswered] = field(default_factory=dict, init=False)
    _under_way: set[Turn] = field(default_factory=set, init=False)
    _num_unanswered_in_a_row: int = field(default=0, init=False)
    _failure: AnnotationError | None = field(default=None, init=False)

    async def ask_all(self) -> None:
        """Ask until all turns are finished or `stopping` is set. Calls under way are paid: they are always waited for.

        Raises AnnotationError when the run cannot go on.
        """
        room = asyncio.Semaphore(self.concurrency)
        with Progress(sum(1 for _ in self._turns()), self.prices) as progress:
            async with asyncio.TaskGroup() as tasks:
                for turn in self._turns():
                    await asyncio.sleep(0)  # signals are heard also where all is in the journal
                    if turn in self._under_way:  # the same turn twice: one answer serves both
                        progress.pass_over()
                        continue
                    replayed = self.journal.replay(annotate(turn, self.attempts))
                    if not isinstance(replayed.state, Call):
                        progress.finish(replayed.usage)
                        continue
                    await room.acquire()
                    if self.stopping.is_set():
                        break
                    self._under_way.add(turn)
                    tasks.create_task(self._answer(turn, progress)).add_done_callback(lambda _: room.release())
        if self._failure is not None:
            raise self._failure

    async def _answer(self, turn: Turn, progress: Progress) -> None:
        try:
            progress.finish(await self._ask(turn))
        except Stopped:
            return
        except Unanswered as error:
            self.unanswered[turn] = error
            progress.pass_over()
            self._count(error)
        except AnnotationError as error:
            self._fail(error)
        except OSError as error:
            self._fail(AnnotationError(f"cannot write {self.journal.path}: {error.strerror}"))
        finally:
            self._under_way.discard(turn)

    async def _ask(self, turn: Turn) -> Usage:
        """Ask what the turn still waits for."""
        while isinstance(call := (replayed := self.journal.replay(annotate(turn, self.attempts))).state, Call):
            if self.stopping.is_set():
                raise Stopped("the run is to end")
            self.journal.add(call, await self.teacher.ask(call))
            self._num_unanswered_in_a_row = 0
        return replayed.usage

    def _count(self, error: Unanswered) -> None:
        """A teacher that fails again and again is not asked the rest of a long file."""
        if isinstance(error, BadImage):
            return
        self._num_unanswered_in_a_row += 1
        if self._num_unanswered_in_a_row == MAX_UNANSWERED_IN_A_ROW:
            self._fail(TeacherFailed(f"{MAX_UNANSWERED_IN_A_ROW} calls in a row have failed, the last: {error}"))

    def _fail(self, error: AnnotationError) -> None:
        self._failure = self._failure or error
        self.stopping.set()

    def _turns(self) -> Iterator[Turn]:
        for _, record in read_lines(self.source):
            if isinstance(record, Record):
                yield from record.turns
