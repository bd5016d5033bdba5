"""The id of an image that docker/build.sh makes depends on its contents, and on nothing else."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

STAMP = Path(__file__).resolve().parents[2] / "docker" / "stamp.py"
EPOCH_S = 1_700_000_000


@dataclass(frozen=True)
class Build:
    """One build of an image with one file: what it holds, and when, where and by whom it was made."""

    text: bytes = b"x = 1\n"
    mtime_s: float = EPOCH_S + 60.5
    owner: str = "builder"
    container: str = "0a1b"
    labels: dict[str, str] = field(default_factory=lambda: {"agentgym.recipe": "r"})
    attributes: dict[str, str] = field(default_factory=dict)

    def save(self, path: Path) -> Path:
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as tar:
            member = tarfile.TarInfo("opt/module.py")
            member.size, member.mtime, member.uname = len(self.text), self.mtime_s, self.owner
            member.pax_headers = dict(self.attributes)
            tar.addfile(member, io.BytesIO(self.text))
        config = {
            "architecture": "amd64",
            "os": "linux",
            "created": f"2026-01-01T00:00:00.{self.container}Z",
            "container": self.container,
            "config": {"Hostname": self.container, "User": "10001:10001", "Labels": self.labels},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:of the layer as saved"]},
        }
        manifest = [{"Config": "c.json", "RepoTags": ["agentgym/unstamped:latest"], "Layers": ["l/layer.tar"]}]
        with tarfile.open(path, "w") as tar:
            for name, content in {
                "l/layer.tar": layer.getvalue(),
                "c.json": json.dumps(config).encode(),
                "manifest.json": json.dumps(manifest).encode(),
            }.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        return path


def stamp(saved: Path) -> tuple[str, bytes]:
    command = [sys.executable, str(STAMP), str(saved), "agentgym/base:latest", str(EPOCH_S)]
    done = subprocess.run(command, capture_output=True, check=True)
    return done.stderr.decode().strip(), done.stdout


def test_builds_of_the_same_contents_have_the_same_id(tmp_path: Path) -> None:
    first = stamp(Build().save(tmp_path / "first.tar"))
    second = stamp(Build(mtime_s=EPOCH_S + 9999, owner="other", container="2c3d").save(tmp_path / "second.tar"))
    assert first == second


@pytest.mark.parametrize(
    "build",
    [
        Build(text=b"x = 2\n"),
        Build(mtime_s=EPOCH_S - 60),
        Build(labels={"agentgym.recipe": "s"}),
        Build(attributes={"SCHILY.xattr.security.capability": "raw"}),
    ],
    ids=["text", "time before the mirror's", "label", "capability"],
)
def test_other_contents_have_another_id(tmp_path: Path, build: Build) -> None:
    assert stamp(Build().save(tmp_path / "a.tar"))[0] != stamp(build.save(tmp_path / "b.tar"))[0]


def test_a_stamped_image_is_stamped_to_itself(tmp_path: Path) -> None:
    image, archive = stamp(Build().save(tmp_path / "saved.tar"))
    (tmp_path / "stamped.tar").write_bytes(archive)
    assert stamp(tmp_path / "stamped.tar") == (image, archive)
