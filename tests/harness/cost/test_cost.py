"""Costs: the arithmetic by hand, what may be ranked, and the price at which a verdict turns."""

from __future__ import annotations

import pytest

from triptych.harness.accelerators.catalogue import OWN, Catalogue, catalogue, parse
from triptych.harness.blocks.study import Sizes
from triptych.harness.collection.llama import Llama
from triptych.harness.cost.blocks import DTYPE, block_of
from triptych.harness.cost.points import BOUND, MEASURED, PREDICTED, PUBLISHED, Point, of_publications, of_results
from triptych.harness.cost.service import prices, verdict, without_price
from triptych.harness.cost.whole import of_blocks
from triptych.harness.errors import UsageError
from triptych.harness.reports.cost.figures import Costs
from triptych.harness.reports.cost.text import markdown, page, record, text
from triptych.harness.results.result import Result
from triptych.harness.results.status import Evidence, Status
from triptych.harness.results.timing import Measured, Predicted
from triptych.harness.results.timing_accuracy import LAST_VALIDATION
from triptych.simulator.chips import TARGETS

BLOCK = block_of("llama-3.1-8b")
KNOWN = catalogue()


def at(chip: str, rows: int, us: float, evidence: str = PREDICTED) -> Point:
    return Point(KNOWN.chip(chip), rows, us, BLOCK, evidence, "by hand")


def test_a_block_by_hand() -> None:
    assert BLOCK.flops(1) == 2 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    assert BLOCK.us({"q_o_proj": 1.0, "k_v_proj": 10.0, "gate_up_proj": 100.0, "down_proj": 1000.0}) == 1222.0
    assert BLOCK.us({"q_o_proj": 1.0}) is None
    with pytest.raises(UsageError, match="unknown model 'llama'"):
        block_of("llama")


def test_costs_by_hand() -> None:
    point = at("trn2", rows=100, us=1000.0)  # eight cores, a hundred tokens a millisecond each
    assert point.tokens_per_s == pytest.approx(800_000)
    assert point.usd_per_million(3.6) == pytest.approx(3.6 / 3600 / 0.8 * 32)
    assert point.tflop_per_s == pytest.approx(8 * BLOCK.flops(100) / 1e-3 / 1e12)
    assert point.usd_per_pflop(3.6) == pytest.approx(1e-3 / (point.tflop_per_s / 1e3))


def test_the_verdict_turns_at_the_price_that_it_names() -> None:
    points = [at("trn2", 128, 900.0), at("H200", 128, 100.0, MEASURED), at("MI300X", 128, 50.0, BOUND)]
    found = verdict(1000.0, points, prices(KNOWN, "on-demand", {}))
    assert found is not None
    assert [o.point.chip.name for o in found.offers] == ["trn2", "H200"], "a bound is ranked with nothing"
    assert [o.point.chip.name for o in found.bounds] == ["MI300X"]
    turn = found.turns["H200, measured"]
    below = verdict(1000.0, points, prices(KNOWN, "on-demand", {"H200": 0.99 * turn}))
    above = verdict(1000.0, points, prices(KNOWN, "on-demand", {"H200": 1.01 * turn}))
    assert below and above
    assert (below.offers[0].point.chip.name, above.offers[0].point.chip.name) == ("H200", "trn2")
    assert found.holds is not None
    dear = verdict(1000.0, points, prices(KNOWN, "on-demand", {"trn2": 1.01 * found.holds}))
    assert dear and dear.offers[0].point.chip.name == "H200"


def test_what_is_too_slow_for_a_service_is_no_offer() -> None:
    points = [at("trn2", 128, 900.0), at("H200", 128, 100.0, MEASURED)]
    found = verdict(100.0, points, prices(KNOWN, "on-demand", {}))
    assert found is not None and [o.point.chip.name for o in found.offers] == ["H200"]
    assert verdict(99.0, points, prices(KNOWN, "on-demand", {})) is None


def test_a_chip_without_a_price_is_named() -> None:
    priced = prices(KNOWN, "reserved", {})
    assert set(priced) == {"trn1", "inf2"}
    lines = without_price(KNOWN, KNOWN.chips, priced)
    assert "trn3 is left out: no public price of it was found" in lines
    assert any(line.startswith("H200 is left out: only ") for line in lines)
    with pytest.raises(UsageError, match="unknown chip 'H2000'"):
        prices(KNOWN, "on-demand", {"H2000": 1.0})


def test_a_published_rate_is_a_bound_where_memory_is_slower() -> None:
    small, large = of_publications(BLOCK, KNOWN, [1, 4096], [KNOWN.chip("H100")])
    assert (small.evidence, large.evidence) == (BOUND, PUBLISHED)
    assert large.tflop_per_s == pytest.approx(794.5) and "cuBLAS" in large.about
    assert small.us == pytest.approx(BLOCK.bytes(1) / 3350e3)
    (unknown,) = of_publications(BLOCK, KNOWN, [4096], [KNOWN.chip("MI300X")])
    assert unknown.evidence == BOUND and unknown.tflop_per_s == pytest.approx(1307)


def measured(case: str, us: float) -> Result:
    timing = Measured(
        timer="t", evidence=Evidence.DEVICE, cache="cold", median_us=us, p10_us=us, p90_us=us, min_us=us, max_us=us,
        warmups=0, samples_us=[us],
    )  # fmt: skip
    return Result(
        op="matmul", case=case, dtype=DTYPE, backend="triton", target=None, evidence=Evidence.DEVICE,
        status=Status.PASSED, timing=timing,
    )  # fmt: skip


