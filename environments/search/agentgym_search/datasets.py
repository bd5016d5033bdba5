"""Questions of HotpotQA, 2WikiMultihopQA, MuSiQue and the like, from the files that their authors publish.

Layouts: a JSON list, or one JSON object a line. HotpotQA (Yang et al., 2018, arXiv:1809.09600) and 2WikiMultihopQA (Ho
et al., 2020, arXiv:2011.01060): ``context`` and ``supporting_facts``. MuSiQue (Trivedi et al., 2022, arXiv:2108.00573):
``paragraphs`` and ``question_decomposition``. Files with ``question`` (or ``Question``) and ``answer`` alone need a
corpus.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, Field, ValidationError, field_validator

from agentgym.errors import UsageError
from agentgym_search.index import PassageIndex
from agentgym_search.passages import Passage
from agentgym_search.question import Hop, Question

_LOCK = threading.RLock()  # many environments of one process start at once, and wait for one to read the file
_OPENING_WORDS = 48  # of a passage, for an expert whose search for the title found others of that name


class DataFileError(UsageError):
    """A file of questions or passages that cannot be read; the message names the place."""


class ParagraphRow(BaseModel):
    """A paragraph as MuSiQue writes it, or with its sentences apart."""

    title: str
    text: str | None = Field(None, validation_alias=AliasChoices("text", "paragraph_text"))
    sentences: list[str] | None = None
    is_supporting: bool | None = None

    def as_passage(self) -> Passage:
        """Return title and text, or raise ``ValueError`` if there is no text."""
        if self.text is None and self.sentences is None:
            raise ValueError(f"paragraph {self.title!r} has neither text nor sentences")
        return _passage(self.title, [self.text] if self.text is not None else self.sentences or [])


class StepRow(BaseModel):
    """A sub-question of MuSiQue."""

    question: str
    paragraph_support_idx: int | None = None


class QuestionRow(BaseModel):
    """A question in any of the layouts; what is not read here is left aside."""

    id: str = Field(validation_alias=AliasChoices("_id", "id"))
    question: str = Field(validation_alias=AliasChoices("question", "Question"), min_length=1)
    answer: list[str]
    answer_aliases: list[str] = []
    kind: str = Field("", validation_alias=AliasChoices("type", "source"))
    context: list[tuple[str, list[str]]] | None = None
    paragraphs: list[ParagraphRow] | None = None
    supporting_facts: list[tuple[str, int]] = []
    question_decomposition: list[StepRow] = []
    answerable: bool = True

    @field_validator("answer", mode="before")
    @classmethod
    def _listed(cls, answer: Any) -> Any:
        return [answer] if isinstance(answer, str) else answer

    @field_validator("answer")
    @classmethod
    def _said(cls, answer: list[str]) -> list[str]:
        if not any(text.strip() for text in answer):
            raise ValueError("there is no answer; a test set without answers cannot be graded")
        return answer

    def passages(self) -> list[Passage]:
        """Return its own paragraphs."""
        own = [_passage(title, sentences) for title, sentences in self.context or []]
        return own + [paragraph.as_passage() for paragraph in self.paragraphs or []]


@dataclass(frozen=True)
class Split:
    """The questions of one file by their ids, where each stands, and what they are answered from."""

    questions: Mapping[str, Question]
    positions: Mapping[str, int]
    index: PassageIndex


class FileLibrary:
    """Questions from files, each file a split of its own, named after it; its corpus is the union of its paragraphs.

    Args:
        data: A file, or a folder whose ``.json`` and ``.jsonl`` files are read.
        corpus: A file of passages with ``title`` and ``text``, which are added to every split's corpus.

    Raises:
        DataFileError: There is no such file, or none in the folder; files are read when their split is first used.
    """

    def __init__(self, data: str | Path, corpus: str | Path | None = None) -> None:
        root = Path(data).expanduser()
        self._corpus = Path(corpus).expanduser().resolve() if corpus is not None else None
        found = [root] if root.is_file() else sorted([*root.glob("*.json"), *root.glob("*.jsonl")])
        self._files = {path.stem: path.resolve() for path in found if path.resolve() != self._corpus}
        if not self._files:
            raise DataFileError(f"{root} is no file of questions, and no folder with .json or .jsonl files")
        self.splits = tuple(self._files)

    def ids(self, split: str) -> Sequence[str]:
        """Return the ids of a split in the file's order."""
        return list(self._read(split).questions)

    def position(self, split: str, question_id: str) -> int:
        """Return where an id stands.

        Raises:
            KeyError: The split has no such id.
        """
        return self._read(split).positions[question_id]

    def question(self, split: str, question_id: str) -> Question:
        """Return the question with an id that the split has."""
        return self._read(split).questions[question_id]

    def index(self, split: str, question_id: str = "") -> PassageIndex:
        """Return the index over the split's paragraphs and the corpus, the same for all its questions."""
        return self._read(split).index

    def _read(self, split: str) -> Split:
        path = self._files[split]
        with _LOCK:
            return _read_split(path, _stamp(path), self._corpus, _stamp(self._corpus))


