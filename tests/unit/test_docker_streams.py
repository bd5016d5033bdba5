"""Frames are told apart wherever the connection cuts them, and of whatever comes no more than the cap is kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentgym_sandboxes.docker_exec import Demultiplexer
from agentgym_sandboxes.docker_server import _Answer, _Wire

frames = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=300)), max_size=12)


def _encode(parts: list[tuple[int, bytes]]) -> bytes:
    return b"".join(bytes([kind, 0, 0, 0]) + len(data).to_bytes(4, "big") + data for kind, data in parts)


@given(frames, st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_frames_arrive_whole_however_they_are_cut(parts: list[tuple[int, bytes]], cuts: list[int]) -> None:
    wire, output, turn = _encode(parts), Demultiplexer(1 << 20), 0
    while wire:
        size = cuts[turn % len(cuts)]
        output.feed(wire[:size])
        wire, turn = wire[size:], turn + 1
    for kind in (1, 2):
        assert bytes(output.streams[kind]) == b"".join(data for of, data in parts if of == kind)
    assert not output.truncated


@given(frames, st.integers(1, 500))
def test_a_stream_is_kept_up_to_the_cap_and_the_other_is_not_touched(
    parts: list[tuple[int, bytes]], cap_bytes: int
) -> None:
    output = Demultiplexer(cap_bytes)
    output.feed(_encode(parts))
    whole = {kind: b"".join(data for of, data in parts if of == kind) for kind in (1, 2)}
    for kind in (1, 2):
        assert bytes(output.streams[kind]) == whole[kind][:cap_bytes]
    assert output.truncated == any(len(data) > cap_bytes for data in whole.values())


@given(st.binary(max_size=3000), st.integers(0, 200), st.lists(st.integers(1, 500), min_size=1, max_size=20))
def test_whatever_a_command_server_sends_is_bounded(noise: bytes, cap_bytes: int, cuts: list[int]) -> None:
    wire = _Wire()
    answer = wire.answer = _Answer(cap_bytes)
    left, turn = _encode([(1, noise), (2, noise)]), 0
    while left:
        size = cuts[turn % len(cuts)]
        wire.feed(left[:size])
        left, turn = left[size:], turn + 1
    assert max(map(len, answer.streams.values())) <= cap_bytes
    assert max(len(answer.line), len(wire.complaint)) <= 300
    assert answer.number() is None or 0 <= answer.number() < 10**9


@given(frames, st.integers(0, 255), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_an_answer_in_frames_in_frames(parts: list[tuple[int, bytes]], code: int, cuts: list[int]) -> None:
    inner = _encode([*parts, (3, b"%d\n" % code)])
    wire, turn, outer = _Wire(), 0, []
    answer = wire.answer = _Answer(1 << 20)
    while inner:
        size = cuts[turn % len(cuts)]
        outer.append((1, inner[:size]))
        inner, turn = inner[size:], turn + 1
    wire.feed(_encode(outer))
    assert answer.ended
    assert answer.number() == code
    for kind in (1, 2):
        assert bytes(answer.streams[kind]) == b"".join(data for of, data in parts if of == kind)
