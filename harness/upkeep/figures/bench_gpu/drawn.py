"""Inputs, drawn where the kernels run: at these sizes NumPy would take longer than everything else.

The numbers are those of the op's own generator in distribution, not in bits. Where an op is not known here, its
generator draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from triptych.harness.arrays import Array, from_torch, to_torch
from triptych.harness.backends.triton_launcher import as_held
from triptych.harness.collection.attentions.variants import with_lengths
from triptych.harness.dtypes import dtype_of
from triptych.harness.ops.case import Case
from triptych.harness.ops.inputs import draw_inputs
from triptych.harness.ops.op import Op

MOST_FLOAT8 = 240.0
BASE = 500_000.0  # rope_theta of Llama 3's config.json


@dataclass(frozen=True)
class Inputs:
    """Tensors by name as kernels take them, None and numbers beside them, and the dtypes of those that are bytes."""

    tensors: dict[str, Any]
    constants: Mapping[str, Any] = field(default_factory=dict)
    bytes_of: Mapping[str, str] = field(default_factory=dict)

    def array(self, name: str, tensor: Any) -> Array:
        """A tensor, or a piece of one, in the dtype that the reference reads."""
        return as_numbers(tensor, self.bytes_of.get(name, ""))


def as_numbers(tensor: Any, dtype: str) -> Array:
    """A tensor as an array; bytes are numbers of `dtype`, where there is one."""
    x = from_torch(tensor.contiguous())
    return x.view(dtype_of(dtype)) if dtype else x


class Generator:
    """Random tensors of a case on a device; on "meta" their shapes alone."""

    def __init__(self, case: Case, device: str) -> None:
        import torch

        self.torch, self.case, self.device = torch, case, device
        self.random = None if device == "meta" else torch.Generator(device).manual_seed(case.seed)

    def normal(self, *shape: int, width: float = 1.0, dtype: str = "") -> Any:
        """Standard normal numbers times a width, in the case's dtype."""
        wide = self.torch.randn(shape, generator=self.random, device=self.device)
        return (wide if width == 1.0 else wide * width).to(getattr(self.torch, dtype or self.case.dtype))

    def integers(self, low: int, high: int, *shape: int) -> Any:
        return self.torch.randint(low, high, shape, generator=self.random, device=self.device, dtype=self.torch.int32)

    def permutation(self, n: int) -> Any:
        return self.torch.randperm(n, generator=self.random, device=self.device).to(self.torch.int32)


def draw(op: Op, case: Case, device: str) -> Inputs:
    """The inputs of a case on a device."""
    special = DRAWN.get(op.name)
    generator = Generator(case, device)
    if special is not None:
        return special(generator, case.axes)
    if op.shapes is not None and (isinstance(op.inputs, Mapping) or op.name in PLAIN):
        widths = PLAIN.get(op.name, {})
        shapes = {
            name: [case.axes[axis] if isinstance(axis, str) else axis for axis in s] for name, s in op.shapes.items()
        }
        left_out = {name for name, axis in OPTIONAL.get(op.name, {}).items() if case.axes[axis] % 2}
        tensors = {
            name: generator.normal(*shape, width=1 / math.sqrt(case.axes[widths[name]]) if name in widths else 1.0)
            for name, shape in shapes.items()
            if name not in left_out
        }
        return Inputs(tensors, dict.fromkeys(left_out))
    found = draw_inputs(op, case)
    held = {name: x.dtype.name for name, x in found.arrays.items() if as_held(x).dtype != x.dtype}
    return Inputs({name: to_torch(as_held(x), device) for name, x in found.arrays.items()}, found.constants, held)


