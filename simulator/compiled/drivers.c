/* Make the results of a plan, as the machine does that carries it out: compute of DeferredMachine and of ShapeMachine. */
#include "frequent.h"

/* Whether a storage has nothing that waits and is lent to nobody. */
static int is_settled(PyObject *tensor)
{
    return SLOT(SLOT(tensor, Tensor_storage), Storage_pending) == Py_None;
}

/* The elements of a view where one that was written holds them, at `value`; None if it does not: references.passed_through. */
static PyObject *pass_through(PyObject *view, PyObject *written, PyObject *value)
{
    Py_ssize_t from = PyLong_AsSsize_t(PyTuple_GET_ITEM(view, 0)) - PyLong_AsSsize_t(PyTuple_GET_ITEM(written, 0));
    PyObject *number = PyLong_FromSsize_t(from), *passed = NULL, *found;
    found = number ? PyObject_CallFunctionObjArgs(through, PyTuple_GET_ITEM(written, 1), PyTuple_GET_ITEM(written, 2), number, PyTuple_GET_ITEM(view, 1),
                                                  PyTuple_GET_ITEM(view, 2), PyTuple_GET_ITEM(value, 2), NULL)
                   : NULL;
    Py_XDECREF(number);
    if (!found || found == Py_None)
        return found;
    Py_ssize_t first = PyLong_AsSsize_t(PyTuple_GET_ITEM(value, 0)) + PyLong_AsSsize_t(PyTuple_GET_ITEM(found, 0));
    PyObject *fields[] = {PyLong_FromSsize_t(first), Py_NewRef(PyTuple_GET_ITEM(view, 1)), Py_NewRef(PyTuple_GET_ITEM(found, 1)),
                          Py_NewRef(PyTuple_GET_ITEM(value, 3))};
    passed = named_tuple(Layout, 4, fields);
    Py_DECREF(found);
    return passed;
}

/* The operand of a product that a view of a tensor is, a matrix, which is kept; borrowed; NULL where Python has to look. */
static PyObject *find_operand(PyObject *tensor, PyObject *pending)
{
    PyObject *view = SLOT(tensor, Tensor_layout), *shape = SLOT(tensor, Tensor_shape), *strides = SLOT(tensor, Tensor_strides), *at, *value;
    if (PyTuple_GET_SIZE(shape) != 2 || PySequence_Contains(numbers, SLOT(tensor, Tensor_dtype)) != 1)
        return NULL;
    Py_ssize_t columns = PyLong_AsSsize_t(PyTuple_GET_ITEM(shape, 1)), position = 0;
    if (PyLong_AsSsize_t(PyTuple_GET_ITEM(shape, 0)) < 2 || columns < 2 || PyLong_AsSsize_t(PyTuple_GET_ITEM(strides, 1)) != 1
        || PyLong_AsSsize_t(PyTuple_GET_ITEM(strides, 0)) < columns)
        return NULL;
    while (PyDict_Next(SLOT(pending, Pending_entries), &position, &at, &value)) {
        PyObject *source = PyTuple_GET_ITEM(value, 0), *passed = NULL, *operand = NULL;
        if (PyTuple_GET_ITEM(at, 3) != PyTuple_GET_ITEM(view, 3) || !(passed = pass_through(view, at, PyTuple_GET_ITEM(value, 1))))
            return NULL;
        if (passed == Py_None) {
            Py_DECREF(passed);
            continue;
        }
        PyObject *fields[] = {Py_NewRef(source), passed};
        operand = named_tuple(Reference, 2, fields);
        int failed = !operand || (PyObject *)Py_TYPE(source) != Storage || PyDict_SetItem(SLOT(pending, Pending_operands), view, operand);
        Py_XDECREF(operand);
        return failed ? NULL : operand;
    }
    return NULL;
}

/* The operand of a product that a tensor is, borrowed: DeferredMachine._operand; NULL where Python has to look. */
static PyObject *operand_of(PyObject *tensor)
{
    PyObject *pending = SLOT(SLOT(tensor, Tensor_storage), Storage_pending), *known;
    if ((PyObject *)Py_TYPE(pending) != Pending || !PyDict_GET_SIZE(SLOT(pending, Pending_entries)))
        return NULL;
    known = PyDict_GetItemWithError(SLOT(pending, Pending_operands), SLOT(tensor, Tensor_layout));
    return known || PyErr_Occurred() ? known : find_operand(tensor, pending);
}

