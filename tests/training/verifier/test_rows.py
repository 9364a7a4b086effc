"""Which ids are learned, against what the server asks and what the processor makes of a chat."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from server.checkpoint import VerifierTokens
from server.engine.labels import LabelRead
from server.scorer.verifier import Verifier as ServersVerifier
from swires.stages import Stage
from swires.types import Candidate, Problem, Trajectory
from tests.training import tiny
from tests.training.verifier.judged import QUESTION, answers, labelled, staged, write_task
from training.checkpoint import VERIFIER
from training.collate import IGNORED, Collator
from training.config import ConfigError
from training.verifier.config import Answers
from training.verifier.label import Judged
from training.verifier.problem import open_picture
from training.verifier.rows import RowCollator, Verdicts, verdict_rows, with_answers


class Asked:
    """An engine that notes what the server's verifier asks of it."""

    max_model_len = 1024

    def __init__(self, collate: Collator) -> None:
        self._collate = collate
        self.prefixes: list[tuple[int, ...]] = []
        self.labels: tuple[int, ...] = ()

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._collate.tokenizer.encode(text, add_special_tokens=False))

    async def read_labels(
        self, problem: Problem, prefixes: Sequence[tuple[int, ...]], labels: tuple[int, ...]
    ) -> tuple[LabelRead, ...]:
        self.prefixes, self.labels = list(prefixes), labels
        return tuple(LabelRead((0.0, 0.0), 0, 0) for _ in prefixes)


def trajectory(judged: Judged, engine: Asked) -> Trajectory:
    grown = Trajectory()
    for stage, text in zip(Stage, judged.texts, strict=False):
        grown = grown.then(Candidate(stage, stage, text, engine.encode(text), "stop"))
    return grown


@pytest.fixture(params=tiny.FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A tiny checkpoint of each family; Mllama cannot have the tags as tokens."""
    family: str = request.param
    return tiny.write(family, tmp_path) if family == "mllama" else staged(family, tmp_path)


async def test_what_is_learned_is_what_the_server_asks(folder: Path) -> None:
    collate = Collator(AutoProcessor.from_pretrained(folder))
    engine, judged = Asked(collate), [each for one in labelled() for each in one.judged]
    asked = ServersVerifier(engine, VerifierTokens.model_validate(VERIFIER))
    await asked.measure(Problem(None, 0), [trajectory(each, engine) for each in judged])
    rows = verdict_rows(labelled(), collate, "token").to_list()
    assert [tuple(row["tail"][:-1]) for row in rows] == engine.prefixes
    yes, no = engine.labels
    assert [row["tail"][-1] for row in rows] == [yes, no, yes, no]
    assert all(row["learned"] == [False] * (len(row["tail"]) - 1) + [True] for row in rows)


def test_a_score_reads_the_end_of_the_conversation(folder: Path) -> None:
    processor = AutoProcessor.from_pretrained(folder)
    collate = Collator(processor)
    batch = RowCollator(collate)(verdict_rows(labelled(), collate, "score").to_list())
    judged, verdicts = [(one.problem, each) for one in labelled() for each in one.judged], Verdicts(collate)
    for number, (problem, each) in enumerate(judged):
        question = [{"type": "image"}, {"type": "text", "text": QUESTION}]
        answer = [{"type": "text", "text": "".join(each.texts)}]
        chat = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        text, images = processor.apply_chat_template(chat), [open_picture(problem.image)]
        ids = processor(text=[text], images=images, add_special_tokens=False, return_tensors="pt")["input_ids"][0]
        verdict = verdicts.yes if each.right else verdicts.no
        assert batch["input_ids"][number, : len(ids) + 1].tolist() == [*ids.tolist(), verdict]
        assert (batch["labels"][number] != IGNORED).nonzero().flatten().tolist() == [len(ids)]


def test_a_batch_is_the_prompt_and_what_follows_it(folder: Path) -> None:
    collate = Collator(AutoProcessor.from_pretrained(folder))
    rows = verdict_rows(labelled(), collate, "token").to_list()
    batch = RowCollator(collate)(rows)
    for number, row in enumerate(rows):
        prompt = collate.prompts([open_picture(row["picture"])], [QUESTION])["input_ids"][0].tolist()
        ids = [*prompt, *row["tail"]]
        assert batch["input_ids"][number, : len(ids)].tolist() == ids
        assert batch["attention_mask"][number].tolist() == [1] * len(ids) + [0] * (
            batch["input_ids"].shape[1] - len(ids)
        )
        learned = (batch["labels"][number] != IGNORED).nonzero().flatten().tolist()
        assert learned == [len(ids) - 1]
        assert batch["labels"][number, learned].tolist() == row["tail"][-1:]
    assert batch["judged"].tolist() == [True] * 4


@pytest.mark.filterwarnings("ignore:`hidden_state` is deprecated:FutureWarning")  # transformers' Mllama warns itself
def test_a_row_reads_the_same_alone_and_among_others(folder: Path) -> None:
    collate = Collator(AutoProcessor.from_pretrained(folder))
    model = AutoModelForImageTextToText.from_pretrained(folder)
    rows = verdict_rows(labelled(), collate, "token").to_list()

    def read(some: list[dict[str, object]]) -> torch.Tensor:
        batch = RowCollator(collate)(some)
        del batch["labels"], batch["judged"]
        with torch.inference_mode():
            logits: torch.Tensor = model(**batch).logits
        return logits[torch.arange(len(some)), batch["attention_mask"].sum(dim=1) - 2]

    together = read(rows)
    alone = torch.cat([read([row]) for row in rows])
    assert torch.allclose(together, alone, atol=1e-4)
    assert not torch.allclose(alone[0], alone[2], atol=1e-4)  # the same words about another picture


def test_answers_are_learned_from_their_first_token_to_their_end(tmp_path: Path) -> None:
    collate = Collator(AutoProcessor.from_pretrained(staged("qwen2_5_vl", tmp_path)))
    write_task(tmp_path, tmp_path)
    judged = verdict_rows(labelled(), collate, "token")
    told = dict(override.removeprefix("answers.").split("=") for override in answers(tmp_path))
    mixed = with_answers(
        judged, Answers.model_validate({**told, "share": 0.2}), collate, seed=0, cache=tmp_path / "cache"
    )
    assert mixed["judged"] == [True] * 4 + [False]
    batch = RowCollator(collate)(mixed.to_list())
    labels = batch["labels"][-1]
    said = collate.tokenizer.decode(labels[labels != IGNORED])
    assert said == "".join(f"{stage.opening}red{stage.closing}" for stage in Stage) + "<|im_end|>"
    assert batch["judged"].tolist() == [True] * 4 + [False]


def test_a_verdict_is_one_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collate = Collator(AutoProcessor.from_pretrained(staged("idefics3", tmp_path)))
    verdicts = Verdicts(collate)
    assert collate.tokenizer.convert_ids_to_tokens([*verdicts.ask, verdicts.yes, verdicts.no]) == ["<VERIFY>", "+", "-"]
    monkeypatch.setattr("training.verifier.rows.YES", "?!+")
    with pytest.raises(ConfigError, match=r"makes \d tokens of the verdict '\?!\+'"):
        Verdicts(collate)
