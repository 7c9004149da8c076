"""Each rule of the linter on its two examples, and on what it must find or leave alone beside them."""

from __future__ import annotations

import pytest

from triptych.simulator import lint

HEADER = "import nki\nimport nki.isa as nisa\nimport nki.language as nl\n"
CHIP = {"generation": "trn2"}


@pytest.fixture
def found(tmp_path):
    """found(text) lints `text` below the usual imports: the findings as (rule, line of text)."""

    def look(text, target=None, api="0.7"):
        path = tmp_path / "kernel.py"
        path.write_text(HEADER + text)
        return [(f.rule, f.line - HEADER.count("\n")) for f in lint.lint_file(str(path), None, target, api)]

    return look


@pytest.mark.parametrize("rule", lint.RULES.values(), ids=list(lint.RULES))
def test_the_bad_example_breaks_exactly_its_rule_and_the_good_one_none(rule, found):
    api = rule.until or "0.7"
    assert [id for id, _ in found(rule.bad, CHIP.get(rule.id), api)] == [rule.id]
    assert found(rule.good, CHIP.get(rule.id), api) == []


@pytest.mark.parametrize("rule", [r for r in lint.RULES.values() if r.until or r.since], ids=lambda r: r.id)
def test_a_rule_holds_in_its_versions_alone(rule, found):
    for api in ("0.7", "0.6", "0.3"):
        holds = api == "0.7" if rule.since else api != "0.7"
        assert (rule.id in [id for id, _ in found(rule.bad, None, api)]) is holds
        assert (rule.severity_in(api) is not None) is holds


@pytest.mark.parametrize("rule", [r for r in lint.RULES.values() if r.warns_since], ids=lambda r: r.id)
def test_what_the_pages_of_0_7_do_not_show_is_a_warning_there(rule):
    assert (rule.severity_in("0.7"), rule.severity_in("0.6")) == (lint.WARNING, lint.ERROR)


def test_a_nonlocal_of_a_function_around_the_kernel_is_outer_state_alone(found):
    text = "def make(n):\n    @nki.jit\n    def kernel(x):\n        nonlocal n\n        n = 1\n        return x\n"
    assert found(text, None, "0.6") == found(text) == [("outer-state", 4)]


def test_a_while_loop_over_no_register_is_pythons_own(found):
    own = kernel("n = 3", "while n:", "    n -= 1")
    counter = kernel("def body(i):", "    while i:", "        pass", "nl.fori_loop(0, 4, body)")
    register = kernel("r = nisa.register_alloc(3)", "while r:", "    pass")
    dynamic = kernel("for i in nl.dynamic_range(4):", "    print(i)", "nisa.memset(x, 0).depends_on(x)")
    texts = (own, counter, register, dynamic)
    for text, rules in zip(texts, ([], ["deprecated"], ["deprecated"], ["deprecated"]), strict=True):
        assert [id for id, _ in found(text, None, "0.6")] == rules


def test_python_that_0_7_traces_has_no_finding_and_has_some_in_0_6(found):
    """The features that its announcement names: generators and inheritance; nested jit is inlined."""
    text = (
        "class Tiles:\n    def each(self, x):\n        for i in range(2):\n            yield x[i]\n"
        "class More(Tiles):\n    pass\n"
        "@nki.jit\ndef part(x):\n    return [nl.load(t) for t in More().each(x)]\n"
        "@nki.jit\ndef kernel(x):\n    part(x)\n    return x\n"
    )
    assert found(text) == []
    assert {id for id, _ in found(text, None, "0.6")} == {"class-base", "undocumented", "nested-jit"}


@pytest.mark.parametrize("rule", lint.RULES.values(), ids=list(lint.RULES))
def test_a_rule_is_a_whole_row(rule):
    assert rule.severity in (lint.ERROR, lint.WARNING)
    assert rule.statement.endswith(".") and rule.source.startswith(("nki/", "nki.", "release-notes/"))
    assert rule.bad != rule.good


def kernel(*lines, parameters="x", above=""):
    body = "".join(f"    {line}\n" for line in (*lines, "return x"))
    return f"{above}@nki.jit\ndef kernel({parameters}):\n{body}"


