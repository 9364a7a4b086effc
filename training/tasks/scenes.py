"""Scenes of coloured shapes with questions of several steps, drawn at random from a seed.

An answer says how many before it tells which: the number must be seen at a glance, the list that follows counts them
one by one. So a wrong start shows later, which is what a verifier can see and a search can mend.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from PIL import Image, ImageDraw

from swires.stages import Stage
from training.tasks.example import Example, transcript
from training.tasks.slips import TRUTHFUL, Teller, said

SHAPES = ("circle", "square", "triangle")
COLORS = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (50, 80, 220),
    "yellow": (225, 195, 40),
    "purple": (150, 60, 180),
}
DIAMETERS = {"small": (6, 8), "large": (12, 14)}
SIDE, GRID = 64, 4
CELL = SIDE // GRID
MAX_OBJECTS = 8
ORDINALS = ("one", "two", "three", "four", "five", "six", "seven", "eight")


@dataclass(frozen=True)
class Thing:
    size: str
    color: str
    shape: str

    def __str__(self) -> str:
        return f"{self.size} {self.color} {self.shape}"


@dataclass(frozen=True)
class Filter:
    """Things of a kind; None admits any."""

    size: str | None = None
    color: str | None = None
    shape: str | None = None

    def admits(self, thing: Thing) -> bool:
        return (
            self.size in (None, thing.size) and self.color in (None, thing.color) and self.shape in (None, thing.shape)
        )

    def __str__(self) -> str:
        return f"{self.one}s"

    @property
    def one(self) -> str:
        return " ".join(word for word in (self.size, self.color, self.shape or "object") if word)


@dataclass(frozen=True)
class Problem:
    """What is taken away, kind by kind, and what is then counted."""

    subtracted: tuple[Filter, ...]
    asked: Filter

    @property
    def steps(self) -> Iterator[tuple[str, Filter, bool]]:
        """The name of what goes, the kind it is told by, and whether it is of that kind or of all others."""
        for kind in self.subtracted:
            yield f"A {kind.one}", kind, True
        if self.asked != Filter():
            yield f"Not a {self.asked.one}", self.asked, False


@dataclass(frozen=True)
class Scene(Example):
    things: tuple[Thing, ...] = ()
    problem: Problem = Problem((), Filter())

    def told(self, teller: Teller) -> str:
        """The transcript as `teller` tells it, with marks where that is wrong."""
        return transcript(answer(self.things, self.problem, teller))


def scenes(
    seed: int, *, objects: tuple[int, int] = (2, MAX_OBJECTS), steps: tuple[int, int] = (1, 3)
) -> Iterator[Scene]:
    """Scenes without end; the same seed gives the same ones.

    Of three problems thought up for a scene the one that leaves the most is asked, else most answers would be 0 or 1.
    """
    rng = random.Random(f"scenes {seed}")
    while True:
        things = tuple(_thing(rng) for _ in range(rng.randint(*objects)))
        problem = max((_problem(rng, things, steps) for _ in range(3)), key=lambda problem: _num_left(things, problem))
        places = dict(zip(sorted(rng.sample(range(GRID * GRID), len(things))), things, strict=True))
        cells = tuple(str(places.get(cell, "")) for cell in range(GRID * GRID))
        yield Scene(
            _draw(rng, places), _question(rng, problem), answer(things, problem), cells, things=things, problem=problem
        )


def answer(things: tuple[Thing, ...], problem: Problem, teller: Teller = TRUTHFUL) -> dict[Stage, str]:
    """The four stages for `things` in reading order."""
    seen = [_as_seen(thing, teller) for thing in things]
    stay = teller.count(len(seen), MAX_OBJECTS)
    named = map(_said, seen, things)
    listed = ", ".join(f"{number} {name}" for number, name in enumerate(named, 1))
    caption = f"{said(stay, len(seen))} objects: {listed}."
    left, lines = dict(enumerate(seen, 1)), []
    for name, kind, of_kind in problem.steps:
        goes = {number: kind.admits(thing) is of_kind for number, thing in left.items()}
        right, of = sum(goes.values()), stay
        go = teller.count(right, of)
        stay = of - go
        lines.append(f"{name}? {said(go, right)} of {of} go, {stay} stay{_check(left, goes)}")
        left = {number: thing for number, thing in left.items() if not goes[number]}
    plan = ", then ".join(str(kind) for kind in problem.subtracted)
    return {
        Stage.SUMMARY: f"List what is there, take away {plan}, and count the {problem.asked} left.",
        Stage.CAPTION: caption,
        Stage.REASONING: "\n".join(lines),
        Stage.CONCLUSION: str(stay),
    }


def _num_left(things: tuple[Thing, ...], problem: Problem) -> int:
    return sum(
        problem.asked.admits(thing) and not any(kind.admits(thing) for kind in problem.subtracted) for thing in things
    )


def _as_seen(thing: Thing, teller: Teller) -> Thing:
    return Thing(
        teller.word(thing.size, tuple(DIAMETERS)),
        teller.word(thing.color, tuple(COLORS)),
        teller.word(thing.shape, SHAPES),
    )


def _said(thing: Thing, right: Thing) -> str:
    return " ".join(said(word, true) for word, true in zip(str(thing).split(), str(right).split(), strict=True))


def _problem(rng: random.Random, things: tuple[Thing, ...], steps: tuple[int, int]) -> Problem:
    subtracted = tuple(_filter(rng, things) for _ in range(rng.randint(*steps)))
    return Problem(subtracted, Filter() if rng.random() < 0.7 else _filter(rng, things))


def _thing(rng: random.Random) -> Thing:
    return Thing(rng.choice(tuple(DIAMETERS)), rng.choice(tuple(COLORS)), rng.choice(SHAPES))


def _filter(rng: random.Random, things: tuple[Thing, ...]) -> Filter:
    """One to three properties, mostly of something that is there."""
    thing = rng.choice(things) if rng.random() < 0.8 else _thing(rng)
    kept = rng.sample(("size", "color", "shape"), rng.choices((1, 2, 3), (6, 3, 1))[0])
    return Filter(**{name: getattr(thing, name) for name in kept})


def _question(rng: random.Random, problem: Problem) -> str:
    verb = rng.choice(("Subtract", "Subtract", "Remove", "Take away"))
    return " ".join([*(f"{verb} all {kind}." for kind in problem.subtracted), f"How many {problem.asked} are left?"])


def _check(left: Mapping[int, Thing], goes: Mapping[int, bool]) -> str:
    """Thing by thing whether it goes, those that do being counted."""
    ordinals = iter(ORDINALS)
    items = ", ".join(f"{number} {left[number]} {next(ordinals) if goes[number] else 'no'}" for number in left)
    return f": {items}." if left else "."


def _draw(rng: random.Random, places: Mapping[int, Thing]) -> Image.Image:
    image = Image.new("RGB", (SIDE, SIDE), tuple(rng.randint(225, 255) for _ in range(3)))
    draw = ImageDraw.Draw(image)
    for cell, thing in places.items():
        radius = rng.randint(*DIAMETERS[thing.size]) / 2
        x, y = ((place + 0.5) * CELL + rng.uniform(-3, 3) for place in (cell % GRID, cell // GRID))
        x, y = (min(max(place, radius), SIDE - 1 - radius) for place in (x, y))
        box = (x - radius, y - radius, x + radius, y + radius)
        fill = tuple(min(255, max(0, value + rng.randint(-25, 25))) for value in COLORS[thing.color])
        if thing.shape == "circle":
            draw.ellipse(box, fill)
        elif thing.shape == "square":
            draw.rectangle(box, fill)
        else:
            draw.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill)
    return image
