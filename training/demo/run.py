"""The recipe of the embedded checkpoint: learn to see, learn the stages and to notice slips in them, then learn to
judge one's own.

After the vision tower has learned to name what stands where, the language model learns the tasks, half of the scenes
told with slips, and after each stage "+" or "-" by whether it is true. Later, in rounds, the model answers new scenes
at about the temperature of the search, and the verdicts on those are learned beside, in the same weights.
"""

import copy
import itertools
import json
import math
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from swires.stages import Stage
from training.demo.collate import Batch, Collator, Judged, pixels
from training.demo.model import export, make_model, make_tokenizer
from training.demo.sight import learn_to_see
from training.tasks.easy_vqa import easy_vqa_examples
from training.tasks.example import Example, write_questions
from training.tasks.scenes import MAX_OBJECTS, scenes

GENERATE_BATCH = 256
MAX_ANSWER = 320
EVALUATION_SEED, CALIBRATION_SEED = 10_000_019, 20_000_003
CALIBRATION_QUESTIONS = 200


@dataclass(frozen=True)
class Recipe:
    """Steps are optimizer steps. The stream of batches depends on `seed` and the step alone, so a run can resume."""

    seed: int = 0
    sight_steps: int = 1000
    sight_batch: int = 64
    sight_lr: float = 2e-3
    steps: int = 4000
    judging_from: int = 2400
    rounds: int = 2
    round_scenes: int = 512
    samples_per_scene: int = 2
    batch: int = 32
    judged_share: float = 0.3
    peak_lr: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.05
    curriculum: int = 400
    easy_vqa_share: float = 0.2
    temperature: float = 0.7
    save_every: int = 125
    evaluate_every: int = 500
    compile: bool = True

    @property
    def round_steps(self) -> int:
        return (self.steps - self.judging_from) // self.rounds


