"""Runs work in a task group, with its failure as it is."""

import asyncio
from collections.abc import Awaitable, Callable


async def together(work: Callable[[asyncio.TaskGroup], Awaitable[None]]) -> None:
    """Runs `work` with a task group. The first failure cancels the rest and is raised by itself, without its group."""
    try:
        async with asyncio.TaskGroup() as group:
            await work(group)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from failures
