"""Models by name, and what happens with names and directories that are no good."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from agentgym.errors import ModelError
from agentgym.train.config import TinySection
from agentgym.train.models import build_tiny, check_model_dir, resolve_model
from agentgym.train.word_tokenizer import SPECIAL_TOKENS, build_word_tokenizer, find_phrases, split_words

TEXTS = [
    "You are in the middle of a room. Looking quickly around you, you see a cabinet 1, a countertop 2.\n"
    "Your task is to: put a cool apple in countertop.",
    "go to countertop 2",
    "move mug 1 to desk 2",
    "put mug 1 in/on desk 2",
    "-= Kitchen =-\nYou've entered a kitchen.",
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny(TEXTS, tmp_path_factory.mktemp("models") / "tiny", TinySection(hidden=64, layers=1))


@pytest.mark.parametrize("text", [*TEXTS, "go to cabinet 37", "a\n\n in  the\n", ""])
def test_word_tokenizer_gives_texts_back_to_the_letter(text: str) -> None:
    tokenizer = build_word_tokenizer(TEXTS)
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def tokens_of(tokenizer: Any, text: str) -> list[str]:
    tokens: list[str] = tokenizer.convert_ids_to_tokens(tokenizer.encode(text, add_special_tokens=False))
    return tokens


def test_words_marks_and_numbered_names_are_one_token_each() -> None:
    assert split_words("put mug 1 in/on desk 22.\nOh") == [
        "▁put",
        "▁mug▁1",
        "▁in",
        "/",
        "on",
        "▁desk▁22",
        ".",
        "\n",
        "▁Oh",
    ]
    assert tokens_of(build_word_tokenizer(TEXTS), "go to desk 2") == ["▁go", "▁to", "▁desk▁2"]


def test_names_that_were_not_seen_are_a_word_and_a_number_and_other_words_are_spelt() -> None:
    tokenizer = build_word_tokenizer(TEXTS)
    assert tokens_of(tokenizer, "move cabinet 37") == ["▁move", "▁cabinet", "▁37"]
    assert tokens_of(tokenizer, "go Zü 2") == ["▁go", "▁", "Z", tokenizer.unk_token, "▁2"]


def test_what_many_texts_say_is_a_phrase_and_names_never_are_part_of_one() -> None:
    texts = [f"You arrive at desk {n}. On the desk {n}, you see a mug {n}." for n in range(1, 6)]
    assert "▁You▁arrive▁at" in find_phrases(map(split_words, texts))
    assert tokens_of(build_word_tokenizer(texts), texts[0]) == [
        "▁You▁arrive▁at", "▁desk▁1", ".▁On▁the", "▁desk▁1", ",▁you▁see▁a", "▁mug▁1", ".",
    ]  # fmt: skip
    assert tokens_of(build_word_tokenizer(texts, phrases=False), texts[0])[:4] == ["▁You", "▁arrive", "▁at", "▁desk▁1"]
    assert find_phrases(map(split_words, [*texts, *map(str, range(100))])) == []  # five of 105 are not many


def test_special_tokens_cannot_be_written() -> None:
    tokenizer = build_word_tokenizer(TEXTS)
    ids = tokenizer.encode("go <act> <eot>", add_special_tokens=False, split_special_tokens=True)
    assert not set(ids) & {tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}


def test_tiny_is_whole_and_the_same_for_the_same_seed(tiny: Path, tmp_path: Path) -> None:
    assert resolve_model(tiny) == tiny
    weights = (tiny / "model.safetensors").read_bytes()
    again = build_tiny(TEXTS, tmp_path / "again", TinySection(hidden=64, layers=1))
    assert (again / "model.safetensors").read_bytes() == weights
    other = build_tiny(TEXTS, tmp_path / "other", TinySection(hidden=64, layers=1), seed=1)
    assert (other / "model.safetensors").read_bytes() != weights
    assert (other / "tokenizer.json").read_text() == (tiny / "tokenizer.json").read_text()


@pytest.mark.parametrize("kv_heads", [0, 1])
def test_attention_of_a_new_tiny_prefers_what_is_alike(tmp_path: Path, kv_heads: int) -> None:
    folder = build_tiny(TEXTS, tmp_path / "tiny", TinySection(hidden=128, layers=1, kv_heads=kv_heads))
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    words = torch.randperm(model.config.vocab_size, generator=torch.Generator().manual_seed(0))[None, :40]
    words[0, 10] = words[0, -1]
    with torch.no_grad():
        weights = model(words, output_attentions=True).attentions[0][0, :, -1, :-1]
    assert weights[0].argmax() == 10
    assert not torch.allclose(weights[0], weights[1])  # heads that share keys must not be one head


def test_tiny_refuses_to_overwrite_and_odd_widths(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="exists"):
        build_tiny(TEXTS, tiny)
    with pytest.raises(ModelError, match="multiple of 64"):
        build_tiny(TEXTS, tmp_path / "odd", TinySection(hidden=100))
    with pytest.raises(ModelError, match="kv_heads must divide the 2 heads"):
        build_tiny(TEXTS, tmp_path / "odd", TinySection(hidden=128, kv_heads=3))


def test_a_failed_build_leaves_nothing_behind(tmp_path: Path) -> None:
    def texts() -> list[str]:
        raise RuntimeError("no texts")

    with pytest.raises(RuntimeError):
        build_tiny((text for text in texts()), tmp_path / "tiny")
    assert list(tmp_path.iterdir()) == []


def test_smollm2_is_converted_once_and_talks_chatml() -> None:
    from transformers import AutoConfig, AutoTokenizer

    path = resolve_model("smollm2")
    assert resolve_model("smollm2") == path
    assert "quantization_config" not in json.loads((path / "config.json").read_text())
    assert AutoConfig.from_pretrained(path).num_hidden_layers == 30
    tokenizer = AutoTokenizer.from_pretrained(path)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert "<|im_start|>user\nhi<|im_end|>" in text
    assert tokenizer.eos_token == "<|im_end|>"


@pytest.mark.parametrize(
    ("name", "says"), [("./nowhere", "no model at"), ("smolm2", "no model at"), ("tiny", "trainer makes it")]
)
def test_unknown_models_are_named(name: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        resolve_model(name)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("config.json", None, "no config.json"),
        ("config.json", b'{"model', "cannot be read"),
        ("model.safetensors", None, "no weights"),
        ("model.safetensors", b"", "missing or empty"),
        ("model.safetensors", b"torn", "is torn"),
        ("tokenizer.json", None, "no tokenizer"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "model-2.safetensors"}}', "missing or empty"),
        ("model.safetensors.index.json", b"{}", "cannot be read"),
    ],
)
def test_half_written_directories_are_refused(
    tiny: Path, tmp_path: Path, file: str, content: bytes | None, says: str
) -> None:
    for source in tiny.iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    check_model_dir(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(ModelError, match=says):
        resolve_model(tmp_path)


def test_weights_cut_in_the_middle_are_refused(tiny: Path, tmp_path: Path) -> None:
    for source in tiny.iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="is torn"):
        resolve_model(tmp_path)
