/* What a tensor holds, as engines look at it, and the note that it was written: NkiTensor.array, f32 and wrote, Storage.wrote. */
#include "frequent.h"

/* The elements of a tensor in the bytes of its storage: Storage.array_of. */
static PyObject *elements(PyObject *tensor, PyObject *raw)
{
    PyObject *strides = SLOT(tensor, tensor_strides), *dtype = SLOT(tensor, tensor_dtype), *made = NULL;
    PyObject *kind = PyObject_GetAttr(dtype, n_np), *itemsize = kind ? PyObject_GetAttr(dtype, n_itemsize) : NULL;
    Py_ssize_t size = itemsize ? PyLong_AsSsize_t(itemsize) : -1, dimensions = PyTuple_GET_SIZE(strides);
    PyObject *first = size < 0 ? NULL : PyLong_FromSsize_t(size * PyLong_AsSsize_t(SLOT(tensor, tensor_offset)));
    PyObject *steps = first ? PyTuple_New(dimensions) : NULL;
    for (Py_ssize_t d = 0; steps && d < dimensions; d++) {
        PyObject *step = PyLong_FromSsize_t(size * PyLong_AsSsize_t(PyTuple_GET_ITEM(strides, d)));
        if (step)
            PyTuple_SET_ITEM(steps, d, step);
        else
            Py_CLEAR(steps);
    }
    if (steps)
        made = PyObject_CallFunctionObjArgs(ndarray, SLOT(tensor, tensor_shape), kind, raw, first, steps, NULL);
    Py_XDECREF(kind), Py_XDECREF(itemsize), Py_XDECREF(first), Py_XDECREF(steps);
    return made;
}

PyObject *array(PyObject *tensor, void *Py_UNUSED(closure))
{
    PyObject *storage = SLOT(tensor, tensor_storage), *made = SLOT(tensor, tensor__array);
    if (!PyObject_TypeCheck(storage, (PyTypeObject *)Storage) || SLOT(storage, storage_pending) != Py_None)
        return PyObject_CallOneArg(array_in_python, tensor);
    if (made != Py_None)
        return Py_NewRef(made);
    if ((PyObject *)Py_TYPE(storage) != Storage || SLOT(storage, storage_widened) != Py_False || SLOT(storage, storage__raw) == Py_None)
        return PyObject_CallOneArg(array_in_python, tensor);
    made = elements(tensor, SLOT(storage, storage__raw));
    if (made)
        set_slot(tensor, tensor__array, Py_NewRef(made));
    return made;
}

PyObject *f32(PyObject *tensor, PyObject *Py_UNUSED(nothing))
{
    PyObject *kind = PyObject_GetAttr(SLOT(tensor, tensor_dtype), n_np), *storage = SLOT(tensor, tensor_storage);
    int is_there = kind == f32_dtype && PyObject_TypeCheck(storage, (PyTypeObject *)Storage) && SLOT(storage, storage_pending) == Py_None;
    Py_XDECREF(kind);
    return is_there ? array(tensor, NULL) : kind ? PyObject_CallOneArg(f32_in_python, tensor) : NULL;
}

/* What has been written. */

/* A view, in bytes, of which each dimension has more than one entry and lies outside the next. */
struct view {
    Py_ssize_t first, size, run, dimensions, counts[MOST], steps[MOST];
    int is_all; /* of its storage */
};

/* How a layout lies in a storage, as mask.side_by_side has it without repeats: 1; 0 if it is not of the frequent kind. */
static int find_view(PyObject *storage, PyObject *layout, struct view *view)
{
    PyObject *shape = PyTuple_GET_ITEM(layout, 1), *strides = PyTuple_GET_ITEM(layout, 2);
    PyObject *itemsize = PyObject_GetAttr(PyTuple_GET_ITEM(layout, 3), n_itemsize);
    Py_ssize_t size = itemsize ? PyLong_AsSsize_t(itemsize) : -1, all = PyTuple_GET_SIZE(shape), kept = 0, reached;
    Py_XDECREF(itemsize);
    if (size < 0 || all > MOST || SLOT(storage, storage_widened) != Py_False)
        return 0;
    view->first = size * PyLong_AsSsize_t(PyTuple_GET_ITEM(layout, 0));
    view->size = reached = size;
    for (Py_ssize_t d = 0; d < all; d++) {
        Py_ssize_t count = PyLong_AsSsize_t(PyTuple_GET_ITEM(shape, d)), step = size * PyLong_AsSsize_t(PyTuple_GET_ITEM(strides, d));
        if (count == 1)
            continue;
        view->size *= count;
        view->counts[kept] = count;
        view->steps[kept++] = step;
    }
    for (Py_ssize_t d = kept - 1; d >= 0; d--) { /* from the innermost */
        if (view->steps[d] < reached)
            return 0;
        reached = view->steps[d] * view->counts[d];
    }
    for (view->run = size; kept && view->steps[kept - 1] == view->run; kept--)
        view->run *= view->counts[kept - 1];
    view->dimensions = kept;
    Py_ssize_t there = PyLong_AsSsize_t(SLOT(storage, storage_nbytes));
    view->is_all = view->size == there;
    return !PyErr_Occurred() && view->first >= 0 && view->first + (kept ? view->steps[0] * (view->counts[0] - 1) : 0) < there;
}