/* One more step of a product that waits: DeferredMachine._multiplied; 1, or 0 where Python has to. */
static int add_step(PyObject *dst, PyObject *stationary, PyObject *moving)
{
    PyObject *into = SLOT(dst, Tensor_storage), *pending = SLOT(into, Storage_pending), *left, *right, *held, *product;
    if ((PyObject *)Py_TYPE(into) != Storage || (PyObject *)Py_TYPE(pending) != Pending || !(left = operand_of(stationary))
        || !(right = operand_of(moving)) || !(held = PyDict_GetItemWithError(SLOT(pending, Pending_entries), SLOT(dst, Tensor_layout))))
        return 0;
    product = PyTuple_GET_ITEM(held, 0);
    if (PyUnicode_CompareWithASCIIString(SLOT(dst, Tensor_dtype), "float32") || (PyObject *)Py_TYPE(product) != Product || SLOT(product, Product_is_shared) != Py_False
        || PyObject_RichCompareBool(left, right, Py_EQ) != 0)
        return 0;
    PyObject *shape = PyTuple_GET_ITEM(PyTuple_GET_ITEM(left, 1), 1);
    if (PyObject_RichCompareBool(PyTuple_GET_ITEM(shape, 1), SLOT(product, Product_m), Py_EQ) != 1)
        return 0;
    /* What was written is noted first: Python, if it has to, does that once more, and adds the step once. */
    return note_written(into, SLOT(dst, Tensor_layout), Py_True) && !PyList_Append(SLOT(product, Product_left), left)
           && !PyList_Append(SLOT(product, Product_right), right);
}

/* Whether DeferredMachine.compute has no more to do with a call than to compute while the book trusts it: 1, 0, -1. */
static int is_at_once(PyObject *machine, PyObject *book, PyObject *plan, PyObject *results, PyObject *operands)
{
    if (SLOT(plan, Plan_moves) != Py_None || SLOT(plan, Plan_multiplies) != Py_False) {
        int is_in_vain = PySet_Contains(SLOT(book, Book_in_vain), SLOT(machine, Machine_line));
        if (is_in_vain != 1)
            return is_in_vain;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(results); i++)
        if (!is_settled(PyTuple_GET_ITEM(results, i)))
            return 0;
    for (Py_ssize_t i = 0; SLOT(plan, Plan_engine) == tensor_engine && i < PyTuple_GET_SIZE(operands); i++) {
        PyObject *operand = PyTuple_GET_ITEM(operands, i);
        if ((PyObject *)Py_TYPE(operand) == Tensor && !is_settled(operand))
            return 0;
    }
    return 1;
}

/* What a plan's `compute` makes of its operands: 1, 0 where Python has to, -1. */
static int make_result(PyObject *plan, PyObject *operands)
{
    PyObject **of = ((PyTupleObject *)operands)->ob_item;
    Py_ssize_t count = PyTuple_GET_SIZE(operands);
    if (SLOT(plan, Plan_compute) == move && count == 2)
        return move_bytes(of[0], of[1]);
    if (SLOT(plan, Plan_compute) == transposing && count == 2)
        return transpose(of[0], of[1]);
    if (SLOT(plan, Plan_multiplies) == Py_True && count > 3 && (of[count - 1] == Py_True || of[count - 1] == Py_False))
        return multiply(of[0], of[1], of[2], of[count - 1] == Py_True);
    return 0;
}

/* DeferredMachine.compute: 1 if it was done, 0 where Python has to, -1. */
static int compute_at_once(PyObject *machine, PyObject *plan, PyObject *results, PyObject *operands)
{
    Py_ssize_t last = PyTuple_GET_SIZE(operands) - 1;
    if (SLOT(plan, Plan_multiplies) == Py_True && PyTuple_GET_ITEM(operands, last) == Py_True) {
        if (add_step(PyTuple_GET_ITEM(operands, 0), PyTuple_GET_ITEM(operands, 1), PyTuple_GET_ITEM(operands, 2)))
            return 1;
        PyErr_Clear();
    }
    PyObject *book = PyObject_GetAttr(machine, n_book), *done = NULL;
    int at_once = !book ? -1 : (PyObject *)Py_TYPE(book) == Book ? is_at_once(machine, book, plan, results, operands) : 0;
    if (at_once == 1) {
        set_slot(book, Book_trusts, Py_NewRef(Py_True));
        at_once = make_result(plan, operands);
        if (at_once == 0) {
            PyErr_Clear();
            done = PyObject_CallObject(SLOT(plan, Plan_compute), operands);
            at_once = done ? 1 : -1;
        }
        set_slot(book, Book_trusts, Py_NewRef(Py_False));
    }
    Py_XDECREF(book), Py_XDECREF(done);
    return at_once;
}

