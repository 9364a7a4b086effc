"""Record the trace of one search and draw it: `python -m deploy.trace --model DIR --out server/docs/trace`."""

import argparse
import asyncio
from pathlib import Path

from deploy.trace.draw import as_picture, as_text, of_search
from deploy.trace.record import recorded


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.trace", description=__doc__)
    parser.add_argument("--model", default="training/checkpoints/demo", help="default %(default)s")
    parser.add_argument("--out", type=Path, required=True, help="path of the files to write, without .txt and .png")
    options = parser.parse_args()
    spans = of_search(asyncio.run(recorded(options.model)).spans)
    options.out.with_suffix(".txt").write_text(text := as_text(spans))
    as_picture(spans, options.out.with_suffix(".png"))
    print(text)


if __name__ == "__main__":
    main()
