from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgym import UnicodeText


@given(st.text(max_size=200))
def test_contains_any_text_up_to_its_bytes(text: str) -> None:
    assert (text in UnicodeText(100)) == (len(text.encode()) <= 100)


def test_lone_surrogates_and_other_types_are_not_contained() -> None:
    assert "\ud800" not in UnicodeText(100)
    assert b"bytes" not in UnicodeText(100)
    assert None not in UnicodeText(100)


@pytest.mark.parametrize("max_bytes", [1, 2, 3, 7, 1000])
def test_samples_are_contained_and_seeded(max_bytes: int) -> None:
    space, twin = UnicodeText(max_bytes, seed=3), UnicodeText(max_bytes, seed=3)
    for _ in range(50):
        sample = space.sample()
        assert sample in space
        assert sample == twin.sample()


def test_size_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        UnicodeText(0)
