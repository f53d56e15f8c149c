"""What runs in the process of somebody else's notebook."""

import contextlib


def limit(sizes: dict[str, int]) -> None:
    """Tell the system what this process must not pass, by the names that the module resource has for it."""
    with contextlib.suppress(ImportError):  # Windows has none
        import resource

        for name, value in sizes.items():
            with contextlib.suppress(AttributeError, ValueError, OSError):  # not known, or above what is allowed here
                resource.setrlimit(getattr(resource, name), (value, value))
