"""Waiting for what another party does, within bounds."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

_STEP_S = 0.005


@overload
async def until(condition: Callable[[], Awaitable[T]], timeout_s: float = ...) -> T: ...
@overload
async def until(condition: Callable[[], T], timeout_s: float = ...) -> T: ...
async def until(condition: Callable[[], Any], timeout_s: float = 2.0) -> Any:
    """The first truthy answer of `condition`, a plain or an asynchronous function, asked every 5 ms.

    Raises AssertionError with the last answer when `timeout_s` is over.
    """
    loop = asyncio.get_running_loop()
    limit = loop.time() + timeout_s
    while True:
        answer = condition()
        value = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if loop.time() > limit:
            raise AssertionError(f"not within {timeout_s} s; the last answer was {value!r}")
        await asyncio.sleep(_STEP_S)
