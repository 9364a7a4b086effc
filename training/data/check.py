"""How many records of a file can be trained on, and what is wrong with the others."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.rejection import Reason, Rejected
from training.data.stream import read


@dataclass(frozen=True, slots=True)
class Report:
    """`rejected` counts records by reason; `first` tells where each reason was met first."""

    num_records: int
    rejected: Mapping[Reason, int]
    first: Mapping[Reason, str]

    @property
    def num_rejected(self) -> int:
        return sum(self.rejected.values())

    @property
    def num_kept(self) -> int:
        return self.num_records - self.num_rejected

    def as_json(self) -> dict[str, Any]:
        return {"records": self.num_records, "kept": self.num_kept, "rejected": self.rejected}

    def __str__(self) -> str:
        lines = [f"{self.num_records:,} records: {self.num_kept:,} kept, {self.num_rejected:,} rejected"]
        for reason, count in self.rejected.items():
            lines.append(f"{count:>9,}  {reason:<22} first: {self.first[reason]}")
        return "\n".join(lines)


def check(file: Path, images: Path) -> Report:
    num_records, rejected, first = 0, Counter[Reason](), dict[Reason, str]()
    for line in read(file, images):
        num_records += 1
        if isinstance(line.record, Rejected):
            rejected[line.record.reason] += 1
            first.setdefault(line.record.reason, f"line {line.number}: {line.record}")
    return Report(num_records, dict(rejected.most_common()), first)
