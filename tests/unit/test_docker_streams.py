"""The daemon's frames are told apart wherever the connection cuts them, and no more than the cap is kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentgym_sandboxes.docker_exec import Demultiplexer

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
