"""The parent's side of the two processes: calls of kernels through nki, and times of their NEFFs through nrtpy."""

from __future__ import annotations

import atexit
import contextlib
import json
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.backends.base import KernelFault
from triptych.harness.backends.neuron import nrtpy_child, parts
from triptych.harness.backends.neuron.faults import meaning, sentence, short
from triptych.harness.backends.neuron.nki_child import Call, Called, Failed

LAST = 4000  # characters of what a process printed that are looked through for a cause
BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); "
    "from triptych.harness.backends.neuron.nki_child import main; main()"
)


class NkiProcess:
    """A process with AWS's nki. It starts with the first call, and holds a core of the device until it is stopped."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.folder: Path | None = None

    def call(self, call: Call) -> tuple[Called, str]:
        """What came of it, and what was printed meanwhile; KernelFault says why nothing came."""
        process = self._started()
        assert process.stdin is not None and process.stdout is not None
        before = self.log.stat().st_size
        try:
            pickle.dump(call, process.stdin)
            process.stdin.flush()
            answer: Called | Failed = pickle.load(process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            code = process.wait()
            said = self._printed(before)
            self.stop()
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            raise KernelFault(
                f"the process that calls the kernel on the device ended {how}: {sentence(said)}"
            ) from None
        said = self._printed(before)
        if isinstance(answer, Called):
            return answer, said
        self.stop()  # after an error of the runtime, every further call of that process fails
        text = f"{answer.kind}: {answer.message}"
        told = meaning(text) or meaning(said[-LAST:])  # what the compiler prints may say more than the exception
        raise KernelFault(f"{f'{told} ({short(text)})' if told else short(text)}{answer.where}")

    def stop(self) -> None:
        """End the process, which lets go of its core; NEFFs stay."""
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(BrokenPipeError):
            assert process.stdin is not None
            process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def clear(self) -> None:
        """End it for good: its NEFFs go too."""
        self.stop()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    @property
    def log(self) -> Path:
        assert self.folder is not None
        return self.folder / "log"

    def _printed(self, since: int) -> str:
        with self.log.open("rb") as log:
            log.seek(since)
            return log.read().decode(errors="replace")

    def _started(self) -> subprocess.Popen[bytes]:
        if self.process is None or self.process.poll() is not None:
            self.stop()
            if self.folder is None:
                self.folder = Path(tempfile.mkdtemp(prefix="triptych-nki-"))
                (self.folder / "artifacts").mkdir()
                atexit.register(self.clear)
            chip = parts.target()
            env = {
                **parts.runtime_environment(),
                **({parts.OVERRIDE: chip} if chip else {}),
                "NKI_ARTIFACTS_DIR": str(self.folder / "artifacts"),
            }
            with self.log.open("wb") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-c", BOOT, json.dumps(sys.path)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=env,
                )
        return self.process


def timed(
    python: str,
    neff: str,
    arrays: Sequence[tuple[str, Array]],
    outputs: Sequence[tuple[str, Array]],
    budget: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, Array], dict[str, Array]]:
    """The answer of nrtpy's process for a NEFF, its outputs and its inputs afterwards; KernelFault if there is none.

    arrays: the kernel's arrays by parameter, in order
    outputs: of another run, in the kernel's order, whose shapes and dtypes those of the NEFF are read with
    """
    with tempfile.TemporaryDirectory(prefix="triptych-nrtpy-") as name:
        folder = Path(name)
        given = [_stored(folder / f"array{i}", *one) for i, one in enumerate(arrays)]
        request, answer = folder / "request.json", folder / "answer.json"
        request.write_text(json.dumps({"neff": neff, "inputs": given, **budget}))
        done = subprocess.run(
            [python, nrtpy_child.__file__, str(request), str(answer)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in parts.runtime_environment().items() if name != "PYTHONHOME"},
            check=False,
        )
        if not answer.exists():
            said = done.stdout.decode(errors="replace")[-LAST:]
            raise KernelFault(f"nrtpy's process ended with {done.returncode} and no times: {sentence(said)}")
        found = json.loads(answer.read_text())
        if "error" in found:
            raise KernelFault(f"nrtpy could not time it: {sentence(found['error'])}")
        return found, _read(found["outputs"], outputs), _read(found["changed"], arrays)


def _stored(path: Path, name: str, array: Array) -> dict[str, Any]:
    """An array as a file; one of a dtype that NumPy does not have, as integers of its size."""
    kind = array.dtype.name if array.dtype.isbuiltin == 1 else f"uint{8 * array.itemsize}"
    np.ascontiguousarray(array).tofile(path)
    return {"name": name, "file": str(path), "stored_as": kind, "shape": list(array.shape)}


def _read(kept: Sequence[dict[str, Any]], like: Sequence[tuple[str, Array]]) -> dict[str, Array]:
    sizes, wanted = [one["nbytes"] for one in kept], [x.nbytes for _, x in like]
    if sizes != wanted:
        raise KernelFault(
            f"the NEFF gives tensors of {sizes} bytes, where the kernel's own call returned {wanted}: which is "
            "which cannot be known"
        )
    return {
        name: np.fromfile(one["file"], dtype=np.uint8).view(x.dtype).reshape(x.shape)
        for one, (name, x) in zip(kept, like, strict=True)
    }