ENUM = "from enum import Enum\nclass E(Enum):\n    a = 1\n"
STATE = "state = {}\n"
BREAKS = [
    ("identity", kernel("assert x.dtype is not nl.float32")),
    ("value", kernel("print(2j)")),
    ("value", kernel("print(b'bytes')")),
    ("value", kernel("print(1e39)")),
    ("value", kernel("print(-4294967296)")),
    ("dict-key", kernel("print({(0, 1): 2})")),
    ("dict-key", kernel("print({None: 2})")),
    ("for-iterable", kernel("for a, b in zip(sizes, sizes):", "    print(a)", parameters="x, sizes")),
    ("undocumented", kernel("del x.shape")),
    ("undocumented", kernel("print([i for i in range(3)])")),
    ("tensor-operator", kernel("t = nl.load(x)", "u = t - t")),
    ("tensor-operator", kernel("s = nl.zeros((4, 4), nl.float32)", "for i in range(4):", "    s += nl.load(x)")),
    ("tensor-operator", kernel("s = nl.zeros((4, 4), nl.float32)", "s[0:2] += nl.load(x)")),
    ("tensor-operator", kernel("t = nl.load(x)", "y = -t")),
    ("tensor-operator", kernel("t = nl.load(x)", "y = nl.where(t > 0, t, 0.0)")),
    ("tensor-operator", kernel("s = nl.load(x)", "s += nisa.reciprocal(s, s)")),
    ("array-index", kernel("y = nl.load(x[np.arange(4)])", above="import numpy as np\n")),
    ("array-index", "import numpy as np\ndef make(n):\n    i = np.arange(n)[:, None]\n    @nki.jit\n"
                    "    def kernel(x):\n        y = nl.load(x[4 + i, 0])\n        return x\n"),
    ("removed-name", "def make(n):\n    i = nl.arange(n)\n    @nki.jit\n    def kernel(x):\n"
                     "        print(i)\n        return x\n"),
    ("removed-name", "P = nl.par_dim(4)\n" + kernel("print(P)")),
    ("engine", kernel("nisa.tensor_copy(x, x, engine=nisa.engine.tensor)")),
    ("engine", kernel("nisa.dma_copy(x, x, dge_mode=nisa.dge_mode.hwdge, engine=nisa.engine.gpsimd)")),
    ("removed-loop", kernel("r = nisa.register_alloc(1)", "while r:", "    nisa.register_load(r, x)")),
    ("register-branch", kernel("r = nisa.register_alloc(1)", "if r == 1:", "    print(x)")),
    ("register-branch", kernel("r = nisa.register_alloc(1)", "y = 1 if r else 2")),
    ("register-branch", kernel("r = nisa.register_alloc(1)", "y = not r")),
    ("register-branch", kernel("r = nisa.register_alloc(1)", "y = int(r)")),
    ("register-branch", kernel("r = nisa.register_alloc(1)", "for i in range(r):", "    print(i)")),
    ("register-branch", kernel("def body(i):", "    if i:", "        print(x)", "nl.fori_loop(0, 2, body)")),
    ("deprecated", kernel("a = nisa.memset(x, 0)", "a.depends_on(a)")),
    ("unpaired-prepare", "import nki.collectives as ncc\n"
                         + kernel("ncc.all_gather_v_prepare([x], [x], g, m)", parameters="x, g, m")),
    ("undocumented", kernel("print({1, 2})")),
    ("undocumented", kernel("print(max(i for i in range(3)))")),
    ("undocumented", kernel("print(*x.shape)")),
    ("undocumented", kernel("print(**options)", parameters="x, options")),
    ("undocumented", kernel("if (n := x.shape[0]) > 1:", "    print(n)")),
    ("undocumented", kernel("try:", "    print(x)", "except ValueError:", "    print(0)")),
    ("undocumented", kernel("with scope(x):", "    print(x)", parameters="x, scope")),
    ("undocumented", kernel("match x.ndim:", "    case 2:", "        print(x)")),
    ("undocumented", kernel("import math", "print(math.ceil(0.5))")),
    ("undocumented", kernel("print(x)", parameters="*x")),
    ("undocumented", kernel("print(options)", parameters="x, **options")),
    ("undocumented", kernel("n = 0", "def body(i):", "    nonlocal n", "    n = 1", "nl.fori_loop(0, 2, body)")),
    ("class-base", kernel("print(Both(1))", above="class Both(nl.NKIObject, dict):\n    pass\n")),
    ("class-base", kernel("print(C(1))", above="from typing import NamedTuple\nclass C(NamedTuple):\n    n: int\n")),
    ("class-base", kernel(parameters="x, c: C", above="from attrs import define\n@define\nclass C:\n    n: int\n")),
    ("enum-operator", kernel("print(E.a + 1)", above=ENUM)),
    ("enum-operator", kernel("assert E.a < n != 0", above=ENUM, parameters="x, n")),
    ("keyword-only", kernel(parameters="x, *, a, b=2")),
    ("keyword-only", kernel("kernel(x, a=a)", parameters="x, *, a")),
    ("no-arguments", "def kernel():\n    return nl.zeros((1, 1), nl.int8, nl.shared_hbm)\nnki.simulate(kernel)()\n"),
    ("output-buffer", "@nki.jit\ndef kernel(x):\n    return x, nl.ndarray((4, 4), x.dtype, buffer=nl.private_hbm)\n"),
    ("impure-call", kernel("print(time.time())", above="import time\n")),
    ("impure-call", kernel("print(now())", above="from time import perf_counter as now\n")),
    ("impure-call", kernel("print(np.random.rand())", above="import numpy as np\n")),
    ("impure-call", kernel("open('log', 'w')")),
    ("impure-call", kernel("import os  # triptych: allow undocumented", "print(os.environ)")),
    ("outer-state", kernel("state['n'] = 1", above=STATE)),
    ("outer-state", kernel("state['n'] += 1", above=STATE)),
    ("outer-state", kernel("settings['n'] = 1", above="from elsewhere import settings\n")),
    ("outer-state", kernel("n = 1", "def f(i):", "    global n", "    n = 2", "nl.fori_loop(0, 2, f)")),
    ("outer-state", kernel("state['a'], y = 1, 2", above=STATE)),
    ("outer-state", kernel("state.setdefault('n', 1)", above=STATE)),
    ("outer-state", kernel("global state", "state = x.shape", above=STATE)),
    ("outer-state", "def make(n):\n    @nki.jit\n    def kernel(x):\n        nonlocal n\n        n = 1\n"),
    ("changing-global", kernel("print(state['n'])", above=STATE + "def set(n):\n    state['n'] = n\n")),
    ("removed-name", kernel("print(nki.language.arange(4))")),
    ("removed-name", "from nki.language import par_dim\n" + kernel("print(par_dim(4))")),
    ("removed-name", "@nki.benchmark(warmup=1)\ndef kernel(x):\n    return x\n"),
    ("removed-name", "import neuronxcc.nki as old\n@old.jit\ndef kernel(x):\n    return x\n"),
    ("removed-name", "import neuronxcc.nki.language as ol\n" + kernel("print(ol.float32)")),
    ("unknown-name", kernel("print(nisa.tensor_scaler)")),
    ("unknown-name", kernel("print(nisa.engine.pool)")),
    ("unknown-name", "from nki.language import loads\n" + kernel("print(loads(x))")),
    ("older-name", kernel("for i in nl.range(4):", "    print(i)")),
    ("older-name", kernel("print(nki.dtype.float32)")),
    ("removed-argument", kernel("nisa.dma_copy(dst=x, src=x, dst_rmw_op=nl.add)")),
    ("removed-argument", kernel("nisa.tensor_copy(x, x, dtype=nl.float32)")),
    ("removed-argument", "@nki.jit(platform_target='trn2')\ndef kernel(x):\n    return x\n"),
    ("call", kernel("nisa.reciprocal(x)")),
    ("call", kernel("nl.add(x, x, x, x)")),
    ("tensor-operator", kernel("s = nl.load(x)", "s += 1")),
    ("named-member", kernel("nisa.dma_copy(x, x, dge_mode=2)")),
    ("tensor-operator", kernel("y = 2 * nl.load(x)")),
    ("tensor-operator", kernel("y = nl.load(x)[0:2] < 3")),
    ("tensor-operator", kernel("y = -nl.load(x)")),
    ("tensor-operator", kernel("y = ~nl.logical_and(x, x)")),
    ("not-on-hardware", kernel("print(nl.mod(x, x))")),
    ("deprecated", "@nki.jit(mode='jax')\ndef kernel(x):\n    return x\n"),
    ("identity", kernel("assert x is y is None", parameters="x, y")),
    ("undocumented", "def make(m):\n    @nki.jit\n    def kernel(x):\n        n = 0\n        def body(i):\n"
                     "            nonlocal n, m\n            n = 1\n        nl.fori_loop(0, 2, body)\n"),
    ("array-index", kernel("y = x[a8]", above="import numpy as np\na0 = np.arange(4)\n"
                           + "".join(f"a{n} = a{n - 1}\n" for n in range(1, 9)))),
    ("tensor-operator", kernel("y = 1 + nisa.reciprocal(x, x)")),
    ("array-index", kernel("i = np.arange(4)", "y = x[i]", above="import numpy as np\n")),
    ("array-index", kernel("y = x[0, np.arange(4) if x else 1]", above="import numpy as np\n")),
    ("array-index", kernel("i = [[np.arange(4)]]", "y = x[np.mgrid[0:4][0][0], 1]", above="import numpy as np\n")),
    ("removed-name", "from nki.language import arange\nI = arange(4)\n" + kernel("print(I)")),
    ("unknown-name", kernel("print(nl.no_such.name)")),
    ("older-name", kernel("print(nisa.constants.engine)")),
    ("removed-name", "from neuronxcc.nki.typing import tensor\n" + kernel("print(tensor)")),
    ("call", kernel("nl.fori_loop(0, 4)")),
    ("register-branch", kernel("r = nisa.register_alloc(1)", "y = r and x")),
    ("register-branch", kernel("r = nisa.register_alloc(1)", "y = bool(r)")),
    ("outer-state", kernel("del state['n']", above=STATE)),
    ("outer-state", kernel("[state['a'], y] = 1, 2", above=STATE)),
    ("outer-state", kernel("y, *state['a'] = 1, 2", above=STATE)),
    ("outer-state", kernel("state['a']: int = 1", above=STATE)),
    ("outer-state", kernel("np.seed = 1", above="import numpy as np\n")),
    ("changing-global", kernel("print(state['n'])",
                               above=STATE + "def set(other):\n    other[0] = 1\n    state['n'] = other\n")),
    ("class-equality", kernel("a = Tile()", "assert a != x", above="class Tile:\n    pass\n")),
    ("value", kernel("print(4294967296)")),
    ("value", kernel("print(-3.5e38)")),
    ("for-iterable", kernel("for i in itertools.product(x, x):", "    print(i)", above="import itertools\n")),
    ("loop-tensor", kernel("kept = []", "def body(i):", "    t = nl.load(x)", "    kept.insert(0, t)",
                           "nl.fori_loop(0, 2, body)")),
    ("loop-tensor", kernel("kept = []", "def body(r):", "    t = nl.load(x)", "    kept.append(t)", "    return r",
                           "nl.while_loop(r, body_fun=body)", parameters="x, r")),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "text"), BREAKS, ids=[f"{rule}-{i}" for i, (rule, _) in enumerate(BREAKS)])
