"""Which scorers a server offers, and what must be there for them."""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from server.checkpoint import Checkpoint
from server.engine.classifier import Classifier
from server.engine.labels import LabelReader
from server.logs import vllm_logging
from server.plan import unfit
from server.preflight import check_reward_model
from server.scorer.calibrated import Calibrated, require_all_stages
from server.scorer.consensus import Consensus
from server.scorer.guarded import Guarded
from server.scorer.judge import Judge
from server.scorer.raw import calibration_key, raw_scorers
from server.scorer.remote import connected
from server.scorer.reward_model import RemoteClassifier, RewardModel
from server.settings import SCORER_TIMEOUT_S, PolicyName, Sees, Settings
from swires.errors import ScorerError
from swires.policies import POLICIES
from swires.protocols import Scorer

SCORERS = ("verifier", "reward_model", "likelihood", "consensus", "judge")
"""The best one first; the judge, which not all policies can use, last."""

UNCALIBRATED = ("consensus", "judge")
NEEDS = {"reward_model": "--reward-url or --reward-model", "judge": "--judge-url and --judge-model"}


@dataclass(frozen=True, slots=True)
class Beside:
    """Other models that score, ready to be asked."""

    classifier: Classifier | None = None
    judge: Judge | None = None


NONE_BESIDE = Beside()


def scorers_beside(settings: Settings) -> tuple[str, ...]:
    """The scorers that the settings name a model for, each beside the checkpoint's own. Raises ScorerError."""
    if settings.reward_url and settings.reward_model:
        raise ScorerError("--reward-model: is one, --reward-url another; give one of them")
    if settings.reward_model and not Path(settings.reward_model).is_dir():
        raise ScorerError(f"--reward-model: there is no directory {settings.reward_model}")
    for option, other in (("judge_url", "judge_model"), ("judge_model", "judge_url")):
        if getattr(settings, option) and not getattr(settings, other):
            raise ScorerError(f"--{other.replace('_', '-')}: is missing, --{option.replace('_', '-')} needs it")
    reward = ("reward_model",) if settings.reward_url or settings.reward_model else ()
    return (*reward, "judge") if settings.judge_url else reward


def chosen_scorers(
    known: Checkpoint,
    names: Sequence[str],
    *,
    beside: Collection[str] = (),
    sees: Sees = "answer",
    option: str = "--scorers",
) -> tuple[str, ...]:
    """The scorers to offer, without names all that are ready, the best first. Raises ScorerError, blaming `option`."""
    can_be = {"likelihood", "consensus", *beside, *(("verifier",) if known.verifier else ())}
    possible = tuple(name for name in SCORERS if name in can_be)
    for name in names:
        if name not in possible:
            raise ScorerError(f"{option}: {_what_lacks(name, possible)}")
    if not names and known.staged and not known.calibration:
        raise ScorerError("no scorer is calibrated: run `swires calibrate` first, or choose --scorers consensus")
    calibrated = {name for name in SCORERS if calibration_key(name, sees) in known.calibration}
    meant = names or (*beside, *(("verifier",) if known.verifier and sees != "answer" else ()))
    for name in meant:
        if name not in UNCALIBRATED:
            require_all_stages(known.calibration.get(calibration_key(name, sees), {}))
    return tuple(names) or tuple(name for name in possible if name in {*calibrated, *UNCALIBRATED})


def _what_lacks(name: str, possible: Collection[str]) -> str:
    if name in NEEDS:
        return f"{name} needs {NEEDS[name]}"
    return f"the checkpoint has no scorer {name!r}, only {', '.join(possible)}"


def check_defaults(policy: PolicyName, scorer: str, *, option: str = "--scorers") -> None:
    """Raises ScorerError, which blames `option`, where a request that names neither would be refused."""
    if scorer == "judge" and POLICIES[policy].thresholds:
        raise ScorerError(f"{option}: {unfit(policy, scorer)}")


@asynccontextmanager
async def opened(settings: Settings, names: Collection[str]) -> AsyncGenerator[Beside, None]:
    """Start or reach the other models that the scorers `names` need, and try each. Raises ScorerError, EngineError."""
    async with AsyncExitStack() as stack:
        classifier = judge = None
        if "reward_model" in names:
            classifier = await stack.enter_async_context(_classifier(settings))
            await RewardModel(classifier).check()
        if "judge" in names:
            judge = await stack.enter_async_context(_judge(settings))
            await judge.check()
        yield Beside(classifier, judge)


@asynccontextmanager
async def _classifier(settings: Settings) -> AsyncGenerator[Classifier, None]:
    if settings.reward_url:
        url, timeout_s = str(settings.reward_url), settings.scorer_timeout_s
        async with connected("reward model", url, timeout_s=timeout_s) as remote:
            yield RemoteClassifier(remote)
    else:
        assert settings.reward_model is not None
        check_reward_model(Path(settings.reward_model))
        from server.engine.vllm_engine import VllmEngine, memory_beside

        memory, _ = memory_beside(settings.reward_memory)
        options = {
            "runner": "pooling",
            "convert": "classify",
            "limit_mm_per_prompt": {"image": settings.max_images},
            "disable_log_stats": True,  # they would go under the names of the checkpoint's own engine
            **memory,
        }
        with vllm_logging(settings) as logging:
            async with VllmEngine(settings.reward_model, **options, **logging) as engine:
                yield engine


@asynccontextmanager
async def _judge(settings: Settings) -> AsyncGenerator[Judge, None]:
    assert settings.judge_model is not None
    key = settings.judge_api_key.get_secret_value() if settings.judge_api_key else None
    url, timeout_s = str(settings.judge_url), settings.scorer_timeout_s
    async with connected("judge", url, timeout_s=timeout_s, key=key) as remote:
        yield Judge(remote, settings.judge_model, settings.scorer_sees)


def make_scorers(
    engine: LabelReader | None,
    known: Checkpoint,
    names: Sequence[str],
    beside: Beside = NONE_BESIDE,
    *,
    sees: Sees = "answer",
    timeout_s: float = SCORER_TIMEOUT_S,
) -> dict[str, Scorer]:
    """The scorers `names`, each with what it needs, an engine if it is the verifier. Raises ScorerError."""
    raw = raw_scorers(engine, known, sees, beside.classifier)
    uncalibrated: dict[str, Scorer] = {"consensus": Consensus()}
    if beside.judge is not None:
        uncalibrated["judge"] = beside.judge
    made = {
        name: uncalibrated[name]
        if name in UNCALIBRATED
        else Calibrated(raw[name], known.calibration[calibration_key(name, sees)])
        for name in names
    }
    return {name: Guarded(name, scorer, timeout_s) for name, scorer in made.items()}
