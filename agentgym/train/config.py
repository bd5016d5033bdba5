"""Recipe: everything that decides a training run, read from TOML or JSON, with overrides. Imports no torch."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from agentgym.errors import RecipeError, UnknownNameError

Aggregation = Literal["token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "constant"]
OptimizerName = Literal["adamw", "muon"]


class Section(BaseModel):
    """Part of a recipe; a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RunSection(Section):
    """Attributes: ``name`` and ``out_dir`` make the run's directory; ``seed`` decides tasks, weights and shuffles."""

    name: str = "run"
    out_dir: str = "runs"
    seed: NonNegativeInt = 0


class EnvSection(Section):
    """The environment.

    Attributes:
        id: Gymnasium id.
        split: Split to train on.
        tasks: Train on the first so many tasks of it; all if absent.
        kwargs: Arguments of the environment.
        workers: ``thread``, or ``process``: engines in Python take time from a sampler in the same process.
        processes: Number of worker processes; 0 takes the usable cores but one. Each hosts as many environments as its
            share of ``sampling.concurrency``, and takes their episodes with it if it is lost.
        call_timeout_s: Deadline of one call to a worker process.
    """

    id: str
    split: str = "train"
    tasks: PositiveInt | None = None
    kwargs: dict[str, Any] = {}
    workers: Literal["thread", "process"] = "thread"
    processes: NonNegativeInt = 0
    call_timeout_s: PositiveFloat = 120.0


class LoraSection(Section):
    """Low-rank adapters (peft): ``targets`` are names of linear layers, or ``all-linear``."""

    rank: PositiveInt = 16
    alpha: PositiveFloat = 32.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: list[str] | str = "all-linear"


class TinySection(Section):
    """Size of the model ``tiny``; see :func:`agentgym.train.models.build_tiny`.

    Attributes:
        hidden: Width, a multiple of 64.
        layers: Number of layers.
        kv_heads: Heads of keys and values, which the heads of queries share; 0: each has its own. On a CPU, sampling
            waits for them to be read from memory.
        phrases: Make a token of what many texts say; see
            :func:`agentgym.train.word_tokenizer.build_word_tokenizer`.
        vocabulary_episodes: Random episodes that add words to those of the expert.
    """

    hidden: PositiveInt = 256
    layers: PositiveInt = 4
    kv_heads: NonNegativeInt = 0
    phrases: bool = True
    vocabulary_episodes: NonNegativeInt = 64


class ModelSection(Section):
    """The model.

    Attributes:
        name: ``tiny``, ``smollm2``, a Hugging Face directory, or a name on the hub.
        dtype: ``float32``, or ``bfloat16`` for autocast over float32 master weights; ``auto`` is ``bfloat16`` where
            the processor multiplies in it, and ``float32`` where it would emulate it, several times slower.
        lora: Train adapters; absent: all weights.
        tiny: Size of the model ``tiny``.
        gradient_checkpointing: Compute activations twice to save memory.
    """

    name: str = "tiny"
    dtype: Literal["auto", "float32", "bfloat16"] = "float32"
    lora: LoraSection | None = None
    tiny: TinySection = TinySection()
    gradient_checkpointing: bool = False


class WarmstartSection(Section):
    """Supervised training on expert episodes; none with ``episodes = 0``.

    Attributes:
        episodes: Expert episodes on train tasks.
        env_kwargs: Arguments of the environment that differ from ``env.kwargs`` while the expert plays.
        workers: Where the expert plays: in threads as training does, or one ``process`` per core, which worlds that
            are slow in Python are worth; the environment must then come from an installed pack.
        epochs: Passes over them.
        learning_rate: Its peak; it falls to a tenth in a cosine.
        optimizer: ``adamw``, or ``muon``, which needs fewer steps to train a small model from scratch.
        warmup: Share of the steps in which it rises.
        tokens_per_batch: Tokens of one optimizer step.
        weight_decay: Of the optimizer.
        max_grad_norm: Gradients are scaled down to this norm.
        only_successes: Leave out episodes that the expert lost.
        mistakes: Share of the expert's turns that are slips, from which it goes on: lessons in recovery.
        imitate_mistakes: Learn the slips, too, as from a demonstrator who is not perfect.
        observation_weight: Loss of a token that the environment wrote, where that of an action's is 1. A model made
            from scratch learns to read from it; leave it 0 for one that can.
    """

    episodes: NonNegativeInt = 0
    env_kwargs: dict[str, Any] = {}
    workers: Literal["thread", "process"] = "thread"
    epochs: PositiveInt = 3
    learning_rate: PositiveFloat = 1e-3
    optimizer: OptimizerName = "adamw"
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.05
    tokens_per_batch: PositiveInt = 4096
    weight_decay: NonNegativeFloat = 0.0
    max_grad_norm: PositiveFloat = 1.0
    only_successes: bool = True
    mistakes: Annotated[float, Field(ge=0, lt=1)] = 0.0
    imitate_mistakes: bool = False
    observation_weight: Annotated[float, Field(ge=0, le=1)] = 0.0


