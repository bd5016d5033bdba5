"""The warm pool, over boxes that are real sandboxes but run nothing: what matters is who has which, and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import ClassVar

import pytest

from agentgym.errors import SandboxLostError, SandboxUnavailableError, UsageError
from agentgym.sandbox import Command, ExecResult, Probe, Sandbox
from agentgym_sandboxes.pool import WarmPool


class SlowBox(Sandbox):
    """Takes a while to start; counts what goes on."""

    name: ClassVar[str] = "slow"
    starting: ClassVar[int] = 0
    most_starting: ClassVar[int] = 0
    alive: ClassVar[set[SlowBox]] = set()
    made: ClassVar[int] = 0
    broken: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.resets = 0
        self.reset_fails = False

    @classmethod
    async def probe(cls) -> Sequence[Probe]:
        return []

    async def _start(self) -> None:
        kind = SlowBox
        kind.made += 1
        kind.starting += 1
        kind.most_starting = max(kind.most_starting, kind.starting)
        try:
            await asyncio.sleep(0.02)
        finally:
            kind.starting -= 1
        if kind.broken:
            raise SandboxUnavailableError("no such host")
        kind.alive.add(self)

    async def _run(self, command: Command) -> ExecResult:
        return ExecResult(0, b"", b"")

    async def _reset(self) -> None:
        await asyncio.sleep(0.01)
        if self.reset_fails:
            raise SandboxLostError("cannot be reset")
        self.resets += 1

    async def _close(self) -> None:
        await asyncio.sleep(0.005)
        SlowBox.alive.discard(self)


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    SlowBox.alive.clear()
    SlowBox.starting = SlowBox.most_starting = SlowBox.made = 0
    SlowBox.broken = False
    yield
    assert SlowBox.alive == set()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_a_ready_box_is_lent_at_once() -> None:
    async with WarmPool(SlowBox, size=3) as pool:
        await pool.wait_ready()
        started = time.perf_counter()
        boxes = [await pool.take() for _ in range(3)]
        assert (time.perf_counter() - started) / 3 < 0.005
        assert set(boxes) == SlowBox.alive


async def test_a_box_comes_back_reset() -> None:
    async with WarmPool(SlowBox, size=1) as pool:
        async with pool.checkout() as first:
            pass
        async with pool.checkout() as second:
            assert second is first
            assert second.resets == 1  # type: ignore[attr-defined]


async def test_a_box_that_cannot_be_reset_is_replaced() -> None:
    async with WarmPool(SlowBox, size=1) as pool:
        async with pool.checkout() as first:
            first.reset_fails = True  # type: ignore[attr-defined]
        async with pool.checkout() as second:
            assert second is not first
            assert (await second.exec("true", timeout_s=1)).exit_code == 0
        assert len(SlowBox.alive) == 1


async def test_a_box_that_was_lost_or_closed_is_replaced() -> None:
    async with WarmPool(SlowBox, size=1) as pool:
        async with pool.checkout() as first:
            await first.close()
        async with pool.checkout() as second:
            assert second is not first


async def test_a_hundred_users_share_few_boxes_and_fewer_starts() -> None:
    async def use(pool: WarmPool) -> None:
        async with pool.checkout() as box:
            assert box in SlowBox.alive
            assert len(SlowBox.alive) <= 8
            await asyncio.sleep(0)

    async with WarmPool(SlowBox, size=8, starts=3) as pool:
        await asyncio.gather(*(use(pool) for _ in range(100)))
    assert SlowBox.most_starting == 3
    assert SlowBox.made == 8


async def test_who_waits_hears_of_a_failed_start_and_the_next_try_works() -> None:
    SlowBox.broken = True
    async with WarmPool(SlowBox, size=2) as pool:
        with pytest.raises(SandboxUnavailableError, match="no such host"):
            await pool.take()
        await pool.wait_ready()
        SlowBox.broken = False
        assert await pool.take() in SlowBox.alive


async def test_a_maker_that_raises_is_heard_of() -> None:
    def make() -> Sandbox:
        raise ValueError("a bug")

    async with WarmPool(make, size=1) as pool:
        with pytest.raises(ValueError, match="a bug"):
            await pool.take()


async def test_closing_ends_waiting_starting_and_lent_boxes() -> None:
    pool = await WarmPool(SlowBox, size=2, starts=1).__aenter__()
    lent = await pool.take()
    waiting = [asyncio.ensure_future(pool.take()) for _ in range(3)]
    await asyncio.sleep(0.005)  # shorter than a start
    await pool.close()
    await pool.close()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == 3 * [SandboxLostError]
    pool.give_back(lent)
    with pytest.raises(SandboxLostError):
        await pool.take()


async def test_a_box_cannot_be_given_back_twice_or_to_another() -> None:
    async with WarmPool(SlowBox, size=1) as pool:
        box = await pool.take()
        pool.give_back(box)
        with pytest.raises(UsageError, match="not lent"):
            pool.give_back(box)
        with pytest.raises(UsageError, match="not lent"):
            pool.give_back(SlowBox())


async def test_cancelled_at_any_await_it_loses_no_box() -> None:
    """A user is cancelled after each number of turns of the loop in turn; the pool still serves all it has."""
    for turns in range(40):
        async with WarmPool(SlowBox, size=2, starts=1) as pool:

            async def use(pool: WarmPool = pool) -> None:
                async with pool.checkout() as box:
                    await box.exec("true", timeout_s=1)
                    await asyncio.sleep(0)

            users = [asyncio.ensure_future(use()) for _ in range(4)]
            for _ in range(turns):
                await asyncio.sleep(0.002)
            users[turns % 4].cancel()
            await asyncio.gather(*users, return_exceptions=True)
            await asyncio.wait_for(pool.wait_ready(), 5)
            boxes = [await asyncio.wait_for(pool.take(), 5) for _ in range(2)]
            assert set(boxes) == SlowBox.alive
        assert SlowBox.alive == set()


@pytest.mark.parametrize("sizes", [{"size": 0}, {"size": 1, "starts": 0}])
def test_sizes_are_checked(sizes: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        WarmPool(SlowBox, **sizes)
