"""A verifier before and after its training, on held-out problems: a table, report.json and reliability.png."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from matplotlib.figure import Figure

from swires.stages import Stage
from training.evaluation.statistics import wilson
from training.verifier import jsonl
from training.verifier.config import Head
from training.verifier.errors import BadFile
from training.verifier.judge import Judge
from training.verifier.label import Labelled
from training.verifier.measure import Bin, Verdict, auc, auc_within, calibration_error, reliability


@dataclass(frozen=True, slots=True)
class StageReport:
    """Figures are None where all of the stages are right, or all are wrong, `auc_within` where those of each problem
    are."""

    right: int
    wrong: int
    auc: float | None
    auc_within: float | None
    calibration_error: float | None
    reliability: tuple[Bin, ...]

    @classmethod
    def of(cls, verdicts: Sequence[Verdict]) -> "StageReport":
        right = sum(one.right for one in verdicts)
        both = 0 < right < len(verdicts)
        bins = tuple(reliability(verdicts)) if both else ()
        return cls(right, len(verdicts) - right, auc(verdicts), auc_within(verdicts), calibration_error(verdicts), bins)


@dataclass(frozen=True, slots=True)
class ModelReport:
    """`answered_right` of `answered` problems, greedily."""

    model: str
    stages: Mapping[str, StageReport]
    answered: int
    answered_right: int


def report(
    labels: Path, models: Mapping[str, Path], out: Path, *, head: Head, answers: int, batch: int, max_new_tokens: int
) -> str:
    """Measure the models by name, write the folder `out` and return the table. Raises BadFile, ConfigError."""
    labelled = list(jsonl.read(labels, Labelled))
    if not labelled:
        raise BadFile(f"{labels}: holds no problem")
    found = {}
    for name, folder in models.items():
        judge = Judge.load(folder)
        verdicts = judge.verdicts(labelled, head, batch)
        samples = judge.answers([one.problem for one in labelled][:answers], batch, max_new_tokens)
        stages = {stage.name: StageReport.of(verdicts[stage]) for stage in Stage}
        found[name] = ModelReport(str(folder), stages, len(samples), sum(sample.right for sample in samples))
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps({name: asdict(one) for name, one in found.items()}, indent=2) + "\n")
    draw(found, out / "reliability.png")
    return table(found)


def table(found: Mapping[str, ModelReport]) -> str:
    """Of each stage AUC, AUC within a problem, and expected calibration error; accuracy of greedy answers with its 95 %
    Wilson interval."""
    first = next(iter(found.values()))
    rows = [("", [stage.name.lower() for stage in Stage], "answers right")]
    rows += [("right / wrong", [f"{one.right} / {one.wrong}" for one in first.stages.values()], "")]
    rows += [(name, [_told(stage) for stage in one.stages.values()], _accuracy(one)) for name, one in found.items()]
    lines = [f"{name:<13} {' '.join(f'{cell:>18}' for cell in cells)} {last:>22}" for name, cells, last in rows]
    return "\n".join([*lines, "of each stage: AUC, AUC within a problem, expected calibration error"])


def draw(found: Mapping[str, ModelReport], picture: Path) -> None:
    """A reliability diagram for each stage."""
    figure = Figure(figsize=(3.2 * len(Stage), 3.6), layout="constrained")
    for axes, stage in zip(figure.subplots(1, len(Stage), sharey=True), Stage, strict=True):
        axes.plot([0, 1], [0, 1], color="gray", linestyle=":")
        for name, one in found.items():
            bins = one.stages[stage.name].reliability
            axes.plot([each.probability for each in bins], [each.share_right for each in bins], marker="o", label=name)
        axes.set(title=stage.name, xlabel="judged to be right", xlim=(0, 1), ylim=(0, 1))
    figure.axes[0].set_ylabel("right, of balanced classes")
    figure.axes[0].legend()
    figure.savefig(picture, dpi=110)


def _told(stage: StageReport) -> str:
    figures = (stage.auc, stage.auc_within, stage.calibration_error)
    return " ".join("    -" if figure is None else f"{figure:.3f}" for figure in figures)


def _accuracy(one: ModelReport) -> str:
    if not one.answered:
        return "-"
    found = wilson(one.answered_right / one.answered, one.answered)
    return f"{found.value:.1%} [{found.low:.1%}, {found.high:.1%}]"
