"""Questions of easy-VQA's official test split as a file that lmms-eval reads without the Hub."""

import argparse
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "build" / "suites" / "easy_vqa.parquet"
"""Where `easy_vqa.yaml` looks for them."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.suites.easy_vqa.questions", description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="how many, of 9,673 (default %(default)s)")
    arguments = parser.parse_args()
    write(arguments.count, FILE)
    print(f"Wrote {FILE.relative_to(ROOT)}")


def write(count: int, file: Path) -> None:
    """`count` questions, evenly spread over the split: rows of image, question and answer."""
    from datasets import Dataset

    from training.tasks.easy_vqa import easy_vqa_examples

    every = easy_vqa_examples("test")
    chosen = [every[number * len(every) // count] for number in range(count)]
    rows = [{"image": one.image, "question": one.question, "answer": one.answer} for one in chosen]
    file.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_list(rows).to_parquet(file)


if __name__ == "__main__":
    main()