# Generators that draw normal numbers: by input the axis whose size, of weights, keeps the deviation of what they take.
PLAIN: dict[str, dict[str, str]] = {
    "matmul": {},
    "matmul_tiled": {},
    "matmul_mk": {},
    "matmul_batched": {},
    "attention": {},
    "attention_hopper": {},
    "attention_window": {},
    "attention_softcap": {},
    "attention_lse": {},
    "rmsnorm_backward": {},
    "gate_backward": {},
    "linear": {"w": "K"},
    "linear_transposed": {"w": "K"},
    "rmsnorm_linear": {"w": "K"},
    "gated_mlp": {"wg": "K", "wu": "K", "wd": "F"},
}
# Inputs that these generators leave out where an axis is odd.
OPTIONAL = {
    "rmsnorm_backward": {"residual": "N"},
    "gated_mlp": {"residual": "N"},
    "linear": {"bias": "N", "residual": "M"},
    "linear_transposed": {"residual": "M"},
}


def attention_inputs(g: Generator, a: Mapping[str, int]) -> dict[str, Any]:
    q, keys = g.normal(a["B"], a["H"], a["Sq"], a["D"]), (a["B"], a["Hkv"], a["Sk"], a["D"])
    return {"q": q, "k": g.normal(*keys), "v": g.normal(*keys)}


def sinks(g: Generator, a: Mapping[str, int]) -> Inputs:
    uniform = g.torch.rand(a["H"], generator=g.random, device=g.device) * 8 - 2
    return with_options(g, {**attention_inputs(g, a), "sinks": uniform.to(getattr(g.torch, g.case.dtype))})


