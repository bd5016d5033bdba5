"""Archives at the border of a box: what is packed of ours, and what hostile archives can do here."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentgym.errors import SandboxRefusedError, UsageError
from agentgym.sandbox import Limits
from agentgym.sandbox_tar import MAX_DEPTH, pack, unpack

LIMITS = Limits(file_bytes=10_000, archive_bytes=20_000, archive_entries=200)


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "", mode: int = 0o644) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname, info.mode = kind, size, link, mode
    return info.tobuf(tarfile.GNU_FORMAT)


def archive(*members: bytes) -> bytes:
    return b"".join(members) + b"\0" * 1024


def content(text: bytes) -> bytes:
    return text + b"\0" * (-len(text) % 512)


def test_round_trip(tmp_path: Path) -> None:
    names = ["plain", "-rf", "a\nb", "end\n", "x" * 255, "\udcff", "ü", "back\\slash", " ", "*"]
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "empty").mkdir()
    for name in names:
        (source / "deep" / name).write_bytes(os.fsencode(name) * 20)
    (source / "run").write_text("#!")
    (source / "run").chmod(0o6755)
    unpack(pack(source, LIMITS), tmp_path / "target", LIMITS)
    assert sorted(os.listdir(tmp_path / "target" / "deep")) == sorted([*names, "er"])
    for name in names:
        assert (tmp_path / "target" / "deep" / name).read_bytes() == os.fsencode(name) * 20
    assert list((tmp_path / "target" / "empty").iterdir()) == []
    assert stat.S_IMODE((tmp_path / "target" / "run").stat().st_mode) == 0o755


def test_equal_files_give_equal_archives(tmp_path: Path) -> None:
    packed = []
    for name, names in (("one", "abc"), ("two", "cba")):
        (tmp_path / name).mkdir()
        for file in names:
            (tmp_path / name / file).write_text(file)
            os.utime(tmp_path / name / file, (len(packed), len(packed)))
        packed.append(pack(tmp_path / name, LIMITS))
    assert packed[0] == packed[1]


def test_packed_files_belong_to_nobody_here(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with tarfile.open(fileobj=io.BytesIO(pack(tmp_path / "file", LIMITS))) as packed:
        (info,) = packed.getmembers()
    assert (info.name, info.uid, info.gid, info.uname, info.gname) == ("file", 0, 0, "", "")


@pytest.mark.parametrize(
    "link", ["../secret", "/etc/passwd", "a/../../secret", "here/here/../..", "circle", "/proc/self/root"]
)
def test_links_out_of_the_source_are_refused(tmp_path: Path, link: str) -> None:
    source = tmp_path / "source"
    (source / "a").mkdir(parents=True)
    (source / "here").symlink_to(".")
    (source / "circle").symlink_to(link)
    with pytest.raises(SandboxRefusedError, match="'circle' is a link to"):
        pack(source, LIMITS)


def test_links_within_the_source_stay_links(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "up").symlink_to("../file")
    (tmp_path / "dangling").symlink_to("later")
    with tarfile.open(fileobj=io.BytesIO(pack(tmp_path, LIMITS))) as packed:
        assert {info.name: info.linkname for info in packed if info.issym()} == {"a/up": "../file", "dangling": "later"}


def test_special_files_are_refused_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # to open it would wait for ever
    with pytest.raises(SandboxRefusedError, match="pipe"):
        pack(tmp_path, LIMITS)


def test_too_much_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(SandboxRefusedError, match="file_bytes"):
        pack(tmp_path, LIMITS)
    (tmp_path / "sparse").unlink()
    for i in range(3):
        (tmp_path / str(i)).write_bytes(b"x" * 9000)
    with pytest.raises(SandboxRefusedError, match="archive_bytes"):
        pack(tmp_path, LIMITS)
    for i in range(201):
        (tmp_path / str(i)).write_bytes(b"")
    with pytest.raises(SandboxRefusedError, match="archive_entries"):
        pack(tmp_path, LIMITS)


def test_nothing_to_upload(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to upload"):
        pack(tmp_path / "missing", LIMITS)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "upwards": lambda: archive(member("../escaped")),
    "upwards later": lambda: archive(member("a/../../escaped")),
    "absolute": lambda: archive(member("/tmp/escaped")),
    "symlink": lambda: archive(member("link", tarfile.SYMTYPE, link="/etc/passwd")),
    "through a symlink": lambda: archive(member("link", tarfile.SYMTYPE, link=".."), member("link/escaped")),
    "hard link": lambda: archive(member("link", tarfile.LNKTYPE, link="/etc/passwd")),
    "device": lambda: archive(member("device", tarfile.CHRTYPE)),
    "block device": lambda: archive(member("device", tarfile.BLKTYPE)),
    "pipe": lambda: archive(member("pipe", tarfile.FIFOTYPE)),
    "unknown type": lambda: archive(member("odd", b"Z")),
    "twice": lambda: archive(member("a"), member("a")),
    "file as directory": lambda: archive(member("a"), member("a/b")),
    "root is a file": lambda: archive(member(".")),
    "sparse bomb": lambda: archive(member("bomb", tarfile.GNUTYPE_SPARSE, size=512), content(b"x" * 512)),
    "says 1 TB": lambda: archive(member("bomb", size=1 << 40)),
    "many": lambda: archive(*[member(str(i)) for i in range(201)]),
    "much": lambda: archive(*[member(str(i), size=9000) + content(b"x" * 9000) for i in range(3)]),
    "cut": lambda: member("a", size=5000) + content(b"x" * 1000),
    "cut between members": lambda: member("a", size=3) + content(b"abc"),
    "damaged header": lambda: archive(member("a"), b"\1" * 512, member("b")),
    "deep": lambda: archive(member("/".join(["d"] * (MAX_DEPTH + 1)))),
    "long names of long names": lambda: archive(
        *[member("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=2) + content(b"n\0")] * 2000, member("a")
    ),
    "name too long for the host": lambda: archive(
        member("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=300) + content(b"n" * 299 + b"\0"), member("a")
    ),
    "negative size": lambda: archive(
        member("./PaxHeaders/a", tarfile.XHDTYPE, size=13) + content(b"13 size=-512\n"), member("a")
    ),
    "no archive": lambda: b"\x1f\x8b" + os.urandom(2000),
    "empty": lambda: b"",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives_are_refused_and_leave_nothing(case: str, tmp_path: Path) -> None:
    with pytest.raises(SandboxRefusedError):
        unpack(HOSTILE[case](), tmp_path / "target", LIMITS)
    assert list(tmp_path.iterdir()) == []
    assert not Path("/tmp/escaped").exists()


def test_an_old_directory_is_never_a_target(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "link").symlink_to("old")
    for name in ("old", "link", "missing/target"):
        with pytest.raises(UsageError, match="new directory"):
            unpack(archive(member("a")), tmp_path / name, LIMITS)
    assert list((tmp_path / "old").iterdir()) == []


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_to_an_archive_is_harmless(data: st.DataObject, tmp_path: Path) -> None:
    """Whatever bytes arrive: files below the target, or a refusal that leaves nothing; no other error, no escape."""
    packed = bytearray(archive(member("d", tarfile.DIRTYPE), member("d/a", size=4) + content(b"abcd"), member("b")))
    for _ in range(data.draw(st.integers(1, 6))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):  # a header whose sum is right again is read further
        for start in range(0, 512 * 4, 512):
            header = packed[start : start + 512]
            header[148:156] = b" " * 8
            packed[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    target = tmp_path / "target"
    try:
        unpack(bytes(packed), target, LIMITS)
    except SandboxRefusedError:
        assert list(tmp_path.iterdir()) == []
        return
    for path in target.rglob("*"):
        assert stat.S_ISREG(path.lstat().st_mode) or stat.S_ISDIR(path.lstat().st_mode)
    shutil.rmtree(target)
    assert list(tmp_path.iterdir()) == []
