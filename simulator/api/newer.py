"""Names that came after NKI 0.6, and with which version.

The reference of 0.6 is the list of older ones (docs/nki-names.txt). Those of 0.7 are on the pages of SDK 2.33 alone,
nki/api/generated/<name>.html, which were read in excerpts.
"""

from __future__ import annotations

from triptych.simulator.options import APIS

_NEW = {  # in 0.7
    "nki.isa": ("NkiScalar", "dependency", "scalar_load", "scalar_store", "sendrecv_compute"),
    "nki.language": (
        *("NkiBlockGrid", "NkiGrid", "NkiTileGrid", "alloc_blocks", "alloc_tiles", "blocks", "tiles"),
        *("int64", "uint64"),
    ),
    "nki.language.NkiTensor": ("data",),
    "nki.collectives": ("all_gather_v_prepare", "all_gather_v_trigger", "all_to_all_v_prepare", "all_to_all_v_trigger"),
    "nki.compiler": ("AddressRotation", "CompileConfig", "SpecializationConfig"),
}
SDK = {"0.7": "2.33"}  # whose pages give the names

# Parameters that functions of 0.6 got with 0.7.
PARAMETERS = {
    "nki.isa.NkiInstruction.depends_on": ("kind",),
    "nki.language.empty_like": ("transpose_axes", "address"),
    "nki.jit": ("compile_config", "specialization_config"),
}
SINCE = {f"{module}.{name}": "0.7" for module, names in _NEW.items() for name in names}


def since_version(name: str) -> str:
    """The version of NKI that a name came with, as far as is known; "0.6" for what was there then, or before."""
    return SINCE.get(name, "0.6")


def newer(name: str, api: str) -> bool:
    """Whether a name came after version `api`."""
    return APIS.index(since_version(name)) < APIS.index(api) and name in SINCE
