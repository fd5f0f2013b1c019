"""Keeps a task's cancellation from being lost to an error of the call that it was waiting for."""

import asyncio


def heed_cancellation(error: BaseException) -> None:
    """Raises CancelledError where this task is cancelled; call it first in whatever handles an error of grpc.aio.

    A read or a call that is cancelled just after it has failed raises its own error: the cancellation would be lost.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError from error
