"""What a file of records is made of."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from swires.stages import Stage
from training.data.record import Record
from training.data.stream import read


@dataclass
class Stats:
    """Counts, and nothing that grows with the file: how many records have so many turns, how many texts of a stage
    have so many words, how many records have their picture in which folder."""

    turns: Counter[int] = field(default_factory=Counter)
    words: Mapping[Stage, Counter[int]] = field(default_factory=lambda: {stage: Counter() for stage in Stage})
    sources: Counter[str] = field(default_factory=Counter)
    passed_over: Counter[str] = field(default_factory=Counter)

    def add(self, record: Record) -> None:
        self.turns[len(record.turns)] += 1
        self.sources[source(record.image)] += 1
        for turn in record.turns:
            for stage, text in turn.stages.items():
                self.words[stage][len(text.split())] += 1

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        num_records = self.turns.total()
        yield f"{num_records:,} records with {_sum(self.turns):,} turns"
        if self.passed_over:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.passed_over.most_common())
            yield f"{self.passed_over.total():,} others are not counted: {reasons}"
        if not num_records:
            return
        yield "\nturns a record"
        for turns, count in sorted(self.turns.items()):
            yield _share(str(turns), count, num_records)
        yield f"\n{'words a stage':<14}{'least':>8}{'mean':>8}{'median':>8}{'95 %':>8}{'most':>8}"
        for stage, words in self.words.items():
            mean = _sum(words) / words.total()
            least, median, high, most = (quantile(words, share) for share in (0, 0.5, 0.95, 1))
            yield f"  {stage.name:<12}{least:>8,}{mean:>8,.1f}{median:>8,}{high:>8,}{most:>8,}"
        yield "\nrecords by the folder of their picture"
        for name, count in self.sources.most_common():
            yield _share(name, count, num_records)


def measure(file: Path) -> Stats:
    """Pictures are not looked at."""
    stats = Stats()
    for line in read(file):
        if isinstance(line.record, Record):
            stats.add(line.record)
        else:
            stats.passed_over[line.record.reason] += 1
    return stats


def source(image: str) -> str:
    """The first folder of a path, which in LLaVA-CoT-100k names the data set that the picture is from."""
    folders = PurePosixPath(image).parts[:-1]
    return folders[0] if folders else "."


def quantile(counts: Counter[int], share: float) -> int:
    """The least number that `share` of all are not above."""
    seen = 0
    for number, count in sorted(counts.items()):
        seen += count
        if seen >= share * counts.total():
            return number
    raise ValueError("there is none of nothing")


def _sum(counts: Counter[int]) -> int:
    return sum(number * count for number, count in counts.items())


def _share(name: str, count: int, whole: int) -> str:
    return f"  {name:<30}{count:>10,}{count / whole:>9.1%}"