def test_results_become_points_where_every_projection_was_timed() -> None:
    rows = [measured(f"llama-3.1-8b/{p.name}/s2048", 100.0) for p in BLOCK.projections]
    env = {"gpus": [{"name": "NVIDIA H200", "driver": "1"}], "utc": "2026-11-29T00:00:00"}
    (point,) = of_results([(env, rows)], BLOCK, KNOWN)
    assert (point.chip.name, point.rows, point.us, point.evidence) == ("H200", 2048, 700.0, MEASURED)
    assert point.about == "matmul on triton, 2026-11-29"
    assert list(of_results([(env, rows[1:])], BLOCK, KNOWN)) == []
    assert list(of_results([({}, rows)], BLOCK, KNOWN)) == [], "a GPU that is not in the file"


def test_what_is_said_names_evidence_price_and_source() -> None:
    points = [at("trn2", 2048, 5000.0), at("trn2", 128, 900.0), at("MI300X", 2048, 100.0, BOUND)]
    costs = Costs.of(BLOCK, points, prices(KNOWN, "on-demand", {}), KNOWN)
    for said in (text(costs), markdown(costs), page(costs)):
        assert "is cheapest at" in said and "trn2" in said and "predicted" in said and "bound" in said
        assert "ap-southeast-4" in said and "2026-05" in said and "no public price" in said
    assert "<svg" in page(costs)
    found = record(costs)
    assert found["verdicts"][0]["cheapest"] == "trn2" and len(found["points"]) == 3


def test_our_file_agrees_with_the_simulators_chips() -> None:
    for chip in KNOWN.chips:
        for target in chip.targets:
            core = TARGETS[target]
            assert chip.cores == core.cores_per_device.value
            assert chip.bfloat16 == pytest.approx(chip.cores * core.peak_bf16_tflops.value, rel=0.01)
            assert chip.hbm_gb_per_s == pytest.approx(
                chip.cores / core.hbm_cores.value * core.hbm_gb_per_s.value, rel=0.01
            )


CHIP = '[[chip]]\nname="x"\nvendor="y"\ntitle="z"\nbfloat16=1\nfloat32=1\nhbm_gb_per_s=1\nsource="s"\n'


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[[chip", "is no file of accelerators"),
        ("", "missing required field `chip`"),
        (CHIP.replace("=1\nfl", "=-1\nfl"), "Expected `float` > 0"),
        (CHIP + "typo=1\n", "unknown field `typo`"),
        (
            CHIP + '[[price]]\nchip="q"\nusd_per_hour=1\nkind="spot"\nregion="r"\ndate="d"\nsource="s"\n',
            "of the chip 'q'",
        ),
        (CHIP + '[[price]]\nchip="x"\nusd_per_hour=1\nkind="free"\nregion="r"\ndate="d"\nsource="s"\n', "Invalid enum"),
    ],
)
def test_a_file_that_is_none_is_told(content: str, told: str) -> None:
    with pytest.raises(UsageError, match="accelerators.toml") as error:
        parse(content, OWN)
    assert told in str(error.value)
    assert isinstance(parse(CHIP, "mine.toml"), Catalogue)


def test_a_profile_of_a_case_is_a_prediction() -> None:
    timing = Predicted(
        timer="timing model", evidence=Evidence.PREDICTED, predicted_us=50.0, accuracy=LAST_VALIDATION, mfu=0.5,
        busy_share={},
    )  # fmt: skip
    rows = [
        Result(
            op="matmul",
            case=f"llama-3.1-8b/{p.name}/s2048",
            dtype=DTYPE,
            backend="nki-sim",
            target="trn2",
            evidence=Evidence.SIMULATED,
            status=Status.PASSED,
            timing=timing,
        )  # fmt: skip
        for p in BLOCK.projections
    ]
    (point,) = of_results([({}, rows)], BLOCK, KNOWN)
    assert (point.chip.name, point.us, point.evidence) == ("trn2", 350.0, PREDICTED)


def test_whole_blocks_are_priced_by_the_rate_of_the_chip() -> None:
    tiny = Llama("tiny", hidden=256, heads=2, kv_heads=1, head_dim=128, ffn=512, tokens=16)
    sizes = Sizes(tokens=128, sequences=2, cached=100, cache=128)
    seen: list[str] = []
    found = list(of_blocks(tiny, 3, KNOWN, ["trn2"], seen.append, sizes))
    assert [one.phase.name for one in found] == ["prefill", "decode"] and len(seen) == 2
    for one in found:
        assert {"attention", "attention_decode"} & {call.name for call in one.phase.calls}
        assert one.usd_per_million(3.6) == pytest.approx(3.6 / 3600 * 1e6 * 3 / one.phase.chip_rate)
    costs = Costs.of(BLOCK, [at("trn2", 2048, 5000.0)], prices(KNOWN, "on-demand", {}), KNOWN, found)
    assert "decode: a token of each of 2 sequences" in text(costs) and len(record(costs)["whole_blocks"]) == 2
    assert record(Costs.of(BLOCK, [], prices(KNOWN, "spot", {"trn2": 1.0}), KNOWN))["whole_blocks"] == []