def test_breaks(rule, text, found):
    assert [id for id, _ in found(text, None, lint.RULES[rule].until or "0.7")] == [rule]


NESTS = {
    "a condition": "({} if x else 1)",
    "the other side of one": "(1 if x else {})",
    "a sum": "(1 + {})",
    "a product": "({} * 2)",
    "a list": "{}[0]",
}


@pytest.mark.parametrize("nest", NESTS.values(), ids=NESTS)
@pytest.mark.parametrize(("times", "expected"), [(9, ["array-index"]), (10, [])])
def test_an_array_is_found_nine_deep(nest, times, expected, found):
    array = "np.arange(4)"
    for _ in range(times):
        array = nest.format(array)
    assert [id for id, _ in found(kernel(f"y = x[{array}]", above="import numpy as np\n"))] == expected


FINE = {
    "a name with two values": kernel("f[0:4]", above="f = nl.mgrid\nf = other\n"),
    "an index by names that are each other's": kernel("y = x[a]", above="a = b\nb = a\n"),
    "a dictionary of what is computed": kernel("print({x.dtype: 1, str(x): 2, **more})"),
    "what AWS's kernels are made of": kernel(
        "tiles = []",
        "for i in nl.affine_range(4):",
        "    tiles.append(nl.ndarray((128, 4), x.dtype, buffer=nl.sbuf))",
        "sizes = [tiles[0].shape[0]]",
        "names = {'a': 1}",
        "assert len(sizes) == 4, f'{names}'",
        "n = min(sizes[0], 5) if x.ndim == 2 else math.ceil(0.5)",
        "with nl.no_reorder():",
        "    nisa.memset(dst=tiles[0], value=-3.4028235e+38)",
        "if n > 0xFFFFFFFF:",
        "    raise ValueError(float('inf'))",
        "def body(i):",
        "    nisa.memset(tiles[0], value=0.0)",
        "nl.fori_loop(0, 4, body)",
        above="import math\n",
    ),
    "numbers have operators, and so do shapes": kernel("n = 2 * x.shape[0] - 1", "s = nl.load(x)", "n += s.shape[0]"),
    "what a function or a dtype has": kernel("print(nl.float32.itemsize, nl.load.name, nisa.engine.vector.name)"),
    "a question whether a tensor is there": kernel("t = nl.load(x)", "assert t != None"),
    "a register that is there or not": kernel("r = nisa.register_alloc(1)", "assert r != None"),
    "an array that no tensor is indexed with": kernel("n = np.arange(4)[0]", above="import numpy as np\n"),
    "operators named like a set's methods": kernel("y = nl.add(nl.load(x), nl.load(x))"),
    "a default that is None": kernel("assert bias == None", parameters="x, bias=None"),
    "an enumeration": kernel("assert mode == E.a", above="from enum import Enum\nclass E(Enum):\n    a = 1\n"),
    "an error of one's own": kernel("raise Bad(x)", above="class Bad(ValueError):\n    pass\n"),
    "a global that stays": kernel("print(SIZES['a'])", above="SIZES = {}\nSIZES['a'] = 1\n"),
    "a local of the same name": kernel("state = {}", "state['n'] = 1", above=STATE),
    "a tensor of before that a loop's body keeps": kernel(
        "kept = []",
        "t = nl.load(x)",
        "def body(r):",
        "    kept.append(t)",
        "    return r",
        "nl.while_loop(r, body_fun=body)",
        parameters="x, r",
    ),
    "a parameter called nl": kernel("print(nl.no_such_name)", parameters="x, nl"),
    "functions of one's own that prepare": kernel(
        "my_prepare(x)", "mine.tiles_prepare(x)", above="import mine\ndef my_prepare(x):\n    pass\n"
    ),
    "a subkernel's tensor in private HBM": (
        "def part(x):\n    t = nl.ndarray(x.shape, x.dtype, buffer=nl.private_hbm)\n    return t\n" + kernel("part(x)")
    ),
    "an output of a function that is told of another memory": (
        "def part(x, of):\n    return x\n@nki.jit\ndef kernel(x):\n    return part(x, of=nl.private_hbm)\n"
    ),
    "a name that may be anything": kernel(
        "t = nl.load(x)", "t = part(x)", "y = t + 1", above="def part(x):\n    return 3\n"
    ),
    "a name for a tensor and for what an instruction gives": kernel(
        "t = nl.load(x)", "t = nisa.get_nc_version()", "y = t + 1", "z = t < 2"
    ),
    "a buffer that is left open": kernel("t = nl.zeros_like(x, buffer=None)"),
    "an option that is None": kernel("nisa.dma_copy(dst=x, src=x, priority=None)"),
    "an argument that another function calls as NKI does": kernel(
        "f(x, engine=nisa.engine.tensor, buffer='sbuf', dge_mode=3)", parameters="x, f"
    ),
    "an argument of another name": kernel("nisa.memset(x, value=0.0, name=nisa.engine.scalar)"),
    "an engine that triggers a transfer": kernel(
        "nisa.dma_copy(x, x, dge_mode=nisa.dge_mode.hwdge, engine=nisa.engine.sync)",
        "nisa.dma_copy(x, x, dge_mode=nisa.dge_mode.hwdge, engine=nisa.engine.scalar)",
    ),
    "an engine of another kind": kernel(
        "nisa.memset(x, value=0.0, engine=nl.sbuf)", "nisa.memset(x, 0.0, engine=None)"
    ),
    "arguments that are not seen": kernel(
        "nisa.memset(*x)  # triptych: allow undocumented",
        "nisa.memset(x, **y)  # triptych: allow undocumented",
        parameters="x, y",
    ),
    "names of other modules": kernel(
        "print(mine.arange(4), load(x), part)",
        above="from .nki.language import arange, load\nfrom . import part\nfrom ..nki import language as mine\n",
    ),
    "a path": kernel("print(os.path.join('a', 'b'))", above="import os\n"),
    "what is changed has no name": kernel("f(x).append(1)", "f(x)[0] = 1", parameters="x, f"),
    "a name that nothing binds": kernel(
        "print(nothing)", "nothing.append(1)", "y = x[nothing]", "assert nothing == 1", "return nothing"
    ),
    "a global that is read": kernel("global state", "print(state)", above=STATE),
    "a function and a module that the host changes": kernel(
        "print(f, np)", above="import numpy as np\ndef f(y):\n    pass\ndef host():\n    f.n = 1\n    np.n = 1\n"
    ),
    "a local of the host's of the same name": kernel(
        "print(state)", above=STATE + "def host():\n    state = {}\n    state['n'] = 1\n"
    ),
    "a global that the host declares and reads": kernel(
        "print(state)", above=STATE + "def host():\n    global state\n    print(state)\n"
    ),
    "what a function around the kernel keeps": (
        "def make():\n    n = {}\n    def host():\n        n['a'] = 1\n    @nki.jit\n    def kernel(x):\n"
        "        print(n)\n        return x\n"
    ),
    "a field of a class that the host has made": kernel(
        "C()", above="I = nl.mgrid\nclass C(nl.NKIObject):\n    i = I\n    j = nl.mgrid\n"
    ),
    "a loop that is told no function of the file": kernel("nl.fori_loop(0, 2, nl.add)"),
    "a loop whose body keeps what it may": kernel(
        "kept = []",
        "def body(i, given):",
        "    t = nl.load(x)",
        "    mine = []",
        "    mine.append(t)",
        "    u = f(x)",
        "    kept.append(u)",
        "    kept.append(given)",
        "    kept.append(4)",
        "    kept.count(t)",
        "    x.kept.append(t)",
        "nl.fori_loop(0, 2, body)",
        parameters="x, f",
    ),
    "the counter's name for something else": kernel(
        "def body(i):", "    i = 3", "    if i:", "        print(x)", "nl.fori_loop(0, 2, body)"
    ),
    "a register's name for something else too": kernel(
        "r = nisa.register_alloc(1)", "r = x.shape[0]", "if r:", "    print(x)"
    ),
    "a register's negative": kernel("r = nisa.register_alloc(1)", "y = -r"),
    "an expression that prepares something else": kernel(
        "'all_gather_v_prepare'", "f.all_prepare(x)", parameters="x, f"
    ),
    "names that stand for each other": kernel("print(a.c)", above="a = b\nb = a\n"),
    "a loop's variable beside what adds to another": kernel(
        "n = 1", "n += 1", "for t in y:", "    print(t)", "t = nl.load(x)", "z = t + 1", parameters="x, y"
    ),
    "a bare return": "@nki.jit\ndef kernel(x):\n    return\n",
    "a decorator with a mode of its own": "@wrap(mode='jax')\n@nki.jit\ndef kernel(x):\n    return x\n",
    "a kernel that calls itself": kernel("kernel(x)"),
    "an attribute of a function or a class": kernel(
        "print(f.calls + 1, C.n + 1)", above="def f(y):\n    pass\nclass C(nl.NKIObject):\n    n = 1\n"
    ),
    "positional-only parameters": "@nki.jit\ndef kernel(x, /):\n    return x\n",
    "values of 32 bits": kernel("print(4294967295, -2147483648, 3.4028235e38, 1e999, True)"),
    "a loop over a name": kernel("for i in y:", "    print(i)", parameters="x, y"),
    "a loop over a list": kernel(
        "for i in sorted(x.shape):", "    print(i)", "for i in f.zip(x):", "    print(i)", parameters="x, f"
    ),
    "an import with a fallback": (
        "try:\n    import nki.language as tl\nexcept ImportError:\n    import neuronxcc.nki.language as tl\n"
        + kernel("print(tl.float32)")
    ),
}


