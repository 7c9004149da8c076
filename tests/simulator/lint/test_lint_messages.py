"""What findings say of the line that they are about."""

from __future__ import annotations

import pytest

from triptych.simulator import lint


@pytest.fixture
def messages(tmp_path):
    """messages(line, ..) lints a kernel of these lines."""

    def look(*lines, api="0.7"):
        path = tmp_path / "k.py"
        body = "".join(f"    {line}\n" for line in (*lines, "return x"))
        path.write_text(f"import nki\nimport nki.isa as nisa\nimport nki.language as nl\n@nki.jit\ndef k(x):\n{body}")
        return [finding.message for finding in lint.lint_file(str(path), None, None, api)]

    return look


def test_a_finding_about_a_part_of_a_call_stands_there(tmp_path):
    path = tmp_path / "k.py"
    path.write_text("import nki, nki.language as nl\n@nki.jit\ndef k(x):\n    nl.load(\n        x, mask=x)\n")
    (finding,) = lint.lint_file(str(path))
    assert (finding.line, finding.column) == (5, 17) and finding.message.startswith("nl.load has no mask= any more: ")


def test_an_operator_is_named_as_it_is_written(messages):
    told = [message.partition(";")[0] for message in messages("t = nl.load(x)", "t += 1", "y = 1 - t", "z = -t")]
    assert told == [f"NKI has no `{written}` on tensors" for written in ("+=", "-", "-")]


def test_what_is_written_for_is_says_which_of_the_two(messages):
    told = [message.partition("write ")[2] for message in messages("assert x is None", "y = x is not None", api="0.6")]
    assert told == ["x == None", "x != None"]


def test_a_long_sum_of_integers_is_an_index(messages):
    assert messages(f"y = x[{' + '.join('123456789012')}]") == []


def test_what_an_instruction_returns_is_said_of_a_call_that_leaves_arguments_out_alone(messages):
    found = messages("nisa.tensor_copy(x)", "nisa.tensor_copy(x, x, of=1)", "nl.copy()", "nl.store(x)")
    assert ["takes dst first" in message for message in found] == [True, False, False, False]


@pytest.mark.parametrize(("block", "told"), [
    ("nl.no_reorder()", 0), ("nl.no_reorder(), nl.no_reorder()", 0), ("nl.no_reorder(), open('a')", 1),
    ("open('a')", 1), ("x", 1), ("nl.no_reorder(), x", 1),
])  # fmt: skip
def test_in_0_6_no_other_block_than_no_reorder_is_documented(messages, block, told):
    assert sum("is undocumented" in message for message in messages(f"with {block}:", "    pass", api="0.6")) == told
