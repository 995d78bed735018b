"""Compile loops to machine code with numba."""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compile_loop(function: Function) -> Function:
    """Compile a function of arrays and numbers at its first call; it releases the interpreter.

    The machine code is kept on disk where a folder can be written. To import numba can take a second.
    """
    try:
        compiled: Function = njit(function, nogil=True, cache=True)
    except RuntimeError:
        compiled = njit(function, nogil=True)
    return compiled
