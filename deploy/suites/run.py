"""Puts one suite of lmms-eval to a running swires server: `python -m deploy.suites.run mmstar NAME:thorough`.

lmms-eval alone ends well whatever happened: a request that was never answered counts as a wrong answer, and so does an
answer that no judge could be asked about; an evaluation that broke off leaves no scores. Here a run without the judge's
key does not begin, and one with requests unanswered or without scores ends with an error.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "deploy" / "suites"
LMMS_EVAL = ROOT / ".venv-suites" / "bin" / "lmms-eval"

SUITES = tuple(sorted(path.stem for path in HERE.glob("*.yaml")))
JUDGED = ("hallusionbench", "mathvista", "mmvet")
"""Suites whose scores, all or some, lmms-eval has OpenAI's models give."""
TIMEOUT_S = 1800  # a search waits for those before it
UNANSWERED = "[LMMS_EVAL_"
"""How the text begins that lmms-eval puts in place of an answer that did not come."""


class SuiteError(Exception):
    """The suite was not run, or its scores mean nothing; the message is one line that says why."""


def main() -> int:
    given = sys.argv[1:]
    split = given.index("--") if "--" in given else len(given)
    arguments = _parser().parse_args(given[:split])
    suite, model = arguments.suite, arguments.model
    out = arguments.out or ROOT / "build" / "suites" / suite / model.replace(":", "-")
    try:
        check(suite, arguments.lmms_eval, out, os.environ)
        told = command(suite, model, arguments.url, arguments.concurrency, out.absolute())
        subprocess.run([arguments.lmms_eval.absolute(), *told, *given[split + 1 :]], cwd=ROOT, check=False)
        print(*report(out), sep="\n")
    except SuiteError as error:
        print(f"{suite}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.suites.run",
        description="Put a suite to a running server. What follows `--` goes to lmms-eval, as in `-- --limit 100`.",
    )
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("model", help="name at the server, with the amount of search: NAME:greedy, NAME:thorough")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the server (default %(default)s)")
    parser.add_argument("--concurrency", type=int, default=16, help="requests in flight (default %(default)s)")
    parser.add_argument("--out", type=Path, help="folder for scores and answers (default build/suites/SUITE/MODEL)")
    parser.add_argument("--lmms-eval", type=Path, default=LMMS_EVAL, help="command that `make suites` installs")
    return parser


def check(suite: str, lmms_eval: Path, out: Path, environment: Mapping[str, str]) -> None:
    """Raise SuiteError where the run would come to nothing."""
    if not lmms_eval.exists():
        raise SuiteError("lmms-eval is not installed; `make suites` installs it")
    if suite in JUDGED and not environment.get("OPENAI_API_KEY"):
        raise SuiteError("is scored by OpenAI's models; put a key in OPENAI_API_KEY")
    if out.exists():  # HallusionBench would take the verdicts on the last answers for verdicts on these
        raise SuiteError(f"{out} holds another run; name another folder with --out")


def command(suite: str, model: str, url: str, concurrency: int, out: Path) -> Sequence[str]:
    """The arguments of lmms-eval; the judge's key, which is in the environment, is kept from the server."""
    server = f"model_version={model},base_url={url}/v1,api_key=none,num_cpus={concurrency},timeout={TIMEOUT_S}"
    config = HERE / f"{suite}.yaml"
    return ("eval", "--config", str(config), "--model_args", server, "--output_path", str(out))


def report(out: Path) -> Iterator[str]:
    """A line for each score. Raises SuiteError where there are none, or some of the answers never came."""
    results = sorted(out.rglob("[0-9]*_results.json"))
    if not results:
        raise SuiteError("lmms-eval wrote no scores")
    answers = [answer for path in sorted(out.rglob("[0-9]*_samples_*.jsonl")) for answer in _answers(path)]
    missing = sum(answer.startswith(UNANSWERED) for answer in answers)
    if missing or not answers:
        raise SuiteError(f"{missing} of {len(answers)} requests were not answered, and lmms-eval counts them as wrong")
    for task, scores in json.loads(results[-1].read_text())["results"].items():
        for name, score in scores.items():
            if isinstance(score, float) and "stderr" not in name:
                yield f"{task} {name.partition(',')[0]}: {score:.4g}"
    yield f"{len(answers)} answers, in {out}"


def _answers(samples: Path) -> Iterator[str]:
    for line in samples.read_text().splitlines():
        sample = json.loads(line)
        told = sample.get("resps", sample["filtered_resps"])
        yield str(told[0] if isinstance(told, list) else told)


if __name__ == "__main__":
    sys.exit(main())
