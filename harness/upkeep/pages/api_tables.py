"""The tables of docs/nki-api.md: every documented name of NKI with what runs it, since when, at what cost, the test
that exercises it and where it is documented.

The names of 0.6 come from docs/nki-names.txt, newer ones from triptych.simulator.api.newer; what is said of them from
the simulator, the tests from their source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from triptych import simulator
from triptych.harness.reports.markdown import code, markdown_table
from triptych.harness.upkeep.pages.issued import issued
from triptych.harness.upkeep.pages.named_tests import exercised
from triptych.harness.upkeep.pages.nki_names import Name, read
from triptych.simulator.api import newer
from triptych.simulator.dtypes import DType
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.machine.machine import Machine
from triptych.simulator.operands.operators import Op
from triptych.simulator.running import on_machine

with simulated_nki():
    import nki
    import nki.collectives
    import nki.compiler
    import nki.isa
    import nki.language
    import nki.typing

_VALUES = "test_names.test_a_documented_name_is_there"  # parametrized over the file of names: it compares their values


def _of(module: str, *kinds: str, of: str | None = None) -> list[Name]:
    """Names of a module, sorted; with `of` the members of that class alone, and without it no class's members."""
    chosen = [n for n in read() if n.module == module and n.kind in kinds]
    return sorted((n for n in chosen if n.name.rpartition(".")[0] == (of or "")), key=lambda n: n.name)


def found(name: Name) -> Any:
    """The object behind a name."""
    value: Any = nki
    for part in name.qualified.split(".")[1:]:
        value = getattr(value, part, None)
    return value


def tested_by(name: Name) -> str | None:
    """The test that says most of a name: one named like it, else of the file of its home, else the first."""
    every = exercised().get(name.qualified, ())
    if name.kind == "member":
        return _VALUES
    word = name.name.rpartition(".")[2].strip("_")
    module = getattr(_function(name), "__module__", "").removeprefix("triptych.simulator.").split(".")
    home = "test_wrappers_" if module[0] == "language" else f"test_{'_'.join(module[1:])}."
    return min(
        every, key=lambda t: (f"_{word}_" not in f"_{t.partition('.')[2]}_", not t.startswith(home)), default=None
    )


def _function(name: Name) -> Any:
    value = found(name)
    return value.wrapper if isinstance(value, Op) else value


def _tested(name: Name) -> str:
    return f"`{tested_by(name) or 'none'}`"


def _source(name: Name) -> str:
    return name.source.removeprefix("nki/api/nki/")


def _summary(value: Any) -> str:
    """The first line of a docstring."""
    return str(value.__doc__ or "").strip().split("\n", 1)[0]


def _method(name: Name) -> str:
    """What a method does; of a constructor, its documented parameters."""
    return f"`{name.signature}`" if name.name.endswith(".__init__") else _summary(found(name))


def instructions() -> str:
    """One row an instruction of `nki.isa`."""
    rows = []
    for name in _of("nki.isa", "function"):
        i = simulator.INSTRUCTIONS.get(name.name)
        if i is not None:
            engines = ", ".join(e.name for e in i.engines)
            rows.append((name, engines, f"v{i.since}", i.summary, i.cost.text, i.cost.known))
    return _table(("`nki.isa.`", "engines", "from", "effect", "cost", "known"), rows)


def isa_others() -> str:
    """Enumerations, classes and functions of `nki.isa` that are no instructions."""
    rows = [
        (name, "enumeration: " + ", ".join(f"{m.name}={m.value}" for m in found(name)))
        for name in _of("nki.isa", "enum")
    ]
    rows += [(name, _summary(found(name))) for name in _of("nki.isa", "class")]
    for owner in ("NkiInstruction", "VirtualRegister"):
        rows += [(name, _method(name)) for name in _of("nki.isa", "method", of=owner)]
    functions = [n for n in _of("nki.isa", "function") if n.name not in simulator.INSTRUCTIONS]
    rows += [(name, f"{_summary(found(name))} Free: no instruction.") for name in functions]
    rows += [(name, f"`engine.{found(name).name}`, its former name") for name in _of("nki.isa", "constant")]
    return _table(("`nki.isa.`", "what it is"), rows)


def language_functions() -> str:
    """One row a function of `nki.language`, with the instructions that it issues on a small tile."""
    rows = []
    for name in _of("nki.language", "function"):
        by_generation = issued(name)
        since = f"v{min(by_generation)}"
        rows.append((name, _issues(by_generation), since, _summary(_function(name))))
    return _table(("`nki.language.`", "instructions that it issues", "from", "effect"), rows)


