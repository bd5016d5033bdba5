"""Who owns a container, and when it is garbage. Every process here is real."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from agentgym_sandboxes import reaper
from agentgym_sandboxes.reaper import EXPIRES, OWNER, Owner


def _make_dead() -> Owner:
    child = subprocess.Popen(["sleep", "60"])
    owner = reaper._owner(child.pid)
    assert not owner.is_dead()
    child.kill()
    child.wait()
    return owner


def test_an_owner_survives_its_label() -> None:
    owner = reaper.this_process()
    assert owner.pid == os.getpid()
    assert Owner.parse(str(owner)) == owner
    assert not owner.is_dead()


@pytest.mark.parametrize("text", ["", "a", "a:1:2", "a:1:2:3:4", "a:b:2:3", "a:1:-2:3", "a:1:2:٣", "::::"])
def test_what_is_no_owner(text: str) -> None:
    assert Owner.parse(text) is None
    assert reaper.find_reason({OWNER: text, EXPIRES: "0"}) is None


def test_a_process_that_ended_is_a_dead_owner() -> None:
    assert _make_dead().is_dead()


def test_a_zombie_has_ended() -> None:
    child = subprocess.Popen(["sleep", "60"])
    owner = reaper._owner(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert owner.is_dead()
    child.wait()


def test_a_pid_that_was_given_to_somebody_else_is_a_dead_owner() -> None:
    here = reaper.this_process()
    assert Owner(here.boot, here.pid, here.start - 1, here.pid_namespace).is_dead()


def test_nothing_is_proven_about_another_boot_or_another_namespace() -> None:
    dead = _make_dead()
    assert not Owner("another boot", dead.pid, dead.start, dead.pid_namespace).is_dead()
    assert not Owner(dead.boot, dead.pid, dead.start, dead.pid_namespace + 1).is_dead()


def test_the_lease_decides_where_nothing_is_proven() -> None:
    soon, past = str(int(time.time()) + 100), str(int(time.time()) - 1)
    assert reaper.find_reason({OWNER: "another-boot:1:1:1", EXPIRES: soon}) is None
    assert reaper.find_reason({OWNER: "another-boot:1:1:1", EXPIRES: past}) == "its lease is over"
    assert reaper.find_reason({OWNER: "another-boot:1:1:1"}) is None
    assert reaper.find_reason({OWNER: "another-boot:1:1:1", EXPIRES: "never"}) is None
    assert reaper.find_reason({EXPIRES: past}) is None


def test_our_own_labels_are_no_garbage_until_the_lease_is_over() -> None:
    assert reaper.find_reason(reaper.make_labels("run", 100)) is None
    assert reaper.find_reason(reaper.make_labels("run", -100)) == "its lease is over"
    dead = {**reaper.make_labels("run", 100), OWNER: str(_make_dead())}
    assert "is dead" in (reaper.find_reason(dead) or "")
