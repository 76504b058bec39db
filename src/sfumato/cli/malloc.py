"""Tuning of the C library's memory allocation, for verbs that train; a library must not change its process."""

import ctypes
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next step. It would return it and have it zeroed page by page.

    That takes up to a tenth of a step. Other C libraries stay as they are.
    """
    with suppress(OSError, AttributeError, TypeError):  # TypeError: Windows has no library of all that is loaded
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