class RewardSection(Section):
    """A reward method, ``[[reward]]``: a ``name`` of the entry points ``agentgym.rewards``, and its arguments."""

    name: str
    kwargs: dict[str, Any] = {}


class GrpoSection(Section):
    """Group relative policy optimisation and its relatives.

    Attributes:
        updates: Batches to sample and learn from.
        tasks_per_update: Groups per batch.
        group_size: Episodes per group, at least 2.
        learning_rate: Of AdamW, after ``warmup_updates`` updates of linear rise.
        last_rate: Share of it that is left at the last update; it falls in a straight line. 1: it stays.
        advantage: A name of :mod:`agentgym.train.advantage`, or of the entry points ``agentgym.advantages``.
        advantage_kwargs: Arguments of the estimator.
        aggregation: How token losses become one: ``token_mean`` (DAPO), ``seq_mean_token_mean`` (GRPO),
            ``seq_mean_token_sum``, ``constant`` (Dr.GRPO: sum over episodes times ``constant_length``).
        surrogate: ``clip`` (PPO) or ``cispo``.
        importance: Ratio per ``token``, or per ``sequence`` (GSPO).
        clip_low: Lower clip; the ratio's least useful value is 1 minus this.
        clip_high: Upper clip; larger than ``clip_low`` is DAPO's clip-higher. With ``cispo``, the largest ratio itself.
        dual_clip: Bound of the loss of bad actions, e.g. 3; absent: none.
        kl_coef: Weight of the k3 divergence from the reference, which is the model before GRPO.
        old_logprobs: Denominator of the ratio: what the ``sampler`` reported, or what the ``trainer`` computes.
        tis_cap: Truncated importance sampling: weight trainer over sampler, at most this; needs ``trainer``.
        minibatches: Optimizer steps per pass over a batch.
        epochs: Passes over a batch.
        tokens_per_batch: Tokens in one forward pass; gradients are accumulated over them.
        dynamic_sampling: Replace tied groups by new ones, in at most ``max_rounds`` rounds (DAPO).
        truncated: ``keep`` episodes cut by a limit, or ``mask`` them out of the loss.
        invalid_action_penalty: Taken off the reward of a turn whose text was no move.
        on_policy_every: Updates between two proofs that the sampler has the trainer's weights; 0: at the start only.
        on_policy_tolerance: Largest difference of log-probabilities, in nats.
        log_entropy: Compute the policy's entropy.
    """

    updates: NonNegativeInt = 0
    tasks_per_update: PositiveInt = 8
    group_size: Annotated[int, Field(ge=2)] = 8
    learning_rate: PositiveFloat = 1e-5
    warmup_updates: NonNegativeInt = 0
    last_rate: Annotated[float, Field(ge=0, le=1)] = 1.0
    weight_decay: NonNegativeFloat = 0.0
    max_grad_norm: PositiveFloat = 1.0
    advantage: str = "grpo"
    advantage_kwargs: dict[str, Any] = {}
    aggregation: Aggregation = "token_mean"
    constant_length: PositiveInt = 256
    surrogate: Literal["clip", "cispo"] = "clip"
    importance: Literal["token", "sequence"] = "token"
    clip_low: PositiveFloat = 0.2
    clip_high: PositiveFloat = 0.2
    dual_clip: Annotated[float, Field(gt=1)] | None = None
    kl_coef: NonNegativeFloat = 0.0
    old_logprobs: Literal["sampler", "trainer"] = "sampler"
    tis_cap: PositiveFloat | None = None
    minibatches: PositiveInt = 1
    epochs: PositiveInt = 1
    tokens_per_batch: PositiveInt = 4096
    dynamic_sampling: bool = False
    max_rounds: PositiveInt = 3
    truncated: Literal["keep", "mask"] = "keep"
    invalid_action_penalty: NonNegativeFloat = 0.0
    on_policy_every: NonNegativeInt = 10
    on_policy_tolerance: PositiveFloat = 1e-3
    log_entropy: bool = True

    @model_validator(mode="after")
    def _tis_has_two_policies(self) -> GrpoSection:
        if self.tis_cap is not None and self.old_logprobs == "sampler":
            raise ValueError('tis_cap weighs the trainer against the sampler: set old_logprobs = "trainer" with it')
        return self