def make_optimizers(model: torch.nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices, which learn faster by it (https://kellerjordan.github.io/posts/muon/), with steps of the
    size that AdamW, for all else, takes at the same learning rate (arXiv 2502.16982, section 2.2)."""
    named = list(model.named_parameters())
    matrices = [weight for name, weight in named if weight.ndim == 2 and "embed" not in name]
    others = [weight for name, weight in named if weight.ndim != 2 or "embed" in name]
    decay = recipe.weight_decay
    return [
        torch.optim.Muon(matrices, recipe.peak_lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, recipe.peak_lr, betas=(0.9, 0.98), weight_decay=decay, fused=True),
    ]


class DemoRun:
    """A training run in `folder`, begun or gone on with."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.folder, self.recipe = folder, recipe
        self.easy = [example for example in easy_vqa_examples("train") if len(example.stages) == 4]
        self.tokenizer = self._tokenizer()
        self.collate = Collator(self.tokenizer)
        torch.manual_seed(recipe.seed)
        self.model = make_model(self.tokenizer)
        self.model.set_attn_implementation("eager")  # the fused kernel's backward is three times slower on a CPU
        self.optimizers = make_optimizers(self.model.model.text_model, recipe)
        torch._dynamo.config.recompile_limit = 64  # a shape for each of LENGTHS, with and without judged ones
        self._loss = torch.compile(self._eager_loss, dynamic=False) if recipe.compile else self._eager_loss
        self.judged: list[list[Judged]] = []  # by round
        self.step = 0

    def run(self) -> None:
        if not self._resume():
            self._see()
        self.model.model.vision_model.requires_grad_(False)
        self.model.model.connector.requires_grad_(False)
        with tqdm(total=self.recipe.steps, initial=self.step, unit="step", mininterval=10) as bar:
            for examples in self._batches():
                bar.set_postfix(loss=f"{self._train(examples):.3f}")
                bar.update()
                if self.step % self.recipe.evaluate_every == 0:
                    tqdm.write(json.dumps(self._evaluate()))
                if self.step % self.recipe.save_every == 0 or self.step == self.recipe.steps:
                    self._save()

    def _see(self) -> None:
        recipe = self.recipe
        learn_to_see(
            self.model,
            self._mixed,
            seed=recipe.seed,
            steps=recipe.sight_steps,
            batch=recipe.sight_batch,
            peak_lr=recipe.sight_lr,
        )
        self._save()

    def _mixed(self, rng: random.Random, count: int) -> list[Example]:
        stream = self._scenes(rng, self.recipe.curriculum)
        return [
            rng.choice(self.easy) if rng.random() < self.recipe.easy_vqa_share else next(stream) for _ in range(count)
        ]

    def _batches(self) -> Iterator[list[Example]]:
        """From the current step on: scenes of like length, easy-VQA spread evenly among them."""
        batch, per_chunk = self.recipe.batch, 16
        num_easy = round(self.recipe.easy_vqa_share * batch)
        num_scenes = batch - num_easy
        for number in itertools.count(self.step // per_chunk):
            rng = random.Random(f"demo {self.recipe.seed} {number}")
            stream = self._scenes(rng, number * per_chunk)
            drawn = sorted(itertools.islice(stream, per_chunk * num_scenes), key=self.collate.length)
            batches = [
                [*drawn[at * num_scenes : (at + 1) * num_scenes], *rng.choices(self.easy, k=num_easy)]
                for at in range(per_chunk)
            ]
            for examples in batches:
                rng.shuffle(examples)
            rng.shuffle(batches)
            for examples in batches[max(0, self.step - number * per_chunk) :]:
                if self.step == self.recipe.steps:
                    return
                yield examples

    def _scenes(self, rng: random.Random, step: int) -> Iterator[Example]:
        """Growing in objects and questions with the step."""
        grown = min(1.0, (step + 1) / self.recipe.curriculum)
        objects, steps = (1, 2 + round(grown * (MAX_OBJECTS - 2))), (1, 1 + round(grown * 2))
        return scenes(rng.getrandbits(62), objects=objects, steps=steps)

    def _train(self, examples: list[Example]) -> float:
        judged = self._judged_batch(examples)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self._lr()
        self.model.train()
        rng = random.Random(f"wrong {self.recipe.seed} {self.step}")
        loss = self._backward(self.collate(examples[len(judged) :], judged, rng=rng))
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        return loss

    def _backward(self, batch: Batch) -> float:
        loss = self._loss(
            batch.input_ids, batch.position_ids, batch.mask, batch.pixel_values, batch.targets, batch.weights
        )
        loss.backward()
        return float(loss.detach())

    def _eager_loss(
        self, ids: Tensor, positions: Tensor, mask: Tensor, pixel_values: Tensor, targets: Tensor, weights: Tensor
    ) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = self.model(input_ids=ids, position_ids=positions, attention_mask=mask, pixel_values=pixel_values)
        losses = torch.nn.functional.cross_entropy(
            output.logits.float().flatten(0, 1), targets.flatten(), reduction="none"
        )
        return (losses * weights.flatten()).sum()

    def _lr(self) -> float:
        recipe = self.recipe
        cosine = 0.5 * (1 + math.cos(math.pi * self.step / recipe.steps))
        return recipe.peak_lr * min(1.0, (self.step + 1) / recipe.warmup) * (0.02 + 0.98 * cosine)

    def _judged_batch(self, examples: list[Example]) -> list[Judged]:
        """For a share of the batch, of a length like the rest's, about half of them with a fault somewhere; none before
        `judging_from`."""
        since = self.step - self.recipe.judging_from
        if since < 0:
            return []
        while len(self.judged) <= since // self.recipe.round_steps:
            self.judged.append(self._sample(len(self.judged)))
            self._save()
        judged = list(itertools.chain(*self.judged))
        rng = random.Random(f"judged {self.recipe.seed} {self.step}")
        flawless = [all(right for _, right in one.verdicts) for one in judged]
        weights = [1 / flawless.count(right) for right in flawless]
        drawn = rng.choices(judged, weights, k=4 * len(examples))
        length = max(map(self.collate.length, examples))
        drawn.sort(key=lambda one: abs(self.collate.length(one.example) - length))
        return drawn[: round(self.recipe.judged_share * len(examples))]

    def _sample(self, number: int) -> list[Judged]:
        stream = scenes(random.Random(f"round {self.recipe.seed} {number}").getrandbits(62), objects=(2, MAX_OBJECTS))
        drawn = itertools.islice(stream, self.recipe.round_scenes)
        examples = [example for example in drawn for _ in range(self.recipe.samples_per_scene)]
        answers = self.answer(examples, temperature=self.recipe.temperature, seed=number, what="sampling")
        judged = [self.collate.judge(example, ids) for example, ids in zip(examples, answers, strict=True)]
        return [one for one in judged if len(one.verdicts) == len(Stage) and self.collate.fits(one)]

    @torch.no_grad()
    def answer(
        self, examples: Sequence[Example], *, temperature: float = 0.0, seed: int = 0, what: str
    ) -> list[list[int]]:
        """Sampled (or, at temperature 0, the likeliest) transcripts as ids, without the end token."""
        torch.manual_seed(seed)
        model = copy.deepcopy(self.model).bfloat16().eval()
        model.set_attn_implementation("sdpa")
        end, pad = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        answers = []
        for at in tqdm(range(0, len(examples), GENERATE_BATCH), desc=what, leave=False):
            some = examples[at : at + GENERATE_BATCH]
            prompts = [self.collate.prompt(example.question) for example in some]
            longest = max(map(len, prompts))
            ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts])
            sampling = (
                {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
            )
            output = model.generate(
                input_ids=ids,
                attention_mask=(ids != pad).long(),
                pixel_values=torch.stack([pixels(example.image) for example in some])[:, None].bfloat16(),
                max_new_tokens=MAX_ANSWER,
                cache_implementation="static",  # the default one copies every key at every step
                disable_compile=True,
                eos_token_id=end,
                pad_token_id=pad,
                **sampling,
            )
            answers += [[int(token) for token in row if token not in (end, pad)] for row in output[:, longest:]]
        return answers

    def _evaluate(self) -> dict[str, float]:
        """Stages right to the last word on scenes that are drawn for this alone, and easy-VQA's training answers."""
        examples = list(itertools.islice(scenes(EVALUATION_SEED), 128))
        verdicts = [
            {end_of: right for end_of, (_, right) in enumerate(self.collate.judge(example, ids).verdicts)}
            for example, ids in zip(examples, self.answer(examples, what="evaluating"), strict=True)
        ]
        easy = self.easy[:128]
        shares = {
            name: sum(one.get(number, False) for one in verdicts) / len(examples) for number, name in enumerate(NAMES)
        }
        right = [
            self.collate.judge(example, ids).verdicts[-1:]
            for example, ids in zip(easy, self.answer(easy, what="easy"), strict=True)
        ]
        row = {
            "step": self.step,
            **shares,
            "easy_vqa": sum(bool(one and one[0][1]) for one in right) / len(easy),
            "time": time.time(),
        }
        with (self.folder / "history.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        return row

    def _tokenizer(self) -> PreTrainedTokenizerFast:
        some = itertools.islice(scenes(self.recipe.seed), 4000)
        return make_tokenizer(
            text for example in [*some, *self.easy[:10_000]] for text in (example.question, *example.stages.values())
        )

    def export(self, folder: Path) -> None:
        """Write the checkpoint, the questions to calibrate it on, and the recipe and the history that made it."""
        export(self.model, self.tokenizer, folder)
        write_questions(itertools.islice(scenes(CALIBRATION_SEED), CALIBRATION_QUESTIONS), folder / "questions.jsonl")
        (folder / "recipe.json").write_text(json.dumps(asdict(self.recipe), indent=2) + "\n")
        if (self.folder / "history.jsonl").exists():
            shutil.copy(self.folder / "history.jsonl", folder)

    def _save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "judged": self.judged,
        }
        torch.save(state, self.folder / "state.new")
        (self.folder / "state.new").rename(self.folder / "state.pt")

    def _resume(self) -> bool:
        """Whether there was a state to go on from."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "state.pt").exists():
            return False
        state = torch.load(self.folder / "state.pt", weights_only=False)
        self.model.load_state_dict(state["model"])
        for optimizer, its_state in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(its_state)
        self.step, self.judged = state["step"], state["judged"]
        return True


NAMES = ("summary", "caption", "reasoning", "answer")
