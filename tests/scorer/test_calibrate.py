import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

import pytest
from PIL import Image

from server import images
from server.checkpoint import load
from server.engine.classifier import Classified, Conversation
from server.engine.fake import FakeEngine
from server.images import ImageLimits
from server.schemas import ChatRequest
from server.scorer.calibrate import Recorder, calibrate
from server.scorer.fake import FakeClassifier, FakeScorer
from server.scorer.likelihood import Likelihood
from server.scorer.questions import Question
from swires.errors import ScorerError
from swires.policies import Greedy, Swires
from swires.protocols import Scores
from swires.stages import Stage
from swires.types import ROOT, Candidate, Problem, Trajectory

IMAGE = Image.new("RGB", (8, 8))
QUESTIONS = [Question(IMAGE, f"How many of kind {number}?") for number in range(11)]
PROBLEM = Problem("", 1)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    facts = {"stages": {"tags": "special"}, "verifier": {"ask": "?", "yes": "+", "no": "-"}}
    (tmp_path / "swires.json").write_text(json.dumps(facts))
    return tmp_path


async def test_all_scorers_are_calibrated_for_all_stages(model: Path) -> None:
    told: list[int] = []
    calibrations = await calibrate(str(model), FakeEngine(), QUESTIONS, progress=told.append)
    assert told == list(range(1, len(QUESTIONS) + 1))
    assert {name: set(stages) for name, stages in calibrations.items()} == {
        "verifier": set(Stage),
        "likelihood": set(Stage),
    }
    known = load(str(model))
    assert known.calibration == calibrations
    assert known.verifier is not None
    assert known.staged


async def test_a_reward_model_is_one_more_and_what_was_measured_before_stays(model: Path) -> None:
    plain = await calibrate(str(model), FakeEngine(), QUESTIONS, progress=print)
    more = await calibrate(
        str(model), FakeEngine(), QUESTIONS, progress=print, sees="stage", classifier=FakeClassifier()
    )
    assert more.keys() == {"verifier:stage", "reward_model:stage", "likelihood"}
    assert load(str(model)).calibration == {**plain, **more}


async def test_a_reward_model_is_shown_the_question_and_its_image(model: Path) -> None:
    asked: list[Conversation] = []

    class Noting(FakeClassifier):
        async def classify(self, conversations: Sequence[Conversation]) -> tuple[Classified, ...]:
            asked.extend(conversations)
            return await super().classify(conversations)

    await calibrate(str(model), FakeEngine(), QUESTIONS[:2], progress=print, classifier=Noting())
    image, text = asked[0][0]["content"]
    assert text == {"type": "text", "text": QUESTIONS[0].text}
    chat = ChatRequest.model_validate({"model": "demo", "messages": [{"role": "user", "content": [image, text]}]})
    (loaded,) = await images.load(list(chat.images()), ImageLimits(1, 1 << 20, 1 << 20))
    assert loaded.tobytes() == IMAGE.tobytes()


async def test_a_reward_model_that_fails_is_told(model: Path) -> None:
    class Broken(FakeClassifier):
        async def classify(self, conversations: Sequence[Conversation]) -> tuple[Classified, ...]:
            raise ScorerError("the reward model answers 500")

    with pytest.raises(ScorerError, match="the reward model answers 500"):
        await calibrate(str(model), FakeEngine(), QUESTIONS, progress=print, classifier=Broken())
    assert load(str(model)).calibration == {}


async def test_the_same_questions_and_seed_give_the_same(model: Path) -> None:
    runs = [await calibrate(str(model), FakeEngine(), QUESTIONS, progress=print, seed=seed) for seed in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


async def test_the_lengths_of_the_stages_are_measured_too(model: Path) -> None:
    await calibrate(str(model), FakeEngine(), QUESTIONS, progress=print)
    lengths = load(str(model)).lengths
    assert list(lengths) == list(Stage)
    assert lengths.pop(Stage.CONCLUSION) == 3  # a digit between its tags
    assert all(10 < length < 80 for length in lengths.values())


async def test_the_policy_s_schedule_is_followed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted: dict[Stage, int] = dict.fromkeys(Stage, 0)
    measure = Likelihood.measure

    async def counted(self: Likelihood, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        for trajectory in trajectories:
            noted[trajectory.last.stage] += 1
        return await measure(self, problem, trajectories)

    monkeypatch.setattr(Likelihood, "measure", counted)
    policy = Swires(captions=5, keep_captions=2, reasonings=3, keep_reasonings=4, max_retraces=0)
    await calibrate(str(model), FakeEngine(), QUESTIONS[:2], progress=print, policy=policy)
    assert noted == {Stage.SUMMARY: 2, Stage.CAPTION: 10, Stage.REASONING: 12, Stage.CONCLUSION: 8}


async def test_a_stage_that_never_comes_is_told(model: Path) -> None:
    before = (model / "swires.json").read_text()
    with pytest.raises(ScorerError, match=r"0 scores of SUMMARY"):
        await calibrate(str(model), FakeEngine(), QUESTIONS[:2], progress=print, policy=Greedy())
    assert (model / "swires.json").read_text() == before


async def test_mean_and_deviation_are_those_of_the_raw_scores() -> None:
    recorder = Recorder({"likelihood": Likelihood()})
    values = (-1.0, -2.0, -4.0)
    for stage in Stage:
        text = stage.opening + stage.closing
        for value in values:
            await recorder.score(PROBLEM, [ROOT.then(Candidate(0, stage, text, (1,), "stop", value))])
    for deviation in recorder.calibrations()["likelihood"].values():
        assert (deviation.mean, deviation.std) == (fmean(values), stdev(values))


async def test_the_fake_scorer_goes_by_the_text() -> None:
    one, two = (ROOT.then(Candidate(0, Stage.SUMMARY, text, (), "stop")) for text in ("one", "two"))
    scores = await FakeScorer().score(PROBLEM, [one, two, one])
    assert scores.values[0] == scores.values[2] != scores.values[1]
