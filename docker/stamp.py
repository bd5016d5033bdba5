"""Rewrites a saved image so that its id depends on nothing but its contents.

    docker save --output SAVED IMAGE && python3 docker/stamp.py SAVED NAME EPOCH_S | docker load

An image's id is the SHA-256 of its configuration, which lists the digests of its layers. Both hold the time of the
build and the names of passing containers. Times after EPOCH_S (the date of the mirror, in seconds since 1970) become
EPOCH_S; earlier ones come from the packages and stay, because compiled Python files are checked against them.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

KEPT_SETTINGS = ("Cmd", "Entrypoint", "Env", "Labels", "User", "WorkingDir")


def stamp_layer(layer: IO[bytes], stamped: IO[bytes], epoch_s: int) -> str:
    """Copies a layer with its times clamped and the names of owners dropped.

    Args:
        layer: The tar of a layer, uncompressed or gzipped.
        stamped: Where its copy is written to.
        epoch_s: The latest time that a file may have, in seconds since 1970.

    Returns:
        The SHA-256 of the copy, in hexadecimal.
    """
    with (
        tarfile.open(fileobj=layer) as source,
        tarfile.open(fileobj=stamped, mode="w", format=tarfile.PAX_FORMAT) as target,
    ):
        for member in source:
            member.mtime = min(int(member.mtime), epoch_s)
            member.uname = member.gname = ""
            # Extended attributes are kept; they, too, are written as pax headers.
            member.pax_headers = {
                key: text for key, text in member.pax_headers.items() if key.startswith("SCHILY.xattr.")
            }
            target.addfile(member, source.extractfile(member) if member.isreg() else None)
    digest = hashlib.sha256()
    stamped.seek(0)
    while block := stamped.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def stamp_config(config: dict[str, Any], digests: list[str], epoch_s: int) -> bytes:
    """Keeps of a configuration what a container needs, and says when its packages are from.

    Args:
        config: The image's configuration, as saved.
        digests: The SHA-256 of each layer, in hexadecimal, lowest layer first.
        epoch_s: The image's time of creation, in seconds since 1970.

    Returns:
        The configuration as canonical JSON.
    """
    created = datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    settings = {key: value for key in KEPT_SETTINGS if (value := config["config"].get(key))}
    stamped = {
        "architecture": config["architecture"],
        "os": config["os"],
        "created": created,
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        "history": [{"created": created, "created_by": "agentgym docker/build.sh"}] * len(digests),
    }
    return json.dumps(stamped, sort_keys=True, separators=(",", ":")).encode()


def stamp(saved: Path, name: str, epoch_s: int, out: IO[bytes]) -> str:
    """Writes a saved image again, as an archive for ``docker load``.

    Args:
        saved: What ``docker save`` wrote.
        name: The name and tag that the image is loaded under.
        epoch_s: The latest time in the image, in seconds since 1970.
        out: Where the archive goes; need not be seekable.

    Returns:
        The image's id.
    """
    digests: list[str] = []
    with tarfile.open(saved) as archive, tarfile.open(fileobj=out, mode="w|") as target:

        def add(path: str, content: IO[bytes], size: int) -> None:
            member = tarfile.TarInfo(path)
            member.size = size
            target.addfile(member, content)

        def read(path: str) -> IO[bytes]:
            content = archive.extractfile(path)
            if content is None:
                raise ValueError(f"{path} in {saved} is no file")
            return content

        [manifest] = json.load(read("manifest.json"))
        for path in manifest["Layers"]:
            with tempfile.TemporaryFile() as stamped:
                digest = stamp_layer(read(path), stamped, epoch_s)
                size = stamped.seek(0, io.SEEK_END)
                stamped.seek(0)
                add(f"{digest}.tar", stamped, size)
            digests.append(digest)
        config = stamp_config(json.load(read(manifest["Config"])), digests, epoch_s)
        image = hashlib.sha256(config).hexdigest()
        entry = {"Config": f"{image}.json", "RepoTags": [name], "Layers": [f"{digest}.tar" for digest in digests]}
        listing = json.dumps([entry]).encode()
        add(f"{image}.json", io.BytesIO(config), len(config))
        add("manifest.json", io.BytesIO(listing), len(listing))
    return f"sha256:{image}"


if __name__ == "__main__":
    print(stamp(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.stdout.buffer), file=sys.stderr)
