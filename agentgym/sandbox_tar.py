"""Archives at the border of a box: packed from the host's files, and unpacked from bytes that nobody trusts.

What is packed belongs to the box's user, whoever owns it here, and bears one date. What is unpacked is files and
directories below one new directory, and nothing else; names are bytes, and mean nothing.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from agentgym.errors import SandboxRefusedError, UsageError
from agentgym.sandbox import Limits

MAX_DEPTH = 100  # directories; a deeper tree cannot be removed with Python's own tools
_DATE_S = 946_684_800  # 2000-01-01: the host's dates would make equal boxes differ, and 1970 is too early for zip
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)


def pack(source: Path, limits: Limits) -> bytes:
    """Pack a file, or the contents of a directory, into a tar archive.

    Args:
        source: File or directory of the host. A symbolic link is followed here, and nowhere below.
        limits: Its ``archive_bytes``, ``archive_entries`` and ``file_bytes`` hold.

    Raises:
        UsageError: There is no such file or directory.
        SandboxRefusedError: A member is a device, pipe or socket, a link out of ``source``, or it is too much.
    """
    try:
        root = source.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise UsageError(f"there is nothing to upload at {source}: {error}") from error
    packed, size, entries = io.BytesIO(), 0, 0
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in _walk(root):
            member = _describe(path, root, source.name if path == root else str(path.relative_to(root)))
            size, entries = size + member.size, entries + 1
            _check_amount(size, entries, member, limits)
            if member.isreg():
                with _open_regular(path) as file:
                    # A file that grows meanwhile is cut to the size that was counted; one that shrinks is an error.
                    archive.addfile(member, file)
            else:
                archive.addfile(member)
    return packed.getvalue()


def unpack(packed: bytes, target: Path, limits: Limits) -> None:
    """Unpack a tar archive that nobody trusts into a new directory.

    Args:
        packed: The archive.
        target: Directory to make. After an error it is not there.
        limits: Its ``archive_bytes``, ``archive_entries`` and ``file_bytes`` hold.

    Raises:
        UsageError: ``target`` is there already, or its parent is not.
        SandboxRefusedError: It is damaged, holds anything but files and directories, or a name that leads out of
            ``target``, or it is too much.
    """
    try:
        target.mkdir()
    except OSError as error:
        raise UsageError(f"a download needs a new directory as its target: {error}") from error
    try:
        _unpack_into(packed, target, limits)
    except BaseException as error:
        shutil.rmtree(target)
        # The names, numbers and nesting of headers are the sender's; tarfile and the host answer odd ones so.
        if isinstance(error, tarfile.TarError | ValueError | OverflowError | RecursionError | OSError):
            raise SandboxRefusedError(f"the archive cannot be unpacked: {error}") from error
        raise


def _walk(root: Path) -> Iterator[Path]:
    """Yield a file, or what is below a directory, sorted, parents first; links are not followed."""
    if not root.is_dir():
        yield root
        return
    waiting = sorted(root.iterdir(), reverse=True)
    while waiting:
        path = waiting.pop()
        yield path
        if path.is_dir() and not path.is_symlink():
            waiting += sorted(path.iterdir(), reverse=True)


def _describe(path: Path, root: Path, name: str) -> tarfile.TarInfo:
    found = path.lstat()
    member = tarfile.TarInfo(name)
    member.mtime = _DATE_S
    if stat.S_ISDIR(found.st_mode):
        member.type, member.mode = tarfile.DIRTYPE, 0o755
    elif stat.S_ISREG(found.st_mode):
        member.size, member.mode = found.st_size, _plain_mode(found.st_mode)
    elif stat.S_ISLNK(found.st_mode):
        member.type, member.linkname = tarfile.SYMTYPE, os.readlink(path)
        if not _stays_below(root, path.parent, member.linkname):
            raise SandboxRefusedError(f"upload: {name!r} is a link to {member.linkname!r}, outside of what is uploaded")
    else:
        raise SandboxRefusedError(f"upload: {name!r} is a device, a pipe or a socket")
    return member


def _stays_below(root: Path, directory: Path, link: str) -> bool:
    """Say whether a link leads to a place below ``root``, with every link on the way resolved as ``..`` needs it."""
    try:
        return not os.path.isabs(link) and directory.joinpath(link).resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # links in a circle
        return False


def _open_regular(path: Path) -> IO[bytes]:
    """Open a file that was regular a moment ago, whatever it is now."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise SandboxRefusedError(f"upload: cannot read {path.name!r}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SandboxRefusedError(f"upload: {path.name!r} is no regular file any more")
    return os.fdopen(descriptor, "rb")


def _check_amount(size: int, entries: int, member: tarfile.TarInfo, limits: Limits) -> None:
    if member.size < 0:
        raise SandboxRefusedError(f"{member.name!r} has a size below 0")
    if entries > limits.archive_entries:
        raise SandboxRefusedError(f"more than {limits.archive_entries} files (Limits.archive_entries)")
    if member.size > limits.file_bytes:
        raise SandboxRefusedError(f"{member.name!r} has more than {limits.file_bytes} bytes (Limits.file_bytes)")
    if size > limits.archive_bytes:
        raise SandboxRefusedError(f"more than {limits.archive_bytes} bytes (Limits.archive_bytes)")


def _plain_mode(mode: int) -> int:
    return 0o755 if mode & 0o100 else 0o644


def _unpack_into(packed: bytes, target: Path, limits: Limits) -> None:
    made = {target}
    size = entries = 0
    # "r|" never seeks back, so a header with a negative size ends the reading instead of repeating it.
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r|", encoding="utf-8", errors="surrogateescape") as archive:
        for member in archive:
            size, entries = size + member.size, entries + 1
            _check_amount(size, entries, member, limits)
            path = target.joinpath(*_parts(member.name))
            if member.isdir():
                _make_directories(path, target, made)
            elif member.type in _PLAIN and not member.issparse() and path != target:
                _make_directories(path.parent, target, made)
                _write_member(archive, member, path)
            else:
                raise SandboxRefusedError(f"download: {member.name!r} is no regular file and no directory")
        rest = packed[archive.offset :]
    if len(rest) < tarfile.BLOCKSIZE or rest.strip(b"\0"):  # tarfile takes a broken header for the end
        raise SandboxRefusedError("download: the archive is damaged")


def _parts(name: str) -> list[str]:
    """Split a member's name; a name is bytes, so a backslash, a newline or a dash means nothing."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name or len(parts) > MAX_DEPTH:
        raise SandboxRefusedError(f"download: {name[:200]!r} is absolute, leads upwards or is too deep")
    return parts


def _make_directories(path: Path, target: Path, made: set[Path]) -> None:
    missing = [step for step in (path, *path.parents) if step.is_relative_to(target) and step not in made]
    for step in reversed(missing):
        step.mkdir(0o755)
        made.add(step)


def _write_member(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, _plain_mode(member.mode)), "wb") as file:
        content = archive.extractfile(member)
        assert content is not None  # by its type
        shutil.copyfileobj(content, file)
        if file.tell() != member.size:
            raise SandboxRefusedError(f"download: the archive ends within {member.name!r}")
