"""In which order the records of an epoch come."""

from collections.abc import Callable, Iterator

import torch
from torch.utils.data import RandomSampler, Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler


class EpochSampler(Sampler[int]):
    """An order that follows from the seed and the epoch alone, so that a run that goes on in the middle of one meets
    the records that it has not met yet. By itself transformers draws the order of records grouped by length from what
    the generators happen to hold."""

    def __init__(self, sampler: RandomSampler | LengthGroupedSampler, seed: int, epoch: Callable[[], int]) -> None:
        self._sampler, self._seed, self._epoch = sampler, seed, epoch

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[int]:
        self._sampler.generator = torch.Generator().manual_seed(self._seed + self._epoch())
        return iter(self._sampler)
