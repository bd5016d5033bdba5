"""Files of HotpotQA, 2WikiMultihopQA and MuSiQue, written in their layouts and real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentgym.errors import UnknownNameError, UsageError
from agentgym_search.datasets import DataFileError, FileLibrary
from agentgym_search.search_qa import SearchQAEnv

REAL = Path(__file__).parents[4] / "shared" / "data"
needs_real = pytest.mark.skipif(
    not (REAL / "qa_multihop").is_dir(), reason="the real questions are not in ../shared/data"
)

LAKE = ["Lake Zorn is a lake in Upper Vexin.", " It was surveyed by Ida Brandl."]
IDA = ["Ida Brandl was a surveyor.", " She was born in Quillport."]
HOTPOT: dict[str, Any] = {
    "_id": "h1",
    "question": "Where was the surveyor of  Lake Zorn born?",
    "answer": "Quillport",
    "type": "bridge",
    "level": "hard",
    "supporting_facts": [["Lake Zorn", 1], ["Ida Brandl", 1], ["Lake Zorn", 0]],
    "context": [["Ida Brandl", IDA], ["Quillport", ["Quillport is a harbour."]], ["Lake Zorn", LAKE]],
}
MUSIQUE: dict[str, Any] = {
    "id": "2hop__7_9",
    "question": "Where was the surveyor of Lake Zorn born?",
    "answer": "Quillport",
    "answer_aliases": ["Port Quill", "Quillport"],
    "answerable": True,
    "paragraphs": [
        {"idx": 0, "title": "Ida Brandl", "paragraph_text": " ".join(IDA), "is_supporting": True},
        {"idx": 1, "title": "Lake Zorn", "paragraph_text": "Another lake of that name.", "is_supporting": False},
        {"idx": 2, "title": "Lake Zorn", "paragraph_text": "".join(LAKE), "is_supporting": True},
    ],
    "question_decomposition": [
        {"id": 7, "question": "Lake Zorn >> surveyor", "answer": "Ida Brandl", "paragraph_support_idx": 2},
        {"id": 9, "question": "Where was #1 born?", "answer": "Quillport", "paragraph_support_idx": 0},
    ],
}


def write(path: Path, rows: list[Any], lines: bool = False) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) if lines else json.dumps(rows))
    return path


def test_hotpot_layout(tmp_path: Path) -> None:
    other = {**HOTPOT, "_id": "h2", "context": HOTPOT["context"] + [["Vexin", ["Vexin is high."]]]}
    path = write(tmp_path / "hotpot_dev.json", [HOTPOT, other])
    library = FileLibrary(path)
    assert library.splits == ("hotpot_dev",)
    question = library.question("hotpot_dev", "h1")
    assert question.text == "Where was the surveyor of Lake Zorn born?"
    assert question.supporting == ("Lake Zorn", "Ida Brandl")
    assert question.kind == "bridge"
    passages = library.index("hotpot_dev").passages
    assert [p.title for p in passages] == ["Ida Brandl", "Quillport", "Lake Zorn", "Vexin"], "doubles are removed"
    assert passages[2].text == "Lake Zorn is a lake in Upper Vexin. It was surveyed by Ida Brandl."


def test_musique_layout_follows_its_steps(tmp_path: Path) -> None:
    taken = {**MUSIQUE, "id": "2hop__7_9_no", "answerable": False}
    library = FileLibrary(write(tmp_path / "musique_full.jsonl", [MUSIQUE, taken], lines=True))
    assert library.ids("musique_full") == ["2hop__7_9"], "what cannot be answered is left out"
    question = library.question("musique_full", "2hop__7_9")
    assert question.answers == ("Quillport", "Port Quill")
    assert question.kind == "2hop"
    assert [hop.passage.text for hop in question.hops] == ["".join(LAKE), " ".join(p.strip() for p in IDA)]
    env = SearchQAEnv(data=tmp_path / "musique_full.jsonl", top_k=1)
    (task,) = env.task_set("musique_full")
    assert task.validate().solved, "of two passages with one title it finds the one that counts"


def test_each_file_of_a_folder_is_a_split_and_a_corpus_is_none(tmp_path: Path) -> None:
    write(tmp_path / "bare.json", [{"id": "b1", "Question": "Who surveyed Lake Zorn?", "answer": ["Ida Brandl"]}])
    write(tmp_path / "dev.json", [HOTPOT])
    corpus = write(tmp_path / "corpus.jsonl", [{"title": "Lake Zorn", "text": "Surveyed by Ida Brandl."}], lines=True)
    env = SearchQAEnv(data=tmp_path, corpus=corpus)
    assert env.splits == ("bare", "dev")
    observation, info = env.reset(options={"task_id": "b1"})
    assert info["privileged"] == {"answers": ["Ida Brandl"], "supporting": []}
    assert env.expert_move().command == f"search: {observation.removeprefix('Question: ')}"
    assert env.task_set("bare")[0].validate().solved
    assert env.task_set("dev")[0].validate().solved
    with pytest.raises(UnknownNameError, match="bare"):
        env.reset(options={"split": "train"})
    with pytest.raises(UnknownNameError, match="b1"):
        env.reset(options={"task_id": "b2"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"_id": "h1", "question": "Who', "torn"),
        (
            '{"id": "a", "question": "Who?", "answer": "me", "context": [["A", ["b"]]]}\n{"id": "b", "ques',
            "line 2 is torn",
        ),
        ('{"squad": {"version": 2}}', "line 1 is no question of a known layout.*question"),
        ("[1, 2]", "row 1 is no question"),
        ("[]", "no question that can be answered"),
        ("", "no question that can be answered"),
        (json.dumps([{**HOTPOT, "answer": ""}]), "no answer"),
        (json.dumps([HOTPOT, HOTPOT]), "row 2 has the id 'h1'"),
        (json.dumps([{**HOTPOT, "context": None}]), "give a file of passages"),
        (json.dumps([{**HOTPOT, "supporting_facts": [["Atlantis", 0]]}]), "row 1 rests on 'Atlantis'"),
        (json.dumps([{**HOTPOT, "context": [["A", "no list"]]}]), "context"),
        (json.dumps([{**MUSIQUE, "paragraphs": [{"title": "A"}]}]), "neither text nor sentences"),
    ],
)
def test_torn_and_foreign_files_are_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(content)
    with pytest.raises(DataFileError, match=message) as caught:
        FileLibrary(path).ids("rows")
    assert str(path) in str(caught.value)


def test_missing_files_and_arguments_that_contradict(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="no file of questions"):
        FileLibrary(tmp_path / "absent.json")
    (tmp_path / "latin.json").write_bytes(b'[{"id": "\xe9"}]')
    with pytest.raises(DataFileError, match="cannot read"):
        FileLibrary(tmp_path / "latin.json").ids("latin")
    path = write(tmp_path / "dev.json", [HOTPOT])
    with pytest.raises(DataFileError, match="cannot read"):
        FileLibrary(path, tmp_path / "no_corpus.json").ids("dev")
    with pytest.raises(DataFileError, match="row 1 is no passage"):
        FileLibrary(path, write(tmp_path / "c.json", [{"title": "A"}])).ids("dev")
    with pytest.raises(UsageError, match="families"):
        SearchQAEnv(data=path, families=["country_capital"])
    with pytest.raises(UsageError, match="corpus"):
        SearchQAEnv(corpus=path)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "dev.json", [HOTPOT])
    assert FileLibrary(path).ids("dev") == ["h1"]
    write(path, [HOTPOT, {**HOTPOT, "_id": "h2"}])
    assert FileLibrary(path).ids("dev") == ["h1", "h2"]


@needs_real
@pytest.mark.parametrize(
    ("data", "corpus", "sizes"),
    [
        ("qa_multihop", None, {"2wikimultihopqa": 40, "hotpotqa": 40, "musique": 40}),
        ("hotpotqa/hotpotqa_train_100.json", None, {"hotpotqa_train_100": 100}),
        (
            "multihop_questions",
            "multihop_questions/2wikimultihopqa_corpus.json",
            {"2wiki": 253, "bamboogle": 60, "musique": 257},
        ),
    ],
)
def test_expert_finds_its_way_in_real_files(data: str, corpus: str | None, sizes: dict[str, int]) -> None:
    env = SearchQAEnv(data=REAL / data, corpus=None if corpus is None else REAL / corpus)
    assert {split: len(env.task_set(split)) for split in env.splits} == sizes
    for split in env.splits:
        results = [task.validate() for task in env.task_set(split)]
        assert sum(result.solved for result in results) >= 0.97 * len(results), split


@needs_real
def test_searching_for_the_question_finds_half_of_what_supports_it() -> None:
    library = FileLibrary(REAL / "qa_multihop")
    for split in library.splits:
        index, recalls = library.index(split), []
        for question in (library.question(split, task_id) for task_id in library.ids(split)):
            wanted = {index.number_of(hop.passage) for hop in question.hops}
            assert len(wanted) >= 2
            recalls.append(len(wanted & set(index.search(question.text, 5))) / len(wanted))
        assert 0.5 < sum(recalls) / len(recalls) < 0.95, split
