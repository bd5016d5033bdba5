"""What the pages have in common: a template, styles and one script in a single file that needs no network.

Everything that an environment or a model said is untrusted: the templates escape it, and the page carries a policy
under which no script but its own runs.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def render_page(
    template: str,
    values: Mapping[str, Any],
    *,
    styles: Sequence[str],
    script: str,
    filters: Mapping[str, Callable[..., Any]] | None = None,
) -> str:
    """Return a page; ``styles`` and ``script`` are names of files of this package, as ``template`` is.

    The template gets the values, and ``css``, ``script`` and ``digest``, by which its policy names the script.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    pages = Environment(
        loader=PackageLoader("agentgym.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    pages.filters.update(filters or {})
    code = _source(script)
    return pages.get_template(template).render(
        **values,
        css=Markup("".join(map(_source, styles))),
        script=Markup(code),
        digest=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
    )


def _source(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
