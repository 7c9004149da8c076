"""NKIObject: the base class of configuration objects in kernels.

Lenient as AWS's own kernels need it: fields may lack annotations, a required field may stay unset, and a class without
an `__init__` is built by keyword.
"""

from __future__ import annotations

from typing import Any


class NKIObject:
    """Base of kernel configuration objects; keyword arguments become attributes (nki.language.NKIObject)."""

    __slots__ = ("__dict__",)

    def __init__(self, **kwargs: Any) -> None:
        for name, value in kwargs.items():
            setattr(self, name, value)
