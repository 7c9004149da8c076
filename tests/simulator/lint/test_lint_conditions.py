"""Every place of a function is read, and where a condition decides whether it runs, no chip is held against it."""

from __future__ import annotations

import pytest

from triptych.simulator import lint

HEAD = "import nki\nimport nki.isa as nisa\nimport nki.language as nl\n"
REMOVED, NEWER = "nl.mgrid", "nisa.rand2"  # found everywhere; needs NeuronCore-v4

CERTAIN = {
    "an argument": "print(USE)",
    "a keyword's value": "print(x, end=USE)",
    "the first of and": "print(USE and x)",
    "the first of or": "print(USE or x)",
    "a choice's condition": "print(1 if USE else 2)",
    "a condition": "if USE:\n        pass",
    "what is tried": "try:\n        print(USE)\n    except Exception:\n        pass",
    "what is matched": "match USE:\n        case 1:\n            pass",
    "an assigned value": "y = USE",
    "a value of two targets": "y = z = USE",
    "where a value goes": "x[USE] = 1",
    "an annotated value": "y: int = USE",
    "what is returned": "return USE",
    "what is returned at last": "if x.shape[0]:\n        pass\n    return USE",
    "a default": "def f(i, y=USE):\n        pass",
    "a keyword's default": "def f(i, *, y=USE):\n        pass",
    "a lambda's default": "f = lambda y=USE: y",
    "a decorator": "@USE\n    def f(i):\n        pass",
    "a base": "class C(USE):\n        pass",
    "a class's decorator": "@USE\n    class C:\n        pass",
    "what a with holds": "with USE:\n        pass",
    "a function that is called": "def f(i):\n        print(USE)\n    f(x)",
}
UNCERTAIN = {
    "the second of and": "print(x and USE)",
    "the third of or": "print(x or x or USE)",
    "one of a choice": "print(USE if x else 1)",
    "the other of a choice": "print(1 if x else USE)",
    "below a condition": "if x.shape[0]:\n        print(USE)",
    "below else": "if x.shape[0]:\n        pass\n    else:\n        print(USE)",
    "what handles": "try:\n        pass\n    except Exception:\n        print(USE)",
    "what else is tried": "try:\n        pass\n    except Exception:\n        pass\n    else:\n        print(USE)",
    "what is done in the end": "try:\n        pass\n    finally:\n        print(USE)",
    "a case": "match x:\n        case 1:\n            print(USE)",
    "behind a return": "return x\n    print(USE)",
    "behind a return below a condition": "if x.shape[0]:\n        return x\n    print(USE)",
    "behind a continue": "for i in range(2):\n        continue\n        print(USE)",
    "behind a break": "for i in range(2):\n        break\n        print(USE)",
    "a function that may be called": "def f(i):\n        print(USE)\n    x and f(x)",
    "a function of which only another may be called": (
        "def g(i):\n        print(USE)\n    def f(i):\n        g(i)\n    x and f(x)"
    ),
}


def found(tmp_path, body, use, target=None):
    """The rules that a kernel of this body breaks on the lines on which `use` stands in the place of USE."""
    text = f"{HEAD}@nki.jit\ndef k(x):\n    {body.replace('USE', use)}\n"
    path = tmp_path / "kernel.py"
    path.write_text(text)
    lines = {i + 1 for i, line in enumerate(text.splitlines()) if use in line}
    return {f.rule for f in lint.lint_file(str(path), None, target) if f.line in lines}


@pytest.mark.parametrize("place", CERTAIN | UNCERTAIN)
def test_every_place_is_read(tmp_path, place):
    assert "removed-name" in found(tmp_path, (CERTAIN | UNCERTAIN)[place], REMOVED)


@pytest.mark.parametrize("place", CERTAIN | UNCERTAIN)
def test_what_a_chip_lacks_is_found_where_it_runs_for_certain(tmp_path, place):
    body = (CERTAIN | UNCERTAIN)[place]
    assert ("generation" in found(tmp_path, body, NEWER, "trn1")) is (place in CERTAIN)
    assert "generation" not in found(tmp_path, body, NEWER, "trn3")
