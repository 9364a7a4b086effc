"""How far a run is, what it has cost and what it may cost in the end."""

import sys
from types import TracebackType
from typing import Self

from tqdm import tqdm

from training.data.annotation.usage import Prices, Usage

ESTIMATE_AFTER = 20


class Progress:
    """A bar of turns. After the first of them that have been answered the whole is estimated, in a line that stays."""

    def __init__(self, num_turns: int, prices: Prices | None) -> None:
        self._num_turns, self._prices = num_turns, prices
        self._num_finished = 0
        self._usage = Usage()

    def __enter__(self) -> Self:
        self._bar = tqdm(total=self._num_turns, unit="turn")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.close()

    def finish(self, usage: Usage) -> None:
        self._num_finished += 1
        self._usage += usage
        self._bar.set_postfix_str(self._usage.told(self._prices), refresh=False)
        self._bar.update()
        if self._num_finished == ESTIMATE_AFTER < self._num_turns:
            whole = self._usage.scaled(self._num_turns / self._num_finished).told(self._prices)
            self._bar.write(f"estimate for all {self._num_turns:,} turns: {whole}", file=sys.stderr)

    def pass_over(self) -> None:
        """One turn that costs nothing."""
        self._bar.update()
