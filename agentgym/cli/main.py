"""Entry point of the command `agentgym`: verbs, exit codes, and errors without tracebacks."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from agentgym import __version__
from agentgym.cli import check, listing, play, sandbox, show, train, view
from agentgym.errors import AgentGymError, UsageError

USER_ERROR = 2
FAILURE = 1
INTERRUPTED = 130

_DESCRIPTION = """\
The gym in which language-model agents are trained.

  agentgym packs                                          which environments are installed
  agentgym check agentgym/TextWorld-v0                    does an environment keep the contract
  agentgym run agentgym/TextWorld-v0 --policy expert --episodes 10 --out expert.jsonl
  agentgym show expert.jsonl                              read an episode turn by turn
  agentgym view expert.jsonl                              watch episodes, with screenshots, in the browser
  agentgym eval agentgym/TextWorld-v0 --policy random --split valid --episodes 100
  agentgym train recipes/household-tiny.toml              train a language model
  agentgym report runs/household-tiny                     its curves as one HTML page
  agentgym probe                                          what the sandboxes hold back on this host
"""
_EPILOG = """\
exit codes: 0 done; 1 something failed (a check, a worker, a disk); 2 what was asked for is not there or makes no
sense; 130 interrupted. `agentgym VERB --help` has an example of each verb.
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of every verb."""
    parser = argparse.ArgumentParser(
        prog="agentgym",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"agentgym {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for group in (listing, check, play, train, show, view, sandbox):
        group.add_verbs(verbs)
    for verb in verbs.choices.values():
        # SUPPRESS, so that a verb that was not given the flag does not undo the one before it.
        verb.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code: what the console script calls."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what a model says need not fit the terminal's encoding
    warnings.showwarning = _show_warning
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    args = build_parser().parse_args(argv)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has left, as `agentgym show … | head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED, debug=args.debug)
    except UsageError as error:
        return _fail(error, USER_ERROR, debug=args.debug)
    except (AgentGymError, OSError) as error:
        return _fail(error, FAILURE, debug=args.debug)
    return code


def _fail(error: Exception | str, code: int, *, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    said = " ".join([str(error), *getattr(error, "__notes__", ())])
    print(f"agentgym: {' '.join(said.split())}", file=sys.stderr)
    return code


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"agentgym: warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
