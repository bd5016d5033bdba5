"""What the tests of the core and of the packs share: what a new machine lacks, installed by our own scripts."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from agentgym.errors import SandboxUnavailableError

SCRIPT = Path(__file__).resolve().parent / "scripts" / "chromium.sh"


@pytest.fixture(scope="session")
def chromium() -> None:
    """See to it that Chromium and bubblewrap are there; skip, with the reason, only where the host cannot have them."""
    pytest.importorskip("playwright", reason="the extra 'browser' is not installed")
    from agentgym_sandboxes.browser_process import find_chromium

    if os.geteuid() == 0 and shutil.which("apt-get"):
        print("\nInstalling Chromium and bubblewrap where they are missing: scripts/chromium.sh")
        done = subprocess.run([SCRIPT], capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, f"{SCRIPT} failed: {done.stdout[-1000:]} {done.stderr[-2000:]}"
    try:
        find_chromium()
    except SandboxUnavailableError as error:
        pytest.skip(str(error))
