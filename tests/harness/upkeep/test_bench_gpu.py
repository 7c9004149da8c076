"""What `make bench-gpu` judges and computes, without the GPU: its tensors lie on the CPU here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec import structs

from tests.harness.upkeep import rehearsal
from triptych.harness.backends import BACKENDS
from triptych.harness.backends.clocks import summary
from triptych.harness.collection import builtin
from triptych.harness.exit_codes import ExitCode
from triptych.harness.ops.case import Case
from triptych.harness.ops.cases import cases_of
from triptych.harness.ops.inputs import draw_inputs
from triptych.harness.reports import tables
from triptych.harness.results.document import read
from triptych.harness.results.result import Result
from triptych.harness.results.status import Cause, Evidence, Status
from triptych.harness.upkeep.figures.bench_gpu import __main__ as command
from triptych.harness.upkeep.figures.bench_gpu import calls, judged, parts, points, shares
from triptych.harness.upkeep.figures.bench_gpu.drawn import Inputs, draw
from triptych.harness.upkeep.figures.bench_gpu.session import DeviceLost
