"""What is asked of the machine, where operating systems differ."""

import os


def cores() -> int:
    """Of the processor, that this process may use; all of them where the system does not tell, such as macOS."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