PSUM = "t = nl.ndarray((4, 4), nl.float32, buffer=nl.psum)"
STARTS = {
    "of what was filled": (["t = nl.zeros((4, 4), nl.float32)", "nisa.nc_matmul(t, x, x, accumulate=True)"], True),
    "by name": (["t = nl.full((4, 4), 2, nl.float32)", "nisa.nc_matmul(dst=t, accumulate=True)"], True),
    "of what was filled in one of two ways": (
        ["t = nl.ones((4, 4))", "t = nl.load(x)", "nisa.nc_matmul(t, x, x, accumulate=True)"],
        False,
    ),
    "of memory": ([PSUM, "nisa.nc_matmul(t, x, x, accumulate=True)"], False),
    "of an argument": (["nisa.nc_matmul(x, x, x, accumulate=True)"], False),
    "where it is not said": (["t = nl.zeros((4, 4), nl.float32)", "nisa.nc_matmul(t, x, x)"], False),
    "where it does not add": (["t = nl.zeros((4, 4), nl.float32)", "nisa.nc_matmul(t, x, x, accumulate=False)"], False),
    "where it may add": (["t = nl.zeros((4, 4), nl.float32)", "nisa.nc_matmul(t, x, x, accumulate=y)"], False),
    "of nothing": (["nisa.nc_matmul(accumulate=True)"], False),
    "by another instruction": (["t = nl.zeros((4, 4), nl.float32)", "f(t, x, x, accumulate=True)"], False),
}


