from collections.abc import Sequence

import pytest

from server import sample
from server.engine.classifier import Classified, Conversation
from server.scorer.fake import FakeClassifier
from server.scorer.remote import connected
from server.scorer.reward_model import RemoteClassifier, RewardModel
from server.settings import Sees
from swires.errors import EngineError, InvalidPlan, ScorerError, SwiresError
from tests.scorer.answers import PROBLEM, QUESTION, captions
from tests.scorer.loopback import Json, loopback, ok


class Noted(FakeClassifier):
    """Fails where it is told to."""

    def __init__(self, labels: int = 1, failure: SwiresError | None = None) -> None:
        self.conversations: list[Conversation] = []
        self._labels = labels
        self._failure = failure

    async def classify(self, conversations: Sequence[Conversation]) -> tuple[Classified, ...]:
        self.conversations += conversations
        if self._failure is not None:
            raise self._failure
        return tuple(Classified((0.5,) * self._labels, 10, 4) for _ in conversations)


@pytest.mark.parametrize(
    ("sees", "said"),
    [
        ("answer", "<SUMMARY>I will count.</SUMMARY><CAPTION>Two.</CAPTION>"),
        ("stage", "<CAPTION>Two.</CAPTION>"),
    ],
)
async def test_the_model_reads_the_user_s_messages_and_the_answer(sees: Sees, said: str) -> None:
    classifier = Noted()
    await RewardModel(classifier, sees).measure(PROBLEM, captions("Two."))
    (conversation,) = classifier.conversations
    assert list(conversation) == [QUESTION, {"role": "assistant", "content": [{"type": "text", "text": said}]}]


async def test_what_is_computed_here_is_told() -> None:
    scores = await RewardModel(Noted()).measure(PROBLEM, captions("Two.", "Three."))
    assert (scores.values, scores.num_tokens, scores.num_cached_tokens) == ((0.5, 0.5), 12, 8)


async def test_a_model_of_more_labels_is_refused() -> None:
    for asked in (RewardModel(Noted(3)).check(), RewardModel(Noted(3)).measure(PROBLEM, captions("Two."))):
        with pytest.raises(ScorerError, match="the reward model has 3 labels: one that scores has one"):
            await asked


@pytest.mark.parametrize("failure", [EngineError("broken", dead=True), InvalidPlan("too long", field="messages")])
async def test_what_its_engine_says_is_no_failure_of_the_search_s(failure: SwiresError) -> None:
    with pytest.raises(ScorerError, match=f"the reward model: {failure}"):
        await RewardModel(Noted(failure=failure)).measure(PROBLEM, captions("Two."))


async def test_the_check_shows_an_image() -> None:
    classifier = Noted()
    await RewardModel(classifier).check()
    assert classifier.conversations[0][0] == sample.message()


async def test_a_vllm_server_is_asked_for_logits() -> None:
    def length(body: Json) -> bytes:
        said = body["messages"][-1]["content"][0]["text"]
        return ok({"object": "list", "data": [{"index": 0, "label": None, "probs": [len(said)], "num_classes": 1}]})

    trajectories = captions("Two.", "Twenty.")
    async with loopback(length) as server, connected("reward model", server.url, timeout_s=30) as remote:
        scores = await RewardModel(RemoteClassifier(remote)).measure(PROBLEM, trajectories)
    assert scores.values == tuple(len(trajectory.text) for trajectory in trajectories)
    assert (scores.num_tokens, scores.num_cached_tokens) == (0, 0)
    assert [asked.path for asked in server.asked] == ["/classify"] * 2
    assert all(asked.body["use_activation"] is False for asked in server.asked)
    assert all(asked.body["messages"][0] == QUESTION for asked in server.asked)