class SamplingSection(Section):
    """How episodes are sampled.

    Attributes:
        temperature: Of training episodes; the trainer's log-probabilities are taken at it, too.
        top_p: Nucleus mass; below 1 set ``grpo.old_logprobs = "trainer"``, since the trainer knows no nucleus.
        max_tokens: Most tokens per turn.
        concurrency: Episodes in flight, each with an environment of its own.
        context: Longest episode in tokens.
        engines: vLLM engines that share the episodes out; more than one is for cores that one leaves idle.
        kv_cache_mb: Memory of the key-value cache of each.
        dtype: Of the sampler; the on-policy proof at 1e-3 needs ``float32``.
    """

    temperature: PositiveFloat = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: PositiveInt = 32
    concurrency: PositiveInt = 32
    context: PositiveInt = 2048
    engines: PositiveInt = 1
    kv_cache_mb: PositiveInt = 1024
    dtype: Literal["float32", "bfloat16"] = "float32"


class EvalSection(Section):
    """Evaluation on the same tasks and seeds each time; ``every`` 0: before and after GRPO only."""

    split: str = "valid_unseen"
    episodes: NonNegativeInt = 100
    every: NonNegativeInt = 0
    temperature: NonNegativeFloat = 0.0
    seed: NonNegativeInt = 0


class LogSection(Section):
    """Where figures go besides ``metrics.jsonl``."""

    tensorboard: bool = True
    wandb: bool = False
    wandb_project: str = "agentgym"


class CheckpointSection(Section):
    """``every`` so many updates and after the last; the newest ``keep`` stay."""

    every: PositiveInt = 10
    keep: PositiveInt = 2


class Recipe(Section):
    """A training run; the methods of ``reward`` shape what is learned from, one after the other, never evaluations."""

    run: RunSection = RunSection()
    env: EnvSection
    model: ModelSection = ModelSection()
    warmstart: WarmstartSection = WarmstartSection()
    reward: list[RewardSection] = []
    grpo: GrpoSection = GrpoSection()
    sampling: SamplingSection = SamplingSection()
    eval: EvalSection = EvalSection()
    log: LogSection = LogSection()
    checkpoint: CheckpointSection = CheckpointSection()

    @property
    def run_dir(self) -> Path:
        """Directory of the run."""
        return Path(self.run.out_dir) / self.run.name

    @model_validator(mode="after")
    def _parts_fit(self) -> Recipe:
        if self.sampling.top_p < 1 and self.grpo.updates and self.grpo.old_logprobs == "sampler":
            raise ValueError('with sampling.top_p below 1 set grpo.old_logprobs = "trainer"')
        if self.sampling.context <= self.sampling.max_tokens:
            raise ValueError("sampling.context must be larger than sampling.max_tokens")
        return self


def load_recipe(path: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe from a TOML file, or a resolved one from JSON.

    Args:
        path: The file.
        overrides: Values by dotted key, e.g. ``{"grpo.updates": 40}``.

    Raises:
        RecipeError: The file cannot be read, or a value makes no sense.
        UnknownNameError: There is no such key.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
        data = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise RecipeError(f"cannot read the recipe {file}: {error}") from error
    return parse_recipe(data, overrides, source=str(file))


def parse_recipe(
    data: Mapping[str, Any], overrides: Mapping[str, Any] | None = None, *, source: str = "the recipe"
) -> Recipe:
    """Check a recipe; see :func:`load_recipe`."""
    if not isinstance(data, Mapping):
        raise RecipeError(f"{source} is no table of sections")
    whole: dict[str, Any] = json.loads(json.dumps(data, default=str))
    for key, value in (overrides or {}).items():
        _set(whole, key, value)
    try:
        return Recipe.model_validate(whole)
    except ValidationError as error:
        raise _explain(error, source) from None


def _set(table: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for name in parents:
        inner = table.get(name)
        if not isinstance(inner, dict):
            inner = table[name] = {}
        table = inner
    table[last] = value


def _explain(error: ValidationError, source: str) -> RecipeError | UnknownNameError:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            return UnknownNameError("recipe key", key, _known_beside(key), f"It stands in {source}.")
        message = str(problem["msg"]).removeprefix("Value error, ")
        lines.append(f"{key}: {message}" if key else message)
    return RecipeError(f"{source} cannot be run. " + "; ".join(lines))


def _known_beside(key: str) -> list[str]:
    """Return the keys that may have been meant: those of the same section first, else all."""
    known = [name for name, _ in _keys(Recipe)]
    key = re.sub(r"\.\d+(?=\.)", "", key)  # the place in a list of sections
    parent, _, _ = key.rpartition(".")
    beside = [name for name in known if parent and name.rpartition(".")[0] == parent]
    if beside:
        return beside
    same_end = [name for name in known if name.rpartition(".")[2] == key]  # `seed` for `run.seed`
    return same_end or [*Recipe.model_fields, *known]


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _keys(inner, f"{prefix}{name}.")
        elif inner == list[RewardSection]:
            yield from _keys(RewardSection, f"{prefix}{name}.")
        elif inner == LoraSection | None:
            yield from _keys(LoraSection, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field
