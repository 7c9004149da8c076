"""A signature as a file that declares an op: what is known stands there, what is guessed is marked `# ?`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from triptych.harness.commands.declaring.reading import OUT_NAMES, Parameter, Signature

SIZES = (64, 96, 32, 48, 80, 16)  # of axes, in their order: all different, and within a tile of either language
OF_ROWS = ("weight", "bias", "gamma", "beta", "w", "b", "scale", "shift")  # names of what has the last axis alone
MARK = "  # ?"


def declaration(found: Signature, kernel: str) -> str:
    """The text of the file; `kernel` is "path/to/file.py:function"."""
    arrays = [one for one in found.parameters.values() if one.is_array and not is_out(found, one)]
    optional = [one for one in found.parameters.values() if one.default is None and not is_out(found, one)]
    inputs = [one for one in arrays if one.default is not None]
    options = [
        one for one in found.parameters.values() if not one.is_array and one.default is not None and matters(one)
    ]
    axes = {one.name: axes_of(one, inputs) for one in inputs}
    mutates = [one.name for one in inputs if one.is_written]
    returns = [name for name in found.returns if name not in mutates]
    sizes = {
        axis: SIZES[i % len(SIZES)] for i, axis in enumerate(dict.fromkeys(a for some in axes.values() for a in some))
    }
    needed = {one.name: value_of(one) for one in options if one.default is inspect.Parameter.empty}
    defaults = [f"{one.name}={one.default!r}" for one in options if one.name not in needed]
    taken = [*axes, *needed, *(f"{one.name}=None" for one in optional), *defaults]
    lines = [
        f'"""{found.name}, as `triptych check` sees it. Lines that end in `# ?` hold a guess, or wait for you."""',
        "",
        "from triptych import Op",
        "",
        "",
        f"def reference({wrapped(taken)}):",
        *described(returns, mutates),
        f'    raise NotImplementedError("write here what {found.name} computes"){MARK}',
        "",
        "",
        "op = Op(",
        f'    "{found.name}",',
        "    {",
        *(f'        "{one.name}": {shape(axes[one.name])},{"" if one.axes else MARK}' for one in inputs),
        "    },",
        "    reference,",
        f"    [{{{wrapped([f'{name!r}: {value}' for name, value in {**sizes, **needed}.items()])}}}],{MARK}",
        f'    {found.language}="{kernel}",',
        *([f"    mutates={tuple(mutates)!r},"] if mutates else []),
        ")",
        *(f"# {one.name} is left out; give it among the inputs to check the kernel with it" for one in optional),
    ]
    return "\n".join(lines).replace("'", '"') + "\n"


def wrapped(words: list[str]) -> str:
    """Words in a line, or in as many as they need."""
    lines = [""]
    for i, word in enumerate(words):
        word += ", " if i < len(words) - 1 else ""
        if len(lines[-1]) + len(word) > 90:
            lines.append("    ")
        lines[-1] += word
    return "\n".join(line.rstrip() if line != lines[-1] else line for line in lines)


def described(returns: list[str], mutates: list[str]) -> Iterator[str]:
    """The docstring of the reference: what it has to give."""
    words = [f"return {', '.join(returns)}"] if returns else []
    words += [f"change {', '.join(mutates)} in place"] if mutates else []
    yield f'    """In NumPy or PyTorch, of inputs in float64: {" and ".join(words) or "return the output"}."""'


def is_out(found: Signature, one: Parameter) -> bool:
    """Whether a parameter is where a Triton launcher writes its output."""
    return found.language == "triton" and one.name in OUT_NAMES


def matters(one: Parameter) -> bool:
    """Whether an option is one of the op: sizes of blocks, in capitals and with a default, are the kernel's own."""
    return not (one.name.isupper() and one.default is not inspect.Parameter.empty)


def axes_of(one: Parameter, inputs: list[Parameter]) -> tuple[str, ...]:
    """As the source names them, else those of the first input that has names."""
    rows = next((other.sizes[0] for other in inputs if other.sizes), "M")
    first = next((other.axes for other in inputs if other.axes), (rows, "N"))
    return one.axes or (first[-1:] if one.name.lower() in OF_ROWS else first)


def shape(axes: tuple[str, ...]) -> str:
    return f"({', '.join(map(repr, axes))}{',' if len(axes) == 1 else ''})"


def value_of(one: Parameter) -> str:
    """A guess at an option that has no default."""
    words = one.name.lower()
    if "eps" in words:
        return "1e-5"
    if one.name.isupper() or any(part in words for part in ("size", "num", "dim", "axis", "index")):
        return "64" if one.name.isupper() else "1"
    return "True" if words.startswith(("is_", "has_", "use_")) or words in ("causal", "training") else "1.0"
