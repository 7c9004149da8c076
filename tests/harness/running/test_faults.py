"""What an exception means, in one sentence, with the line of the user's file where there is one."""

import pytest

from triptych.harness.backends import BACKENDS
from triptych.harness.backends.base import KernelFault
from triptych.harness.emulators.errors import NotEmulated
from triptych.harness.ops.errors import InvalidOp
from triptych.harness.ops.op import Op
from triptych.harness.ops.outputs.kinds import MalformedOutput
from triptych.harness.results.status import Cause, Status
from triptych.harness.running import faults
from triptych.harness.running.workers.handing_out import hand_out
from triptych.harness.running.workers.machine import Machine

SIMULATED = BACKENDS["nki-sim"]
SOURCE = "def inputs():\n    raise ValueError('no')\n"


@pytest.fixture
def raised(tmp_path):
    """An exception out of the second line of a user's file, and that file."""
    path = tmp_path / "mine.py"
    names = {}
    exec(compile(SOURCE, str(path), "exec"), names)
    try:
        names["inputs"]()
    except ValueError as error:
        return error, str(path)


def op_of(kernel="elsewhere.py:kernel"):
    return Op("one", {"x": ("M",)}, lambda x: x, {}, nki=kernel)


def test_the_line_of_the_file_that_declares_an_op_is_told(raised):
    error, path = raised
    told = faults.explain_preparation(error, path, None)
    assert (
        told.reason == "the case could not be prepared: ValueError: no (mine.py:2)" and told.cause is Cause.INVALID_OP
    )
    assert faults.explain_preparation(error, None, None).reason == "the case could not be prepared: ValueError: no"


def test_the_line_of_a_kernel_is_told(raised):
    error, path = raised
    told = faults.explain_run(error, op_of(f"{path}:inputs"), SIMULATED, None)
    assert told.reason == "the kernel raised ValueError: no (mine.py:2)" and told.cause is Cause.KERNEL_ERROR
    assert faults.kernel_fault(error, op_of(), SIMULATED) == "the kernel raised ValueError: no"


@pytest.mark.parametrize("error", [KernelFault("words"), InvalidOp("words"), MalformedOutput("words")])
def test_what_is_a_sentence_already_is_left_as_it_is(error):
    assert faults.kernel_fault(error, op_of(), SIMULATED) == "words"


def test_errors_of_the_simulator_speak_for_themselves():
    error = next(iter(SIMULATED.spoken_errors()))("words")
    assert "the kernel raised" not in faults.kernel_fault(error, op_of(), SIMULATED)
    assert faults.kernel_fault(error, op_of(), BACKENDS["numpy"]).startswith("the kernel raised")


def test_an_output_of_another_form_is_malformed():
    told = faults.explain_run(MalformedOutput("words"), op_of(), SIMULATED, None)
    assert told == faults.Ended(Status.ERROR, Cause.MALFORMED_OUTPUT, "words") and not told.unfit


def test_what_cannot_be_emulated_is_unsupported_and_no_error():
    told = faults.explain_run(NotEmulated("words"), op_of(), BACKENDS["triton-cpu"], None)
    assert (told.status, told.cause) == (Status.UNSUPPORTED, Cause.NOT_SUPPORTED) and "words" in told.reason


def test_after_a_fault_of_a_device_the_process_is_left():
    told = faults.explain_run(RuntimeError("CUDA error: words"), op_of(), SIMULATED, None)
    assert told.reason == "the kernel raised RuntimeError: CUDA error: words; the next case gets a new process"


@pytest.mark.parametrize(
    "word", ["CUDA error", "HIP error", "Triton Error [CUDA]", "CUDNN_STATUS", "CUBLAS_STATUS", "nrt_"]
)
def test_words_of_a_faulty_device(word):
    assert faults.GPU_FAULT.search(f"RuntimeError: {word} x") and not faults.GPU_FAULT.search("RuntimeError: cuda")


def test_memory_that_ran_out_is_told_with_its_limit():
    for explain in (
        lambda error: faults.explain_preparation(error, None, 2**31),
        lambda error: faults.explain_run(error, op_of(), SIMULATED, 2**31),
    ):
        for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")):
            told = explain(error)
            assert told.unfit and told.cause is Cause.OUT_OF_MEMORY and "2 GiB a worker" in told.reason
            assert told.status is Status.ERROR


# One hand, or hands that are not fit any more


class Hand:
    is_fit = True

    def __init__(self, does):
        self.does, self.stopped, self.killed, self.asked = does, 0, 0, []

    def mend(self):
        return False

    def takes(self, number):
        return True

    def do(self, number, chain):
        self.asked.append((number, list(chain)))
        return self.does(self, number)

    def kill(self):
        self.killed += 1

    def stop(self):
        self.stopped += 1


def test_one_hand_does_all_in_order_and_is_stopped():
    hand = Hand(lambda hand, number: -number)
    assert list(hand_out([[3, 1], [2]], [hand])) == [(3, -3), (1, -1), (2, -2)]
    assert hand.asked == [(3, [3, 1]), (1, [3, 1]), (2, [2])] and (hand.stopped, hand.killed) == (1, 0)
    left = hand_out([[1], [2]], [hand])
    next(left)
    left.close()
    assert hand.stopped == 2 and hand.asked[-1] == (1, [1])
    with pytest.raises(ZeroDivisionError):
        list(hand_out([[1]], [Hand(lambda hand, number: 1 / 0)]))


def test_hands_that_are_not_fit_take_no_further_chain():
    def once(hand, number):
        hand.is_fit = False
        return number

    hands = [Hand(once), Hand(once)]
    found = dict(hand_out([[0], [1], [2], [3]], hands))
    assert found == {0: 0, 1: 1} and [hand.stopped for hand in hands] == [1, 1]


def test_a_machine_is_given_back_whatever_happens():
    machine = Machine()
    for way in (machine.alone, machine.shared, machine.alone):
        with pytest.raises(KeyError), way():
            raise KeyError
    with machine.shared(), machine.shared():
        assert machine._sharing == 2 and not machine._taken
    with machine.alone():
        assert machine._taken and machine._waiting == 0 == machine._sharing
    assert not machine._taken
