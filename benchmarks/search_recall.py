"""How well the search pack's corpora can be searched: recall of the supporting passages, and the expert's score.

``python benchmarks/search_recall.py [FILE or FOLDER …]`` measures files of questions; generated ones always.
"""

from __future__ import annotations

import statistics
import sys
import time

from agentgym_search.search_qa import SearchQAEnv

QUESTIONS = 300
CUTS = (2, 5, 10)


def measure(env: SearchQAEnv, split: str) -> str:
    """Return one row of the table: the question itself is the query, and the expert plays."""
    library = env.library
    index = library.index(split)
    recalls: dict[int, list[float]] = {cut: [] for cut in CUTS}
    scores: list[float] = []
    for task in env.task_set(split)[:QUESTIONS]:
        question = library.question(split, task.id)
        wanted = {index.number_of(hop.passage) for hop in question.hops}
        for cut in CUTS if wanted else ():
            recalls[cut].append(len(wanted & set(index.search(question.text, cut))) / len(wanted))
        scores.append(task.validate().episode_return)
    found = [f"{statistics.fmean(recalls[cut]):.2f}" if recalls[cut] else "-" for cut in CUTS]
    return f"| {split} | {len(scores)} | {len(index.passages)} | {' | '.join(found)} | {statistics.fmean(scores):.3f} |"


def main() -> None:
    """Print the table."""
    print(f"| split | questions | passages | {' | '.join(f'recall@{cut}' for cut in CUTS)} | expert's F1 |")
    print("|---" * (len(CUTS) + 4) + "|")
    started_s = time.perf_counter()
    for env in (SearchQAEnv(), *(SearchQAEnv(data=path) for path in sys.argv[1:])):
        for split in env.splits:
            print(measure(env, split), flush=True)
    print(f"\n{time.perf_counter() - started_s:.1f} s, the building of the indices included")


if __name__ == "__main__":
    main()
