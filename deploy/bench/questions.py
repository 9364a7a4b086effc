"""What every row is asked: scenes with known answers, and to no row a picture that a cache has seen."""

from dataclasses import dataclass, replace

from training.evaluation.problems import is_right, problems

CORNER = (0, 0)


@dataclass(frozen=True, slots=True)
class Question:
    """`key` names the scene and is the same for all rows; `image` is a data URL, with a corner of the row's own."""

    key: str
    text: str
    image: str
    expected: str

    def answered_by(self, content: str) -> bool:
        return is_right(content, self.expected)

    def told(self) -> dict[str, str]:
        """To another process."""
        return {"key": self.key, "question": self.text, "image": self.image}

    def message(self) -> dict[str, object]:
        """As OpenAI's API has it."""
        parts = [{"type": "image_url", "image_url": {"url": self.image}}, {"type": "text", "text": self.text}]
        return {"role": "user", "content": parts}


def questions(count: int, *, seed: int, mark: int) -> list[Question]:
    """`count` scenes of the seed. A mark, up to 255, changes one pixel of each: servers cache by the picture."""
    asked = []
    for index, scene in enumerate(problems("scenes", count, seed)):
        image = scene.image.copy()
        image.putpixel(CORNER, (255, 255, mark))
        asked.append(Question(f"{seed}/{index}", scene.question, replace(scene, image=image).data_url, scene.answer))
    return asked