@pytest.mark.parametrize(("lines", "told"), STARTS.values(), ids=STARTS)
def test_the_first_matmul_onto_a_tile_starts_it(lines, told, found):
    text = kernel(*lines, parameters="x, y, f")
    for target, holds in ((None, True), ("trn1", True), ("trn2", True), ("trn3", False)):
        rules = [id for id, _ in found(text, target)]
        assert ("psum-start" in rules) is (told and holds)


def test_a_name_of_the_kernels_own_for_one_of_nki_is_that_one(found):
    assert found(kernel("f = nl.arange", "print(f(4))")) == [("removed-name", 3), ("removed-name", 4)]


def test_an_instruction_without_dst_gives_back_what_has_operators(found):
    given = "y = nisa.get_nc_version() + 1", "y = nisa.scalar_load(x) + 1", "y = nl.load(x).shape[0] + 1"
    assert found(kernel(*given)) == []


FINE_NOW = {  # and not before NKI 0.7
    "an instruction's handle": kernel(
        "a = nisa.memset(x, 0)",
        "nisa.memset(x, 0).depends_on(a, kind=nisa.dependency.schedule)",
        "a.depends_on(a, **x)",
    ),
    "comprehensions": kernel("sizes = [t.shape[0] for t in x]"),
    "any signature": "@nki.jit\ndef kernel(*x, scale):\n    return x\n",
    "a signature that takes keywords": "@nki.jit\ndef kernel(**x):\n    return x\n",
    "a kernel that another one calls": (
        "@nki.jit\ndef part(*, y=[1]):\n    return nl.zeros((1, 1), nl.int8, buffer=nl.hbm)\n" + kernel("part()")
    ),
    "classes that say when they are equal": kernel(
        *("a = Own()", "assert a == x", "a = Data()", "assert a == x", "a = More()", "assert a == x"),
        *("a = Other()", "assert a == x"),
        above="class Own:\n    def __eq__(self, o):\n        return 1\n@dataclass\nclass Data:\n    pass\n"
        "class More(Own):\n    pass\nclass Other(elsewhere.Base):\n    pass\n",
    ),
    "comparisons of other things": kernel(
        *("a = Own()", "assert a < x", "b = f(x)", "assert b == x", "c = nl.load(x)", "assert c == x"),
        above="class Own:\n    pass\ndef f(y):\n    return y\n",
    ),
}
SINCE = [(text, api) for api in ("0.7", "0.6", "0.3") for text in FINE] + [(text, "0.7") for text in FINE_NOW]


