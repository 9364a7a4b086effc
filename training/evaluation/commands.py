"""`python -m training evaluate`."""

import argparse
import asyncio
import sys
from pathlib import Path

EVALUATE = """\
Ask a running server every problem in every way, and print what each way costs and how often it is right.

Answers are kept in a file, from which a run that was stopped goes on. With --report the searches are traced too, and
curves and a page to look into them are written."""


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.description = EVALUATE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("task", choices=("scenes", "easy-vqa"), help="demo scenes, or easy-VQA's official test split")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the server (default %(default)s)")
    parser.add_argument(
        "--policies",
        nargs="+",
        default=["greedy", "swires"],
        metavar="POLICY[:KEY=VALUE,...]",
        help="ways to answer, with fields of the request's `swires` object; the others are compared to the first",
    )
    parser.add_argument(
        "--problems", type=int, default=500, help="how many; 0 is all of easy-VQA's (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=777, help="which scenes, or which questions (default %(default)s)")
    parser.add_argument(
        "--repeats", type=int, default=1, help="times each is asked, with other samples (default %(default)s)"
    )
    parser.add_argument("--concurrency", type=int, default=16, help="requests in flight (default %(default)s)")
    parser.add_argument("--record", type=Path, help="JSONL file of the answers; a run that stopped goes on from it")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="write results.json, curves and report.html here")
    parser.set_defaults(run=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> None:
    from training.evaluation import statistics
    from training.evaluation.answers import Arm, BadRecord, Record
    from training.evaluation.ask import EvaluationError, ask
    from training.evaluation.problems import problems

    arms = [Arm.parse(text) for text in arguments.policies]
    path = arguments.record or Path(f"training/runs/{arguments.task}-{arguments.problems}-{arguments.seed}.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        print(f"Goes on from {path}; answers of another checkpoint need another --record", file=sys.stderr)
    examples = problems(arguments.task, arguments.problems, arguments.seed)
    try:
        asked = ask(
            arguments.url,
            examples,
            arms,
            Record(path),
            seed=arguments.seed,
            repeats=arguments.repeats,
            concurrency=arguments.concurrency,
            trace=arguments.report is not None,
        )
        answers = asyncio.run(asked)
    except (EvaluationError, BadRecord) as error:
        sys.exit(f"evaluate: {error}")
    names = [arm.name for arm in arms]
    title = f"{arguments.task}, {len(examples)} problems, seed {arguments.seed}"
    rows = statistics.results(answers, names)
    print(f"{title}\n{statistics.table(rows)}")
    if found := statistics.rivals(answers, rows):
        print(f"\n{statistics.rivals_table(found)}")
    if arguments.report:
        from training.evaluation.report import write_report  # and matplotlib

        write_report(arguments.report, title, answers, names, examples)
        print(f"Wrote {arguments.report / 'report.html'}")


ORACLE = """\
Serve a scorer that knows the truth, to see what a search would reach if only its scoring were perfect.

For `swires calibrate` and `swires serve` it is a reward model at --reward-url."""


def add_oracle(parser: argparse.ArgumentParser) -> None:
    parser.description = ORACLE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("task", choices=("scenes", "easy-vqa"), help="whose problems it knows")
    parser.add_argument("--problems", type=int, default=500, help="how many of each seed (default %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[777], help="which (default 777)")
    parser.add_argument("--port", type=int, default=9000, help="on 127.0.0.1 (default %(default)s)")
    parser.set_defaults(run=_oracle)


def _oracle(arguments: argparse.Namespace) -> None:
    import uvicorn

    from training.evaluation.oracle import oracle_app
    from training.evaluation.problems import problems

    examples = [one for seed in arguments.seeds for one in problems(arguments.task, arguments.problems, seed)]
    print(f"Knows {len(examples)} problems; --reward-url http://127.0.0.1:{arguments.port}")
    uvicorn.run(oracle_app(examples), host="127.0.0.1", port=arguments.port, log_level="warning")
