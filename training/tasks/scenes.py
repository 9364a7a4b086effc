"""Scenes of coloured shapes with questions of several steps, drawn at random from a seed.

An answer says how many before it tells which: the number must be seen at a glance, what follows can be checked against
it. So a wrong start shows later, which is what a verifier can see and a search can mend.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from PIL import Image, ImageDraw

from swires.stages import Stage
from training.tasks.example import Example

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


def scenes(
    seed: int, *, objects: tuple[int, int] = (2, MAX_OBJECTS), steps: tuple[int, int] = (1, 3)
) -> Iterator[Example]:
    """Scenes without end; the same seed gives the same ones.

    Of three problems thought up for a scene the one that leaves the most is asked, else most answers would be 0 or 1.
    """
    rng = random.Random(f"scenes {seed}")
    while True:
        things = tuple(_thing(rng) for _ in range(rng.randint(*objects)))
        problems = [_problem(rng, things, steps) for _ in range(3)]
        problem = max(problems, key=lambda problem: int(answer(things, *problem)[Stage.CONCLUSION]))
        places = dict(zip(sorted(rng.sample(range(GRID * GRID), len(things))), things, strict=True))
        cells = tuple(str(places.get(cell, "")) for cell in range(GRID * GRID))
        yield Example(_draw(rng, places), _question(rng, *problem), answer(things, *problem), cells)


def answer(things: tuple[Thing, ...], subtracted: tuple[Filter, ...], asked: Filter) -> dict[Stage, str]:
    """The four stages for `things` in reading order."""
    left, lines = dict(enumerate(things, 1)), []
    for kind in subtracted:
        checked, num_before = _check(left, kind), len(left)
        left = {number: thing for number, thing in left.items() if not kind.admits(thing)}
        lines.append(f"A {kind.one}? {num_before - len(left)} of {num_before} go, {len(left)} stay{checked}")
    if asked != Filter():
        checked, num_before = _check(left, asked), len(left)
        left = {number: thing for number, thing in left.items() if asked.admits(thing)}
        lines.append(f"A {asked.one}? {len(left)} of {num_before} count{checked}")
    listed = ", ".join(f"{number} {thing}" for number, thing in enumerate(things, 1))
    plan = ", then ".join(str(kind) for kind in subtracted)
    return {
        Stage.SUMMARY: f"List what is there, take away {plan}, and count the {asked} left.",
        Stage.CAPTION: f"{len(things)} objects: {listed}.",
        Stage.REASONING: "\n".join(lines),
        Stage.CONCLUSION: str(len(left)),
    }


def _problem(
    rng: random.Random, things: tuple[Thing, ...], steps: tuple[int, int]
) -> tuple[tuple[Filter, ...], Filter]:
    subtracted = tuple(_filter(rng, things) for _ in range(rng.randint(*steps)))
    return subtracted, Filter() if rng.random() < 0.7 else _filter(rng, things)


def _thing(rng: random.Random) -> Thing:
    return Thing(rng.choice(tuple(DIAMETERS)), rng.choice(tuple(COLORS)), rng.choice(SHAPES))


def _filter(rng: random.Random, things: tuple[Thing, ...]) -> Filter:
    """One to three properties, mostly of something that is there."""
    thing = rng.choice(things) if rng.random() < 0.8 else _thing(rng)
    kept = rng.sample(("size", "color", "shape"), rng.choices((1, 2, 3), (6, 3, 1))[0])
    return Filter(**{name: getattr(thing, name) for name in kept})


def _question(rng: random.Random, subtracted: tuple[Filter, ...], asked: Filter) -> str:
    verb = rng.choice(("Subtract", "Subtract", "Remove", "Take away"))
    return " ".join([*(f"{verb} all {kind}." for kind in subtracted), f"How many {asked} are left?"])


def _check(things: Mapping[int, Thing], kind: Filter) -> str:
    items = ", ".join(f"{number} {thing} {'yes' if kind.admits(thing) else 'no'}" for number, thing in things.items())
    return f": {items}." if things else "."


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