def mask(g: Generator, a: Mapping[str, int]) -> Inputs:
    """A slope times the distance for each head, a quarter of the keys hidden, and all of them from one query."""
    t, (h, sq, sk) = g.torch, (a["H"], a["Sq"], a["Sk"])
    rows, keys = t.arange(sq, device=g.device)[:, None] + sk - sq, t.arange(sk, device=g.device)
    slopes = 2.0 ** -t.arange(1, h + 1, device=g.device)
    found = (-(rows - keys).abs()[None] * slopes[:, None, None]).to(getattr(t, g.case.dtype))
    hidden = t.rand((h, sq, sk), generator=g.random, device=g.device) < 0.25
    hidden[..., sk // 2] = False
    hidden[:, sq // 3] |= sq > 2
    return with_options(g, {**attention_inputs(g, a), "mask": found.masked_fill(hidden, -math.inf)[None]})


def segments(g: Generator, a: Mapping[str, int]) -> Inputs:
    """Sequences of about 50 tokens each."""
    begins = g.torch.rand((a["B"], a["S"]), generator=g.random, device=g.device) < 1 / 50
    return with_options(g, {**attention_inputs(g, with_lengths(a)), "segments": begins.cumsum(1).to(g.torch.int32)})


def with_options(g: Generator, tensors: dict[str, Any]) -> Inputs:
    """Those of an attention with an option, and None for the options that it does without."""
    options = {name: g.case.params.get(name) for name in ("causal", "window", "softcap")}
    left_out = {name: None for name in ("sinks", "mask", "segments") if name not in tensors}
    return Inputs(tensors, {**options, **left_out})


def backward(g: Generator, a: Mapping[str, int]) -> Inputs:
    """q, k, v and dout, and of a forward in float32, head by head, out and lse."""
    t, found = g.torch, attention_inputs(g, a)
    q, k, v = found.values()
    out, lse = t.empty_like(q), t.empty(q.shape[:3], dtype=t.float32, device=g.device)
    group, shift = a["H"] // a["Hkv"], a["Sk"] - a["Sq"]
    hidden = (
        t.ones(a["Sq"], a["Sk"], dtype=t.bool, device=g.device).triu(shift + 1) if g.case.params["causal"] else None
    )
    for b in range(a["B"]):
        for h in range(a["H"]):
            key, value = (x[b, h // group].float() for x in (k, v))
            scores = q[b, h].float() @ key.T / math.sqrt(a["D"])
            if hidden is not None:
                scores.masked_fill_(hidden, -math.inf)
            lse[b, h] = scores.logsumexp(1)
            out[b, h] = ((scores - lse[b, h, :, None]).exp_().nan_to_num_(0.0) @ value).to(out.dtype)
    return Inputs({**found, "out": out, "dout": g.normal(*q.shape), "lse": lse})


def decode(g: Generator, a: Mapping[str, int], is_float8: bool = False) -> Inputs:
    """Every sequence fills its cache, so that the bytes that the op counts are those that are read."""
    b, hkv, t, s, d, page = a["B"], a["Hkv"], a["T"], a["S"], a["D"], a.get("P", 0)
    pages = b * (s // page) + 2 if page else b
    caches = {f"{name}_cache": g.normal(pages, hkv, page or s, d) for name in "kv"}
    scales: dict[str, Any] = {}
    if is_float8:
        for name in "kv":
            wide = caches[f"{name}_cache"].float()
            scale = wide.abs().amax((0, 2, 3)) / MOST_FLOAT8 * 1.05
            caches[f"{name}_cache"], scales[f"{name}_scale"] = float8(g, wide / scale[:, None, None]), scale
    new = {"q": g.normal(b, a["H"], t, d), **{f"{name}_new": g.normal(b, hkv, t, d) for name in "kv"}}
    tensors = {**new, **caches, "lengths": g.torch.full((b,), s - t, dtype=g.torch.int32, device=g.device)}
    if page:
        tensors["page_table"] = g.permutation(pages)[: b * (s // page)].reshape(b, s // page).contiguous()
    constants = {"page_table": None} if is_float8 and not page else {}
    return Inputs({**tensors, **scales}, constants, dict.fromkeys(caches, "float8_e4m3") if is_float8 else {})


def float8(g: Generator, x: Any) -> Any:
    """The bytes of float8_e4m3 of numbers of at most 240, which PyTorch's float8_e4m3fn shares."""
    return x.clamp(-MOST_FLOAT8, MOST_FLOAT8).to(g.torch.float8_e4m3fn).view(g.torch.uint8)


def float8_operands(g: Generator, a: Mapping[str, int]) -> Inputs:
    found = {}
    for name, size in (("lhs", a["M"]), ("rhs", a["N"])):
        wide = g.normal(size, a["K"], dtype="float32")
        scale = (wide.abs().amax(1) / MOST_FLOAT8).clamp(min=2.0**-100)
        found[name] = float8(g, wide / scale[:, None]).T.contiguous(), scale
    numbers = {"lhsT": found["lhs"][0], "rhs": found["rhs"][0]}
    scales = {"lhs_scale": found["lhs"][1], "rhs_scale": found["rhs"][1]}
    return Inputs({**numbers, **scales}, {}, dict.fromkeys(numbers, "float8_e4m3"))


def mx_operands(g: Generator, a: Mapping[str, int]) -> Inputs:
    """One width for 8 neighbours in K, as channels of activations have them."""
    found = {}
    for name, size in (("lhsT", a["M"]), ("rhs", a["N"])):
        widths = g.torch.exp2(g.integers(-10, 1, -(-a["K"] // 8)).float()).repeat_interleave(8)[: a["K"], None]
        found[name] = (g.normal(a["K"], size).float() * widths).to(getattr(g.torch, g.case.dtype))
    return Inputs(found)


def rope(g: Generator, a: Mapping[str, int]) -> Inputs:
    """cos and sin of the angles of tokens anywhere in 8192."""
    t, s, d = g.torch, a["S"], a["D"]
    at = g.integers(0, 8192, s).double()
    angles = at[:, None] * BASE ** (-t.arange(0, d, 2, device=g.device).double() / d)
    tables = {name: x.to(getattr(t, g.case.dtype)) for name, x in (("cos", angles.cos()), ("sin", angles.sin()))}
    return Inputs({"x": g.normal(s, a["H"], d), **tables})


DRAWN: dict[str, Callable[[Generator, Mapping[str, int]], Inputs]] = {
    "attention_sinks": sinks,
    "attention_mask": mask,
    "attention_packed": segments,
    "attention_backward": backward,
    "attention_decode": decode,
    "attention_decode_paged": decode,
    "attention_prefill": decode,
    "attention_decode_fp8": lambda g, a: decode(g, a, is_float8=True),
    "attention_decode_fp8_paged": lambda g, a: decode(g, a, is_float8=True),
    "matmul_fp8": float8_operands,
    "matmul_mx": mx_operands,
    "rope": rope,
}
