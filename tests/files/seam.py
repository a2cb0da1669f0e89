"""Stands in for every step of `asyncblob.files.operations`: records it, and lets a test fail, wait or die there."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from asyncblob.files import operations
from asyncblob.files.directory import Directory

__all__ = ["STEPS", "Gate", "Seam", "Step", "fork", "install"]

T = TypeVar("T")

STEPS = tuple(name for name in operations.__all__ if callable(getattr(operations, name)) and name != "LockState")

_RANDOM = re.compile(r"^\.asyncblob-[0-9a-f]+")


@dataclass(frozen=True)
class Step:
    """One call: its place in the order, its function, and what it works on.

    Attributes:
        index: From 0.
        name: The function's name in `operations`.
        target: The file's name with what is random in it left out (``*.tmp``, ``*.lock``); of a rename, the new name;
            ``""`` where the step has only a descriptor.
    """

    index: int
    name: str
    target: str

    def __str__(self) -> str:
        return f"{self.name} {self.target}".strip()


class Seam:
    """The record of the steps, and what is to happen at them.

    Attributes:
        steps: All that began, in order.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._hooks: list[Callable[[Step], object]] = []
        self._lock = threading.Lock()
        self._names: dict[int, str] = {}

    def before_each(self, hook: Callable[[Step], object]) -> None:
        """Call a function before every step, in its thread; what it raises is the step's error."""
        self._hooks.append(hook)

    def clear(self) -> None:
        """Forget the hooks and the record."""
        self._hooks.clear()
        self.steps.clear()

    def fail(
        self,
        name: str,
        error: Callable[[], BaseException],
        *,
        target: str | None = None,
        skip: int = 0,
        times: int = 1,
    ) -> None:
        """Let so many calls of a step (on one target), after those that are skipped, fail instead of doing anything."""
        calls = 0

        def hook(step: Step) -> None:
            nonlocal calls
            if step.name == name and target in (None, step.target):
                calls += 1
                if skip < calls <= skip + times:
                    raise error()

        self.before_each(hook)

    def kill_at(self, index: int) -> None:
        """Kill the process before a step, as ``kill -9`` does."""

        def hook(step: Step) -> None:
            if step.index == index and sys.platform != "win32":
                os.kill(os.getpid(), signal.SIGKILL)

        self.before_each(hook)

    def order(self, *names: str) -> list[str]:
        """The record of these steps, each as its name and target."""
        return [str(step) for step in self.steps if step.name in names]

    def wrap(self, name: str, function: Callable[..., T]) -> Callable[..., T]:
        """The function to put in the place of a step."""

        def call(*args: Any, **kwargs: Any) -> T:
            with self._lock:
                step = Step(len(self.steps), name, self._target(name, args))
                self.steps.append(step)
            for hook in tuple(self._hooks):
                hook(step)
            result = function(*args, **kwargs)
            if name in ("open_new", "open_existing", "open_lock"):
                assert isinstance(result, int)
                self._names[result] = step.target
            return result

        return call

    def _target(self, name: str, args: tuple[Any, ...]) -> str:
        texts = [one for one in args if isinstance(one, str)]
        if texts:
            return _RANDOM.sub("*", texts[-1])
        if name in ("sync_file", "flush_file", "write_at", "copy_range", "clone"):
            fd = args[1] if name in ("copy_range", "clone") else args[0]
            return self._names.get(fd, "")
        if isinstance(args[0], Directory):
            return os.path.basename(args[0].path) + "/"
        return ""


class Gate:
    """Holds the worker thread that reaches a step until the test lets it go on. Made on the event loop.

    Attributes:
        reached: Set when a thread is being held.
    """

    def __init__(self, matches: Callable[[Step], bool]) -> None:
        self.reached = asyncio.Event()
        self._matches = matches
        self._loop = asyncio.get_running_loop()
        self._open = threading.Event()

    def __call__(self, step: Step) -> None:
        """The hook for `Seam.before_each`."""
        if not self._open.is_set() and self._matches(step):
            self._loop.call_soon_threadsafe(self.reached.set)
            assert self._open.wait(30), f"nobody opened the gate at {step}"

    def open(self) -> None:
        """Let the thread go on, and all that come later."""
        self._open.set()


def install(monkeypatch: pytest.MonkeyPatch) -> Seam:
    """Put a seam in the place of all steps."""
    seam = Seam()
    for name in STEPS:
        monkeypatch.setattr(operations, name, seam.wrap(name, getattr(operations, name)))
    return seam


def fork() -> int:
    """`os.fork`, where there is one."""
    if sys.platform != "win32":
        return os.fork()
    raise NotImplementedError