@pytest.mark.parametrize(("text", "api"), SINCE)
def test_what_must_not_be_found(text, api, found):
    assert found((FINE | FINE_NOW)[text], None, api) == []


@pytest.mark.parametrize(
    ("line", "target", "expected"),
    [
        ("nisa.exponential(dst=x, src=x)", None, []),
        ("nisa.exponential(dst=x, src=x)", "trn3", []),
        ("nisa.exponential(dst=x, src=x)", "trn2", ["generation"]),
        ("nisa.range_select", "trn1", ["generation"]),
        ("nisa.range_select", "trn2", []),
        ("print(nl.abs_max)", "trn2", ["generation"]),
        ("nisa.activation(dst=x, op=nl.square, data=x)", "trn1", []),  # an activation, and an ALU operator since v4
        ("print(nisa.dge_mode.hwdge)", "trn1", ["generation"]),
        ("nisa.dma_copy(dst=x, src=x, priority=1)", "trn2", ["generation"]),
        ("nisa.dma_copy(dst=x, src=x, priority=None)", "trn2", []),
        ("nisa.dma_copy(dst=x, src=x, priority=1)", "trn3", []),
        ("print(x, priority=1)", "trn2", []),
        ("if x.ndim == 2: nisa.exponential(dst=x, src=x)", "trn2", []),  # a kernel may choose by generation
        ("y = nl.abs_max if x.ndim == 2 else nl.add", "trn2", []),
        ("x.ndim == 2 and nisa.exponential(dst=x, src=x)", "trn2", []),
        ("for i in range(4): nisa.exponential(dst=x, src=x)", "trn2", ["generation"]),
        ("nisa.tensor_copy(x, x, engine=nisa.engine.scalar)", "trn1", ["generation"]),
        ("nisa.tensor_copy(x, x, engine=nisa.engine.scalar)", "trn2", []),
        ("nisa.tensor_copy(x, x, engine=nisa.engine.unknown)", "trn1", []),
    ],
)
def test_what_a_chip_lacks(line, target, expected, found):
    assert [id for id, _ in found(kernel(line), target)] == expected