def _issues(by_generation: dict[int, tuple[str, ...]]) -> str:
    """What is issued, by generation where those differ, equal neighbours counted."""
    if len(set(by_generation.values())) == 1:
        return _counted(next(iter(by_generation.values())))
    return "; ".join(f"v{generation}: {_counted(events)}" for generation, events in by_generation.items())


def _counted(events: Sequence[str]) -> str:
    runs: list[tuple[str, int]] = []
    for event in events:
        times = runs.pop()[1] if runs and runs[-1][0] == event else 0
        runs.append((event, times + 1))
    return ", ".join(event if times == 1 else f"{times} x {event}" for event, times in runs) or "none"


def language_constants() -> str:
    """Dtypes, buffers, operators without a function, and classes."""
    rows = []
    for name in _of("nki.language", "constant"):
        value = found(name)
        if isinstance(value, DType):
            what = f"dtype, {value.itemsize} bytes an element" + (", packed" if value.kind == "x" else "")
        elif isinstance(value, Op):
            what = "operator that only some instructions take"
        elif isinstance(value, nki.language.MemoryRegion):
            what = f"memory, `MemoryRegion.{value.name}`"
        else:
            what = _summary(type(value) if name.name == "tile_size" else value)
        rows.append((name, what))
    rows += [(name, "enumeration: " + ", ".join(m.name for m in found(name))) for name in _of("nki.language", "enum")]
    rows += [(name, _summary(found(name))) for name in _of("nki.language", "class")]
    rows += [(name, _method(name)) for name in _of("nki.language", "method", of="NKIObject")]
    return _table(("`nki.language.`", "what it is"), rows)


def tensor() -> str:
    """Methods and attributes of NkiTensor: views, which no engine makes."""
    rows = [
        (name, _method(name) if name.kind == "method" else "attribute")
        for name in _of("nki.language", "method", "attribute", of="NkiTensor")
    ]
    return _table(("`nki.language.`", "what it does"), rows)


def tile_size() -> str:
    """One row a field of `nl.tile_size`, with its value on each generation."""
    rows = []
    for name in _of("nki.language", "attribute", of="tile_size"):
        values = []
        for chip in simulator.CHIPS:
            with on_machine(Machine(chip, simulator.Trace(chip, chip.targets[0]), simulator.Options())):
                values.append(str(found(name)))
        rows.append((name, *values))
    return _table(("`nki.language.`", *(f"v{chip.generation}" for chip in simulator.CHIPS)), rows)


def collectives() -> str:
    """One row a name of `nki.collectives`."""
    rows = []
    for name in _of("nki.collectives", "function"):
        i = simulator.COLLECTIVES[name.name]
        engines = ", ".join(e.name for e in i.engines)
        rows.append((name, engines, f"v{i.since}", i.summary, i.cost.text, i.cost.known))
    groups = [(name, "", "v2", _summary(found(name)), "", "") for name in _of("nki.collectives", "class")]
    return _table(("`nki.collectives.`", "engines", "from", "effect", "cost", "known"), [*rows, *groups])


def others() -> str:
    """`nki` itself and `nki.typing`."""
    rows = []
    for module in ("nki", "nki.typing"):
        for name in (*_of(module, "function", "class"), *_of(module, "method", of="Kernel")):
            rows.append((name, _summary(found(name))))
    return _table(("`nki.`", "what it does"), rows, full=True)


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]], full: bool = False) -> str:
    """Rows whose first cell is a Name, with its test and its source at their end."""
    cells = []
    for name, *rest in rows:
        shown = name.qualified.removeprefix("nki.") if full else name.name
        cells.append((code(shown), *rest, newer.since_version(name.qualified), _tested(name), _source(name)))
    return markdown_table((*header, "since", "test", "source"), cells)


def newer_names() -> str:
    """Names that the list of 0.6 has not, each with the page that gives it."""
    rows = []
    for qualified, version in sorted(newer.SINCE.items()):
        value: Any = nki
        for part in qualified.split(".")[1:]:
            value = getattr(value, part)
        what = f"dtype, {value.itemsize} bytes an element" if isinstance(value, DType) else _summary(value)
        rows.append((code(qualified), version, what, f"{qualified}.html of SDK {newer.SDK[version]}"))
    return markdown_table(("name", "since", "what it is", "source"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "instructions": instructions,
    "isa-others": isa_others,
    "language-functions": language_functions,
    "language-constants": language_constants,
    "tensor": tensor,
    "tile-size": tile_size,
    "collectives": collectives,
    "nki": others,
    "newer": newer_names,
}
