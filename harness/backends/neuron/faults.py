"""What AWS's compiler and runtime say when something is wrong, with what it means and what to do.

The codes: neuron-runtime/api/nrt_status.rst and neuron-runtime/nrtpy/nrtpy-troubleshooting.rst of SDK 2.32.
"""

from __future__ import annotations

import re

from triptych.harness.backends.neuron.parts import OVERRIDE, RUNTIME

CODES = {  # of NRT_STATUS
    2: "the runtime takes neither this NEFF nor these inputs: a name or a size differs from what was compiled",
    4: "the runtime could not get a resource: the device's memory is full, or another process holds the core; "
    "`neuron-ls` names it, and NEURON_RT_VISIBLE_CORES chooses another core",
    5: "the kernel did not end within the runtime's time: it waits for something that never comes",
    6: f"the runtime does not load it: the NEFF is for another chip than this one, for which {OVERRIDE} must stand",
    9: "too few free cores: another process holds them; `neuron-ls` names it, end it or choose others by "
    "NEURON_RT_VISIBLE_CORES",
    10: "the runtime is older than the compiler: bring aws-neuronx-runtime-lib to the version of neuronx-cc",
    13: "the runtime is not initialized: another process may hold the core; `neuron-ls` names it",
    101: "the core is stuck and answers no more: end all processes on it, or start the instance again",
    1002: "the inputs are not what the NEFF takes",
    1003: "the kernel ran, and the device met a number that is none",
    1004: "the kernel ran, and the device reports an error of its own",
    1005: "the core is busy: another process runs on it; `neuron-ls` names it",
    1006: "the kernel reads or writes out of bounds: see which index with `triptych check --backend nki-sim`",
    1204: "the queue of notifications overflowed: capture without --enable-dge-notifs",
}
SAID = (  # in what either of them prints
    (
        r"NCC_IDRV077",
        "the folder of artifacts was not empty, which the compiler refuses (NCC_IDRV077): another program writes to it",
    ),
    (
        r"libnrt\.so",
        f"the Neuron runtime is not on the library path: put {RUNTIME} on LD_LIBRARY_PATH, and install "
        "aws-neuronx-runtime-lib if it holds no libnrt.so.1",
    ),
    (
        r"(?i)neuronx-cc.*(not found|no such file)|no such file.*neuronx-cc",
        "the command neuronx-cc is not on PATH, where nki calls it",
    ),
    (
        r"(?i)(target|arch\w*|platform).{0,40}(mismatch|not match|incompatible|unsupported)",
        f"the NEFF is for another chip than this one: set {OVERRIDE} to this instance's, as trn2",
    ),
    (
        r"(?i)neuron.?cores?.{0,60}(in use|busy|held|not available)|resource busy",
        "another process holds the core; `neuron-ls` names it, end it or choose another core by "
        "NEURON_RT_VISIBLE_CORES",
    ),
)
LONGEST = 300  # characters of their own words that are told
STATUS = re.compile(r"(NRT_\w+)\s*\((\d+)\)|status(?: code)?[ =:]+(\d+)")


def sentence(text: str) -> str:
    """What went wrong, in a sentence that ends with AWS's own words."""
    told = meaning(text)
    return f"{told} ({short(text)})" if told else short(text) or "it said nothing"


def meaning(text: str) -> str | None:
    """What is known of it; None of what is not."""
    words = " ".join(text.split())
    status = STATUS.search(words)
    code = int(status[2] or status[3]) if status else None
    if code in CODES:
        return CODES[code]
    return next((told for pattern, told in SAID if re.search(pattern, words)), None)


def short(text: str) -> str:
    """Its first words, in one line."""
    words = " ".join(text.split())
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}..."
