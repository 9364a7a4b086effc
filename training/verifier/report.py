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
from training.verifier.measure import Bin, Verdict, auc, calibration_error, reliability


@dataclass(frozen=True, slots=True)
class StageReport:
    """`auc` and `calibration_error` are None where all of the stages are right, or all are wrong."""

    right: int
    wrong: int
    auc: float | None
    calibration_error: float | None
    reliability: tuple[Bin, ...]

    @classmethod
    def of(cls, verdicts: Sequence[Verdict]) -> "StageReport":
        right = sum(one.right for one in verdicts)
        both = 0 < right < len(verdicts)
        bins = tuple(reliability(verdicts)) if both else ()
        return cls(right, len(verdicts) - right, auc(verdicts), calibration_error(verdicts), bins)


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
    """AUC and expected calibration error of each stage, right and wrong ones weighing the same; accuracy of greedy
    answers with its 95 % Wilson interval."""
    lines = [f"{'':<12}" + "".join(f" {stage.name.lower():>16}" for stage in Stage) + f" {'answers right':>22}"]
    first = next(iter(found.values()))
    lines.append(
        f"{'right / wrong':<12}" + "".join(f" {f'{one.right} / {one.wrong}':>16}" for one in first.stages.values())
    )
    for name, one in found.items():
        cells = "".join(f" {_told(stage):>16}" for stage in one.stages.values())
        lines.append(f"{name:<12} {cells[1:]} {_accuracy(one):>22}")
    return "\n".join([*lines, "of each stage: AUC, expected calibration error"])


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
    if stage.auc is None or stage.calibration_error is None:
        return "-"
    return f"{stage.auc:.3f}, {stage.calibration_error:.3f}"


def _accuracy(one: ModelReport) -> str:
    if not one.answered:
        return "-"
    found = wilson(one.answered_right / one.answered, one.answered)
    return f"{found.value:.1%} [{found.low:.1%}, {found.high:.1%}]"
