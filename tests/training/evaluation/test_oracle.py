import itertools
from typing import Any

from fastapi.testclient import TestClient

from swires.parser import parse
from training.evaluation.oracle import oracle_app
from training.tasks.example import Example
from training.tasks.scenes import scenes

EXAMPLES = list(itertools.islice(scenes(1), 3))
CLIENT = TestClient(oracle_app(EXAMPLES[:2]))


def logit(example: Example, said: str) -> float:
    asked = [
        {"type": "image_url", "image_url": {"url": example.data_url}},
        {"type": "text", "text": example.question},
    ]
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": [{"type": "text", "text": said}]},
    ]
    reply = CLIENT.post("/classify", json={"messages": messages, "use_activation": False})
    (label,) = reply.json()["data"]
    (value,) = label["probs"]
    assert isinstance(value, float)
    return value


def test_the_newest_stage_is_judged() -> None:
    for example in EXAMPLES[:2]:
        stages = [f"{one.stage.opening}{one.text}{one.stage.closing}" for one in parse(example.text)]
        for through in range(1, 5):
            assert logit(example, "".join(stages[:through])) > 0
        wrong = stages[1].replace("<CAPTION>", "<CAPTION>9 ")
        assert logit(example, stages[0] + wrong) < 0
        assert logit(example, stages[0] + wrong + stages[2]) > 0


def test_what_it_does_not_know_it_does_not_judge() -> None:
    assert logit(EXAMPLES[2], EXAMPLES[2].text) == 0
    assert logit(EXAMPLES[0], "") == 0
