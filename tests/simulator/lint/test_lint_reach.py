"""What the linter reads: which functions are kernels, what they reach, and that nothing is executed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from triptych.simulator import lint

ROOT = Path(__file__).parents[3]
BAD = "nl.mgrid[0:4]"


@pytest.fixture
def lines(tmp_path):
    """lines(text) lints a file: the lines of the findings."""

    def look(text, function=None):
        path = tmp_path / "kernel.py"
        path.write_text(text)
        return [finding.line for finding in lint.lint_file(str(path), function)]

    return look


OWN = "from triptych import nki, simulator\nfrom triptych.nki import language as nl\n"
KERNELS = {
    "decorated": f"import nki, nki.language as nl\n@nki.jit\ndef k(x):\n    {BAD}\n",
    "decorated with a call": f"import nki, nki.language as nl\n@nki.jit()\ndef k(x):\n    {BAD}\n",
    "decorated by another name": f"from nki import jit as kernel, language as nl\n@kernel\ndef k(x):\n    {BAD}\n",
    "decorated twice": f"import nki, nki.language as nl\n@mine\n@nki.jit\ndef k(x):\n    {BAD}\n",
    "decorated with partial": f"import nki, nki.language as nl\n@partial(nki.jit)\ndef k(x):\n    {BAD}\n",
    "by a module of nki": f"import nki.language\nnl = nki.language\n@nki.jit\ndef k(x):\n    {BAD}\n",
    "an alias": f"import nki, nki.language as nl\nkernel = nki.jit\n@kernel\ndef k(x):\n    {BAD}\n",
    "handed to jit": f"import nki, nki.language as nl\ndef k(x):\n    {BAD}\nf = nki.jit(k)\n",
    "handed to jit()": f"import nki, nki.language as nl\ndef k(x):\n    {BAD}\nf = nki.jit()(k)\n",
    "handed to simulate": f"import nki, nki.language as nl\ndef k(x):\n    {BAD}\ndef t(): nki.simulate(k)(1)\n",
    "handed to run": f"import nki.language as nl\nfrom triptych.simulator import run\ndef k(x):\n    {BAD}\nrun(k)\n",
    "handed to predict": f"{OWN}def k(x):\n    {BAD}\nsimulator.predict(k, 1)\n",
    "handed to a simulator": f"{OWN}def k(x):\n    {BAD}\nsimulator.on('trn1').run(k, 1)\n",
    "handed to one that has a name": f"{OWN}s = simulator.on()\ndef k(x):\n    {BAD}\ndef t(): s.run_ranks(k, [])\n",
    "decorated by triptych.nki": f"{OWN}@nki.jit\ndef k(x):\n    {BAD}\n",
    "decorated in full": f"import triptych\nnl = triptych.nki.language\n@triptych.nki.jit\ndef k(x):\n    {BAD}\n",
    "inside a function": f"import nki, nki.language as nl\ndef test():\n    @nki.jit\n    def k(x):\n        {BAD}\n",
    "inside a class": f"import nki, nki.language as nl\nclass T:\n    @nki.jit\n    def k(x):\n        {BAD}\n",
    "by its class's name": f"import nki, nki.language as nl\nclass T:\n    j = nki.jit\n    @j\n    def k(x): {BAD}\n",
    "below a condition": f"if True:\n    import nki, nki.language as nl\n    @nki.jit\n    def k(x):\n        {BAD}\n",
}  # fmt: skip


@pytest.mark.parametrize("text", KERNELS.values(), ids=KERNELS)
def test_kernels_are_found(text, lines):
    assert lines(text) == [text[: text.index(BAD)].count("\n") + 1]


HEAD = "import nki\nimport nki.language as nl\n"
CLASS = "class C(nl.NKIObject):\n"
REACHED = {
    "a function that it calls": f"@nki.jit\ndef k(x):\n    f(x)\ndef f(x):\n    g(x)\ndef g(x):\n    {BAD}\n",
    "a function that it passes on": f"@nki.jit\ndef k(x):\n    nl.fori_loop(0, 2, f)\ndef f(i):\n    {BAD}\n",
    "a function inside it": f"@nki.jit\ndef k(x):\n    def f(i):\n        {BAD}\n    nl.fori_loop(0, 2, f)\n",
    "a method that it calls": f"{CLASS}    def f(self):\n        {BAD}\n@nki.jit\ndef k(x):\n    C().f()\n",
    "an __init__": f"{CLASS}    def __init__(self):\n        {BAD}\n@nki.jit\ndef k(x):\n    C()\n",
    "a method of a parameter": f"{CLASS}    def f(self):\n        {BAD}\n@nki.jit\ndef k(x: C):\n    x.f()\n",
    "a recursion": f"@nki.jit\ndef k(x):\n    f(x)\ndef f(x):\n    {BAD}\n    f(x)\n",
    "a name that a method's class has too": f"{CLASS}    nl = 1\n    def __init__(self):\n        {BAD}\n"
    "@nki.jit\ndef k(x):\n    C()\n",
}  # fmt: skip


@pytest.mark.parametrize("text", REACHED.values(), ids=REACHED)
def test_what_a_kernel_reaches_is_read(text, lines):
    text = HEAD + text
    assert lines(text) == [text[: text.index(BAD)].count("\n") + 1]


HOST = {
    "a function that no kernel calls": f"def host(x):\n    {BAD}\n",
    "the module": f"{BAD}\nprint(x is None)\n",
    "a main block": f"if __name__ == '__main__':\n    import time\n    print(time.time(), {BAD})\n",
    "a test": f"def test():\n    assert nki.simulate(k)(1) is not None\n    {BAD}\n",
    "a method that no kernel calls": f"class C:\n    def k(self):\n        {BAD}\n",
    "a function that another run is given": f"def other(x):\n    {BAD}\nthread.on('trn2').run(other)\n",
    "a function that anything else is given": f"def other(x):\n    {BAD}\nprint(other)\nrunner.run(other)\n",
    "a decorator of what no host calls": "@nl.mgrid\ndef h(x):\n    return x\n@nki.jit\ndef n(x):\n    h(x)\n",
    "a decorator": f"@nki.jit\n@wraps({BAD})\ndef other(x):\n    return x\n",
    "what another file has": f"from other import h\nf = nki.jit(h)\ndef g(x):\n    {BAD}\n",
    "handed to what another call makes": f"def h(x):\n    {BAD}\nmade = other()(h)\n",
    "a function of the kernel's parameter's name": f"def x():\n    {BAD}\n",
}


@pytest.mark.parametrize("text", HOST.values(), ids=HOST)
def test_host_code_is_left_alone(text, lines):
    assert lines(HEAD + "@nki.jit\ndef k(x):\n    return x\n" + text) == []


def test_one_function_of_a_file(lines):
    text = f"{HEAD}def a(x):\n    {BAD}\n@nki.jit\ndef b(x):\n    {BAD}\n"
    assert lines(text) == [7] and lines(text, "a") == [4] and lines(text, "b") == [7]


def test_nothing_is_executed(lines, tmp_path):
    mark = tmp_path / "ran"
    assert lines(f"open({str(mark)!r}, 'w')\n{HEAD}@nki.jit\ndef k(x):\n    return x\n") == []
    assert not mark.exists()


HELPER = f"def helper(x):\n    t = {BAD}\n    return nl.load(x)\n"
UNMARKED = {
    "a file without a decorator": f"import nki.language as nl\n{HELPER}",
    "AWS's old compiler": f"import neuronxcc.nki.language as nl\n{HELPER.replace(BAD, 'nl.mgrid[0:4]')}",
    "beside a kernel": f"{HEAD}{HELPER}@nki.jit\ndef k(x):\n    return x\n",
    "handed to jit()": f"{HEAD}{HELPER}_ = nki.jit()(helper)\n",
    "handed to a benchmark": f"{HEAD}{HELPER}_ = nki.benchmark(warmup=1)(helper)\n",
}


@pytest.mark.parametrize("text", UNMARKED.values(), ids=UNMARKED)
def test_what_issues_instructions_is_linted_without_a_decorator(text, lines):
    assert text[: text.index(BAD)].count("\n") + 1 in lines(text)


def test_a_file_that_calls_nothing_of_nki_holds_no_kernel(lines):
    with pytest.raises(lint.LintError, match="holds no kernel"):
        lines(f"import math\n{HEAD}def helper(x):\n    {BAD}\n    return math.floor(x)\n")


def test_a_function_that_no_decorator_marks_may_have_any_signature(lines):
    assert lines("import nki.language as nl\ndef helper(*, x=[1]):\n    return nl.load(x)\n") == []
    assert lines("import nki\nimport nki.language as nl\n@nki.jit\ndef helper(*, x):\n    return nl.load(x)\n") == [4]


def test_tests_are_left_alone(tmp_path):
    path = tmp_path / "kernel.py"
    path.write_text(f"{HEAD}def test_it(x):\n    nl.load({BAD})\n")
    with pytest.raises(lint.LintError, match="holds no kernel"):
        lint.lint_file(str(path))


def notebook(*cells):
    kinds = [{"cell_type": kind, "source": source, "metadata": {}} for kind, source in cells]
    return json.dumps({"cells": kinds, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def test_a_notebook_is_linted_cell_by_cell(tmp_path):
    path = tmp_path / "lab.ipynb"
    body = f"%matplotlib inline\n@nki.jit\ndef k(x):\n    {BAD}\n    return x\n"
    path.write_text(
        notebook(("code", HEAD), ("markdown", "# {"), ("code", ["%%bash\n", "ls {\n"]), ("code", body.splitlines(True)))
    )
    (finding,) = lint.lint_file(str(path))
    assert (finding.path, finding.line, finding.rule) == (f"{path}:cell 4", 4, "removed-name")
    path.write_text("{}")
    with pytest.raises(lint.LintError, match="lab.ipynb is no notebook"):
        lint.lint_file(str(path))


@pytest.mark.parametrize(
    ("content", "function", "words"),
    [
        (None, None, "cannot read .*: No such file or directory"),
        (b"x = 1\n", None, "holds no kernel: no function is decorated .*; name one, as .*kernel.py:function"),
        (b"def a(x): pass\n", "b", "has no function b; it has a"),
        (b"\n", "b", "has no function b; it has none"),
        (b"x = (\n", None, "kernel.py:1 is not Python: '\\(' was never closed"),
        (b"x = '\xff'\n", None, "is not Python"),
        (b"x = 1\0\n", None, "is not Python"),
        (b"x = " + b"-" * 60000 + b"1\n", None, "nested too deeply|not Python"),
    ],
)
def test_what_cannot_be_linted_says_so(content, function, words, tmp_path):
    path = tmp_path / "kernel.py"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(lint.LintError, match=words):
        lint.lint_file(str(path), function)


def test_what_python_itself_warns_of_is_not_ours(lines):
    assert lines(HEAD + '@nki.jit\ndef k(x):\n    print("\\d")\n    return x\n') == []


OURS = [*sorted((ROOT / "kernels" / "nki").glob("*.py")), ROOT / "harness" / "commands" / "new_template.py"]


OLDEST = {"matmul_fp8.py": "trn2", "matmul_mx.py": "trn3"}  # what uses units that older chips lack


@pytest.mark.parametrize("file", OURS, ids=lambda file: file.name)
def test_our_own_kernels_are_clean(file):
    assert lint.lint_file(str(file)) == []
    assert lint.lint_file(str(file), target=OLDEST.get(file.name, "trn1")) == []