/* ShapeStorage.wrote of a part of a storage on chip, of which later matmuls may add to as much as before: 1; 0 where Python has to. */
static int note_part(PyObject *storage, PyObject *layout, PyObject *by_matmul)
{
    PyObject *row = SLOT(storage, Storage_row), *before = SLOT(storage, ShapeStorage__written), *now = NULL, *missing = NULL;
    Py_ssize_t width = PyLong_AsSsize_t(row);
    if (width <= 0 || SLOT(storage, Storage_started) != by_matmul)
        return 0;
    before = before == Py_None ? PyObject_CallFunction(unmarked, "nOO", PyLong_AsSsize_t(SLOT(storage, Storage_nbytes)) / width, row, Py_False)
                               : Py_NewRef(before);
    if (before && (now = PyObject_CallFunctionObjArgs(marked, before, layout, Py_True, NULL)))
        missing = PyObject_GetAttr(now, n_missing);
    Py_XDECREF(before);
    if (missing) {
        set_slot(storage, Storage_missing, missing);
        set_slot(storage, ShapeStorage__written, now);
    } else
        Py_XDECREF(now);
    return missing != NULL;
}

/* ShapeStorage.wrote, of all of a storage, of what was written before, and of a part: 1; 0 where Python has to. */
static int note_shape(PyObject *storage, PyObject *layout, PyObject *by_matmul)
{
    if ((PyObject *)Py_TYPE(storage) != ShapeStorage)
        return 0;
    PyObject *missing = SLOT(storage, Storage_missing), *dtype = PyTuple_GET_ITEM(layout, 3), *of = SLOT(storage, Storage_allocation);
    if (PyLong_AsSsize_t(missing) == 0 && SLOT(storage, Storage_started) == by_matmul)
        return 1;
    if (dtype != PyTuple_GET_ITEM(of, 4)
        || PyObject_RichCompareBool(PyTuple_GET_ITEM(layout, 1), PyTuple_GET_ITEM(of, 3), Py_EQ) != 1
        || PyObject_RichCompareBool(PyTuple_GET_ITEM(layout, 2), SLOT(storage, Storage_dense), Py_EQ) != 1)
        return note_part(storage, layout, by_matmul);
    PyObject *zero = PyLong_FromLong(0);
    if (!zero)
        return 0;
    set_slot(storage, Storage_missing, zero);
    set_slot(storage, ShapeStorage__written, Py_NewRef(Py_None));
    set_slot(storage, Storage_started, Py_NewRef(by_matmul));
    return 1;
}

/* ShapeMachine.compute: 1 if it was done, 0 where Python has to, -1. */
static int mark_results(PyObject *plan, PyObject *results)
{
    PyObject *by_matmul = SLOT(plan, Plan_by_matmul);
    if (SLOT(plan, Plan_fresh) != Py_False)
        return 0;
    for (Py_ssize_t i = 0; SLOT(plan, Plan_marks) == Py_None && i < PyTuple_GET_SIZE(results); i++) {
        PyObject *result = PyTuple_GET_ITEM(results, i), *storage = SLOT(result, Tensor_storage), *layout = SLOT(result, Tensor_layout);
        if (!note_shape(storage, layout, by_matmul)) {
            PyErr_Clear();
            PyObject *done = PyObject_CallMethodObjArgs(storage, n_wrote, layout, by_matmul, NULL);
            if (!done)
                return -1;
            Py_DECREF(done);
        }
    }
    return 1;
}

int compute(PyObject *machine, PyObject *plan, PyObject *results, PyObject *operands)
{
    PyObject *of = (PyObject *)Py_TYPE(machine);
    int done = of == DeferredMachine ? compute_at_once(machine, plan, results, operands)
             : of == ShapeMachine    ? mark_results(plan, results)
                                     : 0;
    if (done == 0) {
        PyObject *answer = PyObject_CallMethodObjArgs(machine, n_compute, plan, results, operands, NULL);
        done = answer ? 1 : -1;
        Py_XDECREF(answer);
    }
    return done;
}
