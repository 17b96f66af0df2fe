"""Interrupts: a signal ends the work at once, but never within what belongs together."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from svm_ext.cli._signals import Interrupts

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@BOTH
def test_between_two_steps_at_once(number: int) -> None:
    done = []

    def work() -> None:
        with Interrupts():
            send(number)
            done.append("more")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == []


@BOTH
def test_within_a_step_at_its_end(number: int) -> None:
    done = []

    def work() -> None:
        with Interrupts() as interrupts:
            with interrupts.held():
                send(number)
                done.append("all of it")
            done.append("more")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["all of it"]


def test_an_error_in_the_step_goes_first() -> None:
    def work() -> None:
        with Interrupts() as interrupts, interrupts.held():
            send(signal.SIGINT)
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        work()


@BOTH
def test_what_was_there_before_comes_back(number: int) -> None:
    before = signal.getsignal(number)
    with Interrupts() as interrupts:
        assert signal.getsignal(number) != before
        with interrupts.held():
            pass
    assert signal.getsignal(number) == before


def test_other_threads_hear_no_signals() -> None:
    heard = []

    def work() -> None:
        with Interrupts() as interrupts, interrupts.held():
            heard.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert heard == [True]