/* Give the units of a view a value; how many had the other. */
static Py_ssize_t mark_units(char *at, const struct view *view, Py_ssize_t d, Py_ssize_t unit, char value)
{
    Py_ssize_t changed = 0;
    if (d == view->dimensions) {
        for (Py_ssize_t i = 0; i < view->run / unit; i++) {
            changed += at[i] != value;
            at[i] = value;
        }
    }
    else
        for (Py_ssize_t i = 0; i < view->counts[d]; i++)
            changed += mark_units(at + i * (view->steps[d] / unit), view, d + 1, unit, value);
    return changed;
}

/* Mark a view in a mask, in which it consists of whole units; how many bytes changed, -1 if it does not. */
static Py_ssize_t mark(PyObject *mask, const struct view *view, char value)
{
    Py_ssize_t unit = (PyObject *)Py_TYPE(mask) == Mask ? PyLong_AsSsize_t(SLOT(mask, mask_unit)) : 0, changed = -1, reached;
    int is_whole = unit > 0 && view->first % unit == 0 && view->run % unit == 0;
    Py_buffer bits;
    for (Py_ssize_t d = 0; d < view->dimensions; d++)
        is_whole = is_whole && view->steps[d] % unit == 0;
    if (!is_whole || PyObject_GetBuffer(SLOT(mask, mask_bits), &bits, PyBUF_WRITABLE)) {
        PyErr_Clear();
        return -1;
    }
    reached = view->first + view->run;
    for (Py_ssize_t d = 0; d < view->dimensions; d++)
        reached += view->steps[d] * (view->counts[d] - 1);
    if (bits.itemsize == 1 && reached <= bits.len * unit)
        changed = mark_units((char *)bits.buf + view->first / unit, view, 0, unit, value) * unit;
    PyBuffer_Release(&bits);
    return changed;
}

/* Note that a view of a storage was written: 1; 0 if Python has to, which may do all of it once more. */
static int note_written(PyObject *storage, PyObject *layout, PyObject *by_matmul)
{
    struct view view;
    if ((PyObject *)Py_TYPE(storage) != Storage || (by_matmul != Py_True && by_matmul != Py_False))
        return 0;
    PyDict_Clear(SLOT(storage, storage__f32));
    Py_ssize_t missing = PyLong_AsSsize_t(SLOT(storage, storage_missing));
    int starts = SLOT(storage, storage_started) != by_matmul;
    if (!starts && missing == 0)
        return 1;
    if (!find_view(storage, layout, &view))
        return 0;
    if (starts && view.is_all)
        set_slot(storage, storage_started, Py_NewRef(by_matmul));
    else if (starts && mark(SLOT(storage, storage_started), &view, by_matmul == Py_True) < 0)
        return 0;
    if (missing == 0)
        return 1;
    PyObject *mask = SLOT(storage, storage_mask);
    Py_ssize_t changed = mask == Py_None ? (view.is_all ? missing : -1) : mark(mask, &view, 1);
    PyObject *left = changed < 0 ? NULL : PyLong_FromSsize_t(missing - changed);
    if (!left) {
        PyErr_Clear();
        return 0;
    }
    set_slot(storage, storage_missing, left);
    if (missing == changed)
        set_slot(storage, storage_mask, Py_NewRef(Py_None));
    return 1;
}

PyObject *tensor_wrote(PyObject *tensor, PyObject *Py_UNUSED(nothing))
{
    if (note_written(SLOT(tensor, tensor_storage), SLOT(tensor, tensor_layout), Py_False))
        Py_RETURN_NONE;
    return PyObject_CallOneArg(tensor_wrote_in_python, tensor);
}

PyObject *storage_wrote(PyObject *storage, PyObject *const *given, Py_ssize_t count, PyObject *names)
{
    Py_ssize_t all = count + (names ? PyTuple_GET_SIZE(names) : 0);
    int is_usual = count >= 1 && all <= 2 && (PyObject *)Py_TYPE(given[0]) == Layout;
    if (is_usual && all > count) /* the second by its name */
        is_usual = PyUnicode_Compare(PyTuple_GET_ITEM(names, 0), n_by_matmul) == 0;
    if (is_usual && note_written(storage, given[0], all == 2 ? given[1] : Py_False))
        Py_RETURN_NONE;
    return call_in_python(storage_wrote_in_python, storage, given, count, names);
}