def test_whether_a_function_runs_that_no_kernel_calls_is_known_where_there_is_none(found):
    part = "def part(x):\n    nisa.exponential(dst=x, src=x)\n"
    assert found(part, "trn2") == [("generation", 2)]
    assert found(part + kernel(), "trn2") == []


def test_the_versions_of_a_rule_are_told_in_words():
    told = {rule.id: rule.versions for rule in lint.RULES.values()}
    expected = {
        "call": "all",
        "slots": "until 0.6",
        "register-branch": "since 0.7",
        "outer-state": "a warning since 0.7",
    }
    assert {id: told[id] for id in expected} == expected


def test_what_follows_a_return_may_not_run(found):
    text = kernel("if nisa.get_nc_version() == nisa.nc_version.gen3:", "    return x", "nisa.exponential(dst=x, src=x)")
    assert found(text, "trn2") == []


def test_a_function_called_under_a_condition_may_not_run(found):
    part = "def part(x):\n    nisa.exponential(dst=x, src=x)\n"
    assert found(part + kernel("if x.ndim == 2:", "    part(x)"), "trn2") == []
    assert found(part + kernel("part(x)"), "trn2") == [("generation", 2)]


def test_findings_say_where_and_what_to_do(tmp_path):
    path = tmp_path / "k.py"
    path.write_text(HEADER + kernel("nisa.memset(x, valeu=0)", "i = nl.arange(4)"))
    first, second = lint.lint_file(str(path))
    assert (first.line, first.column, second.line, second.column) == (6, 5, 7, 9)
    assert str(second) == (
        f"{path}:7:9: error removed-name nl.arange is not in NKI 0.7: use slices "
        "[nki/migration/index.rst; release-notes/components/nki.rst]"
    )
    assert first.message.startswith("nisa.memset(dst, value, engine, name) cannot be called so:")


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("# triptych: allow not-on-hardware", []),
        ("#triptych:allow  identity, not-on-hardware", []),
        ("# triptych: allow identity", ["not-on-hardware"]),
        ("# allow not-on-hardware", ["not-on-hardware"]),
    ],
)
def test_a_line_may_allow_a_rule(comment, expected, found):
    assert [id for id, _ in found(kernel(f"nl.divide(x, x)  {comment}"))] == expected


@pytest.mark.parametrize(("use", "told"), [("f(dst=x, src=x)", [("generation", 4)]), ("if n: f(dst=x, src=x)", [])])
def test_an_alias_above_a_kernel_runs_where_it_is_used(use, told, found):
    assert found(kernel(use, parameters="x, n", above="f = nisa.exponential\n"), "trn2") == told
