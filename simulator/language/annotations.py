"""`nki.typing`: what a kernel's parameters are annotated with. The shapes are checked where arguments come in."""

from __future__ import annotations

from typing import Any


class Tensor:
    """`nki.typing.tensor[128, 512]`: the shape that a parameter is declared to have (nki/migration/index.rst)."""

    def __init__(self, shape: tuple[Any, ...]) -> None:
        self.shape = shape

    def __class_getitem__(cls, shape: Any) -> Tensor:
        return cls(shape if isinstance(shape, tuple) else (shape,))

    def __repr__(self) -> str:
        return f"nki.typing.tensor[{', '.join(map(str, self.shape))}]"
