"""TRL's side of ``benchmarks/grpo_update.py``: one GRPOTrainer, one optimizer step per line on standard input.

Run by the benchmark with the interpreter of TRL's own environment; nothing of agentgym is imported. The first argument
is a JSON object with the keys that are read below; its ``options`` are fields of GRPOConfig that replace ours. Every
answer is a line of JSON; ``{}`` says that the model is there.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import zlib
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer


def reward(completions: list[str], **_: Any) -> list[float]:
    return [zlib.crc32(text.strip().encode()) / 2**32 for text in completions]


class TimedTrainer(GRPOTrainer):
    """Takes prompts that are token ids already, times its sampling and counts its tokens."""

    sample_s = 0.0
    sampled_tokens = 0

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [json.loads(prompt) for prompt in prompts], None, {}

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        started_s = time.perf_counter()
        completion_ids, logprobs = super()._generate_single_turn(*args, **kwargs)
        self.sample_s = time.perf_counter() - started_s
        self.sampled_tokens = sum(map(len, completion_ids))
        return completion_ids, logprobs


class OnDemand(TrainerCallback):
    """Waits for a line before each optimizer step, and answers after it."""

    def __init__(self, answers: Any) -> None:
        self.answers = answers
        self.trainer: TimedTrainer | None = None
        self.used_s = 0.0

    def say(self, message: dict[str, float]) -> None:
        """Answer."""
        print(json.dumps(message), file=self.answers, flush=True)

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Say that the model is there."""
        self.say({})

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Wait."""
        if not sys.stdin.readline():
            raise SystemExit
        self.used_s = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Say what the step took."""
        assert self.trainer is not None
        self.say(
            {
                "sample_s": self.trainer.sample_s,
                "cpu_s": time.process_time() - self.used_s,
                "sampled_tokens": self.trainer.sampled_tokens,
            }
        )


def main(wanted: dict[str, Any]) -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer
    torch.set_num_threads(wanted["threads"])
    rows = len(wanted["prompts"]) * wanted["group_size"]
    fields = {
        "output_dir": tempfile.mkdtemp(),
        "use_cpu": True,
        "bf16": wanted["dtype"] == "bfloat16",
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "per_device_train_batch_size": wanted["micro_batch"],
        "gradient_accumulation_steps": rows // wanted["micro_batch"],
        "num_generations": wanted["group_size"],
        "max_completion_length": wanted["answer_tokens"],
        "generation_kwargs": {"min_new_tokens": wanted["answer_tokens"]},
        "learning_rate": wanted["learning_rate"],
        "lr_scheduler_type": "constant",
        "beta": 0.0,
        "max_steps": 10_000,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    on_demand = OnDemand(answers)
    trainer = TimedTrainer(
        model=AutoModelForCausalLM.from_pretrained(wanted["model"], dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(wanted["model"]),
        reward_funcs=reward,
        args=GRPOConfig(**{**fields, **wanted["options"]}),
        train_dataset=Dataset.from_dict({"prompt": [json.dumps(ids) for ids in wanted["prompts"]]}),
        callbacks=[on_demand],
    )
    on_demand.trainer = trainer
    trainer.train()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
