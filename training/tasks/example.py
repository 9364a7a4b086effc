"""One question about one picture, with the answer that a model should learn to give."""

from collections.abc import Mapping
from dataclasses import dataclass

from PIL.Image import Image

from swires.stages import Stage


@dataclass(frozen=True)
class Example:
    image: Image
    question: str
    stages: Mapping[Stage, str]
    cells: tuple[str, ...] = ()
    """What stands in each cell of the picture's grid, in reading order, where that is told."""

    @property
    def answer(self) -> str:
        return self.stages[Stage.CONCLUSION]

    @property
    def text(self) -> str:
        """The whole transcript as it is trained, tags included."""
        return "".join(f"{stage.opening}{self.stages[stage]}{stage.closing}" for stage in Stage)