@lru_cache(maxsize=8)
def _read_split(path: Path, _: object, corpus: Path | None, __: object) -> Split:
    """Read a file and its corpus; the stamps tell a changed file from the one that was read before."""
    rows = list(_rows(path))
    passages = [passage for row in rows for passage in row.passages()]
    passages += read_corpus(corpus) if corpus is not None else []
    if not passages:
        raise DataFileError(f"{path} has questions without paragraphs: give a file of passages as corpus=")
    index = PassageIndex(list(dict.fromkeys(passages)))
    questions: dict[str, Question] = {}
    for number, row in enumerate(rows, start=1):
        if row.id in questions:
            raise DataFileError(f"{path}: row {number} has the id {row.id!r} of an earlier one")
        questions[row.id] = _question(row, index, f"{path}: row {number}")
    return Split(questions, {question_id: place for place, question_id in enumerate(questions)}, index)


def read_corpus(path: Path) -> list[Passage]:
    """Read passages.

    Raises:
        DataFileError: The file cannot be read, or a row is no passage.
    """
    passages = []
    for where, row in _objects(path):
        try:
            passages.append(ParagraphRow.model_validate(row).as_passage())
        except ValueError as error:
            raise DataFileError(f"{where} is no passage with title and text: {_reason(error)}") from None
    return passages


def _rows(path: Path) -> Iterator[QuestionRow]:
    empty = True
    for where, content in _objects(path):
        try:
            row = QuestionRow.model_validate(content)
            row.passages()
        except ValueError as error:
            raise DataFileError(f"{where} is no question of a known layout: {_reason(error)}") from None
        if row.answerable:  # MuSiQue-Full has doubles of its questions whose answer was taken away
            empty = False
            yield row
    if empty:
        raise DataFileError(f"{path} has no question that can be answered")


def _objects(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the objects of a JSON list, or of JSON lines, each with its place for an error."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataFileError(f"cannot read {path}: {error}") from error
    if text.lstrip().startswith("["):
        try:
            listed = json.loads(text)
        except ValueError as error:
            raise DataFileError(f"{path} is torn or no JSON: {error}") from error
        yield from ((f"{path}: row {number}", row) for number, row in enumerate(listed, start=1))
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield f"{path}: line {number}", json.loads(line)
            except ValueError as error:
                raise DataFileError(f"{path}: line {number} is torn or no JSON: {error}") from error


def _question(row: QuestionRow, index: PassageIndex, where: str) -> Question:
    kind = row.id.partition("__")[0] if row.question_decomposition else row.kind
    answers = tuple(dict.fromkeys(text for text in (*row.answer, *row.answer_aliases) if text.strip()))
    hops = tuple(_hop(passage) for passage in _supporting(row, index, where))
    return Question(row.id, kind or "question", _line(row.question), answers, hops)


def _hop(passage: Passage) -> Hop:
    opening = " ".join(passage.text.split()[:_OPENING_WORDS])
    return Hop((passage.title, f"{passage.title} {opening}"), passage, f"look up {passage.title}")


def _supporting(row: QuestionRow, index: PassageIndex, where: str) -> list[Passage]:
    """Return the passages that a question rests on, in the order of its steps where it says so."""
    paragraphs = row.paragraphs or []
    steps = [step.paragraph_support_idx for step in row.question_decomposition]
    if steps and all(step is not None and 0 <= step < len(paragraphs) for step in steps):
        marked = [paragraphs[step].as_passage() for step in steps if step is not None]
    else:
        marked = [paragraph.as_passage() for paragraph in paragraphs if paragraph.is_supporting]
    if not marked:
        own: dict[str, Passage] = {}
        for passage in row.passages():
            own.setdefault(passage.title, passage)
        for title, _ in row.supporting_facts:
            try:
                marked.append(own.get(_line(title)) or index.find(_line(title)))
            except KeyError:
                raise DataFileError(
                    f"{where} rests on {title!r}, which is among no paragraphs: give a file of passages as corpus="
                ) from None
    return list(dict.fromkeys(marked))


def _passage(title: str, sentences: Sequence[str]) -> Passage:
    return Passage(_line(title), _line(" ".join(sentences)))


def _line(text: str) -> str:
    return " ".join(text.split())


def _stamp(path: Path | None) -> tuple[int, int] | None:
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError as error:
        raise DataFileError(f"cannot read {path}: {error}") from error
    return status.st_mtime_ns, status.st_size


def _reason(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors()[:3])
