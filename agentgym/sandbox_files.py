"""How files go into a box and out of it.

All of it is done by programs inside the box, as the box's user: links are resolved there, and the host only sees bytes.
A path is text; names that are no UTF-8 go in and out with their directory.
The image needs ``sh``, GNU coreutils, ``find`` and ``tar`` in their usual places.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from agentgym.errors import SandboxRefusedError
from agentgym.sandbox import WORKSPACE, Command, ExecResult, Sandbox
from agentgym.sandbox_output import escape_output
from agentgym.sandbox_tar import pack, unpack

_READ_S = 20.0  # a pipe or a file of /proc may never end
_COPY_S = 120.0
_ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}  # nothing that the agent or an image could have set
_KINDS = {"d": "a directory", "l": "a link", "p": "a pipe", "s": "a socket", "b": "a device", "c": "a device"}

# Whatever is put in the file's place after it was looked at: no link is followed, no pipe waited for, the cap holds.
_READ = r"""
found=$(/usr/bin/find "$1" -maxdepth 0 -printf '%y %s') || exit 1
[ "${found%% *}" = f ] || { echo "it is no regular file, but of type ${found%% *}" >&2; exit 1; }
[ "${found#* }" -le "$2" ] || { echo "it is larger than $2 bytes (Limits.file_bytes)" >&2; exit 1; }
exec /usr/bin/dd if="$1" iflag=nofollow,nonblock bs=64K status=none
"""
# The path after links, in $path. The x keeps newlines at the end of a name, which $(…) drops.
_RESOLVE = r"""
umask 022
path=$(/usr/bin/realpath -m -- "$1" && echo x) || exit 1
path=${path%?x}
case $path/ in
  /workspace/* | /tmp/*) ;;
  *) echo "it leads to $path, and only /workspace and /tmp can be written" >&2; exit 1 ;;
esac
"""
# Written beside the old file and moved over it: what does not fit leaves the old one as it was.
_WRITE = (
    _RESOLVE
    + r"""
[ ! -e "$path" ] || [ -f "$path" ] || { echo "$path is no regular file" >&2; exit 1; }
/usr/bin/mkdir -p -- "${path%/*}" && new=$(/usr/bin/mktemp "${path%/*}/.agentgym.XXXXXXXX") || exit 1
trap '/usr/bin/rm -f -- "$new"' EXIT
/usr/bin/cat >"$new" || exit 1
[ "$(/usr/bin/stat --format=%s -- "$new")" = "$2" ] || { echo "not all of it arrived" >&2; exit 1; }
if [ -e "$path" ]; then /usr/bin/chmod --reference="$path" -- "$new"; else /usr/bin/chmod 644 -- "$new"; fi
/usr/bin/mv -fT -- "$new" "$path"
"""
)
_UPLOAD = (
    _RESOLVE + r'/usr/bin/mkdir -p -- "$path" && cd -- "$path" && exec /usr/bin/tar --extract --file - --no-same-owner'
)


async def read_file(box: Sandbox, path: str) -> bytes:
    """See :meth:`agentgym.sandbox.Sandbox.read_file`."""
    cap = box.spec.limits.file_bytes
    argv = ["/bin/sh", "-c", _READ, "sh", _inside(path), str(cap)]
    return (await _do(box, f"read {path!r}", argv, output_bytes=cap)).stdout


async def write_file(box: Sandbox, path: str, data: bytes | str) -> None:
    """See :meth:`agentgym.sandbox.Sandbox.write_file`."""
    try:
        content = data.encode() if isinstance(data, str) else bytes(data)
    except UnicodeEncodeError as error:
        raise SandboxRefusedError(f"write {path!r}: lone surrogates are no text; give bytes") from error
    if len(content) > box.spec.limits.file_bytes:
        raise SandboxRefusedError(f"write {path!r}: more than {box.spec.limits.file_bytes} bytes (Limits.file_bytes)")
    argv = ["/bin/sh", "-c", _WRITE, "sh", _inside(path), str(len(content))]
    await _do(box, f"write {path!r}", argv, stdin=content, timeout_s=_COPY_S)


async def upload(box: Sandbox, source: Path, target: str) -> None:
    """See :meth:`agentgym.sandbox.Sandbox.upload`. What was copied before an error stays."""
    where = _inside(target)
    packed = await asyncio.to_thread(pack, source, box.spec.limits)
    await _do(box, f"upload to {target!r}", ["/bin/sh", "-c", _UPLOAD, "sh", where], stdin=packed, timeout_s=_COPY_S)


async def download(box: Sandbox, source: str, target: Path) -> None:
    """See :meth:`agentgym.sandbox.Sandbox.download`."""
    where, limits = _inside(source), box.spec.limits
    what = f"download {source!r}"
    room = 64 * (limits.archive_entries + 2)
    survey = ["/usr/bin/find", where, "-printf", r"%y %s\0"]
    found = await _do(box, what, survey, output_bytes=room, timeout_s=_COPY_S)
    kinds, size = [], 0
    for entry in found.stdout.decode("ascii", "replace").split("\0")[:-1]:
        kind, _, apparent = entry.partition(" ")
        kinds.append(kind)
        # Apparent sizes, before anything is read: a sparse file is small only on its own disk.
        size += int(apparent) if kind == "f" and apparent.isdigit() else 0
        if kind not in ("f", "d"):
            raise SandboxRefusedError(f"{what}: {_KINDS.get(kind, 'something else')} is there, only files are copied")
    if len(kinds) > limits.archive_entries or size > limits.archive_bytes:
        caps = f"Limits.archive_entries is {limits.archive_entries} and archive_bytes {limits.archive_bytes}"
        raise SandboxRefusedError(f"{what}: {len(kinds)} files with {size} bytes; {caps}")
    parent, _, name = where.rpartition("/")
    members = ["-C", where, "."] if kinds[0] == "d" else ["-C", f"{parent}/", f"./{name}"]
    # A file with two names is copied twice, since a link between members is a link. Status 1: a file changed meanwhile.
    argv = ["/usr/bin/tar", "--create", "--file", "-", "--format=gnu", "--hard-dereference", *members]
    overhead = 4096 * (len(kinds) + 8)  # headers, names of up to PATH_MAX, blocks
    packed = await _do(box, what, argv, output_bytes=limits.archive_bytes + overhead, timeout_s=_COPY_S, good=(0, 1))
    await asyncio.to_thread(unpack, packed.stdout, target, limits)


def _inside(path: str) -> str:
    """Return an absolute path in a box. Links and ``..`` are left to the box's kernel; a leading dash is gone."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError as error:
        raise SandboxRefusedError(f"{path!r} is no path: it holds lone surrogates") from error
    if not path or "\0" in path or size > 4096:
        raise SandboxRefusedError(f"{path[:80]!r} is no path: it is empty, holds a NUL or is longer than 4096 bytes")
    return str(PurePosixPath(WORKSPACE) / path)


async def _do(
    box: Sandbox,
    what: str,
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    output_bytes: int | None = None,
    timeout_s: float = _READ_S,
    good: Sequence[int] = (0,),
) -> ExecResult:
    """Run one of our programs in the box; what it could not do is refused, whatever the agent did to make it so."""
    box._require_open()
    # From "/", since the agent may have locked its own workspace.
    result = await box._run(Command(tuple(argv), timeout_s, "/", _ENV, stdin, output_bytes))
    if result.outcome not in ("ok", "failed") or result.exit_code not in good:
        lines = escape_output(result.stderr).strip().splitlines()
        why = {"timed_out": f"not done after {timeout_s:g} s", "truncated": "it is larger than the caps of Limits"}
        said = why.get(result.outcome) or (lines[0][:500] if lines else result.outcome)
        raise SandboxRefusedError(f"{what}: {said}")
    return result
