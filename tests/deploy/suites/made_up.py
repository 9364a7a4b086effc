"""lmms-eval with a few made-up rows in place of each suite's data set. It is run by lmms-eval's own Python."""

from importlib.metadata import entry_points
from typing import Any

import datasets
from PIL import Image

IMAGE = Image.new("RGB", (64, 64), "red")
OPTIONS = {"A": "circle", "B": "square", "C": "red", "D": "blue"}

MMSTAR = [
    {"index": number, "question": f"What is it?\n{OPTIONS}", "image": IMAGE, "answer": "C"}
    | {"category": category, "l2_category": "recognition"}
    for number, category in enumerate(("math", "logical reasoning"))
]
MMBENCH = [
    {"index": number, "question": "What colour?", "hint": "nan", "answer": "C", "image": IMAGE, **OPTIONS}
    | {"category": "color", "L2-category": "attribute", "source": "made up", "split": "dev"}
    for number in range(2)
]
MMVET = [
    {"question_id": f"v1_{number}", "question": "What colour?", "answer": "red", "image": IMAGE, "capability": "rec"}
    for number in range(2)
]
MATHVISTA_KINDS = ("language", "source", "category", "task", "context", "grade")
MATHVISTA = [
    {"pid": answer, "question": "How many?", "query": "How many?", "unit": None, "decoded_image": IMAGE}
    | {"answer": answer}
    | {"question_type": "free_form", "answer_type": "integer", "choices": None, "precision": None}
    | {"metadata": {"split": "testmini", "skills": ["arithmetic"], **dict.fromkeys(MATHVISTA_KINDS, "made up")}}
    for answer in "123456789"  # one of which is right: for none right there is no score
]
AI2D = [{"question": "What colour?", "options": list(OPTIONS.values()), "answer": "2", "image": IMAGE}] * 2
HALLUSION = [
    {
        "category": category,
        "subcategory": "figure",
        "set_id": "0",
        "figure_id": "1",
        "question_id": "0",
        "visual_input": "1",
    }
    | {"question": "Is it red?", "gt_answer": "1", "gt_answer_details": "It is red.", "image": IMAGE}
    for category in ("VD", "VS")
]

ROWS: dict[tuple[str, str | None], dict[str, list[dict[str, Any]]]] = {
    ("Lin-Chen/MMStar", None): {"val": MMSTAR},
    ("lmms-lab-encoder/MMBench", "en"): {"dev": MMBENCH, "test": MMBENCH},
    ("lmms-lab-encoder/MMVet", None): {"test": MMVET},
    ("AI4Math/MathVista", None): {"testmini": MATHVISTA},
    ("lmms-lab-encoder/ai2d", None): {"test": AI2D},
    ("lmms-lab-encoder/HallusionBench", None): {"image": HALLUSION},
}


def load_dataset(path: str, name: str | None = None, **options: Any) -> datasets.DatasetDict:
    splits = ROWS[path, name].items()
    return datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split, rows in splits})


if __name__ == "__main__":
    datasets.load_dataset = load_dataset
    (command,) = entry_points(group="console_scripts", name="lmms-eval")
    command.load()()
