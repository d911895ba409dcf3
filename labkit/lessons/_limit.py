"""Running somebody else's function: it ends after a time limit, and the session's global state is as before.

In the main thread an alarm interrupts the function; elsewhere it runs in a thread of its own that is told to stop.
"""

import ctypes
import itertools
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any, TypeVar

import numpy as np
import torch

__all__ = ["TimeUp", "undisturbed", "within"]

T = TypeVar("T")
# The alarm rings again and again, so that `except: pass` in a loop cannot swallow it for ever: sooner or later
# it rings outside of the `try`.
_AGAIN = (2e-5, 5e-5, 1e-5, 2e-4, 1e-3)
_PATIENCE = 3.0  # seconds after which a thread that will not stop is left alone


class TimeUp(BaseException):
    """The time limit; no Exception, so that `except Exception` in the function does not hold it back."""


@contextmanager
def undisturbed(seed: int = 0) -> Iterator[None]:
    """Seed the generators inside; afterwards restore them, the default dtype, grad mode, threads and warnings."""
    dtype, grad, threads = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 (students may use the legacy one)
    there = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count()) if there else []
    with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
        warnings.simplefilter("default")  # a warning in an answer is seen, and is no error
        warnings.filterwarnings("ignore", ".torch.jit.script. is deprecated", DeprecationWarning)
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            torch.set_grad_enabled(grad)
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002


def within(seconds: float, function: Callable[[], T]) -> T:
    """The value of `function()`, or TimeUp when it takes longer than `seconds`.

    Pure Python is interrupted at once; one long call into compiled code is interrupted when it returns.

    Raises:
        TimeUp: the limit has passed.
    """
    with _unheard_in_finalizers():
        if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
            return _by_alarm(seconds, function)
        return _by_thread(seconds, function)


@contextmanager
def _unheard_in_finalizers() -> Iterator[None]:
    """A TimeUp that rings in a finalizer is lost there (another follows), and nobody is told."""
    outer = sys.unraisablehook

    def hook(lost: Any) -> None:
        if lost.exc_type is not TimeUp:
            outer(lost)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = outer


def _by_alarm(seconds: float, function: Callable[[], T]) -> T:
    pauses = itertools.cycle(_AGAIN)
    done = False

    def run() -> T:
        return function()

    def ring(signum: int, frame: FrameType | None) -> None:
        if not done:
            inside = _called_from(frame, run.__code__)
            signal.setitimer(signal.ITIMER_REAL, next(pauses))
            if inside:
                raise TimeUp

    start = time.monotonic()
    handler = signal.signal(signal.SIGALRM, ring)
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return run()
    finally:
        done = True  # an alarm on its way must not ring again under the old handler
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if remaining:  # somebody else's alarm goes on
            signal.setitimer(signal.ITIMER_REAL, max(remaining - (time.monotonic() - start), 1e-3), interval)


def _called_from(frame: FrameType | None, code: CodeType) -> bool:
    while frame is not None and frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code is code:
            return True
    return False


def _by_thread(seconds: float, function: Callable[[], T]) -> T:
    found: list[T] = []
    failed: list[BaseException] = []
    grad = torch.is_grad_enabled()

    def run() -> None:
        torch.set_grad_enabled(grad)
        try:
            found.append(function())
        except BaseException as error:  # handed on to the caller below
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    given_up = time.monotonic() + _PATIENCE
    for pause in itertools.cycle(_AGAIN):
        if not thread.is_alive() or time.monotonic() > given_up:
            break
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(TimeUp))
        thread.join(pause)
    if failed:
        raise failed[0]
    if found:
        return found[0]
    raise TimeUp
