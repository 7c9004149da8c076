/* What a tensor holds, as engines look at it, and the note that it was written: NkiTensor.array, f32 and wrote, Storage.wrote
 * and wrote_rows.
 */
#include "frequent.h"

#include <stdint.h>

/* The elements of a tensor in the bytes of its storage: Storage.array_of. */
static PyObject *elements(PyObject *tensor, PyObject *raw)
{
    PyObject *strides = SLOT(tensor, Tensor_strides), *dtype = SLOT(tensor, Tensor_dtype), *made = NULL;
    PyObject *kind = PyObject_GetAttr(dtype, n_np), *itemsize = kind ? PyObject_GetAttr(dtype, n_itemsize) : NULL;
    Py_ssize_t size = itemsize ? PyLong_AsSsize_t(itemsize) : -1, dimensions = PyTuple_GET_SIZE(strides);
    PyObject *first = size < 0 ? NULL : PyLong_FromSsize_t(size * PyLong_AsSsize_t(SLOT(tensor, Tensor_offset)));
    PyObject *steps = first ? PyTuple_New(dimensions) : NULL;
    for (Py_ssize_t d = 0; steps && d < dimensions; d++) {
        PyObject *step = PyLong_FromSsize_t(size * PyLong_AsSsize_t(PyTuple_GET_ITEM(strides, d)));
        if (step)
            PyTuple_SET_ITEM(steps, d, step);
        else
            Py_CLEAR(steps);
    }
    if (steps)
        made = PyObject_CallFunctionObjArgs(ndarray, SLOT(tensor, Tensor_shape), kind, raw, first, steps, NULL);
    Py_XDECREF(kind), Py_XDECREF(itemsize), Py_XDECREF(first), Py_XDECREF(steps);
    return made;
}

/* Bytes of the pool of a storage that were given back: Pool.take; NULL where Python has to. */
static PyObject *take(PyObject *pool, PyObject *nbytes)
{
    PyObject *all = PyObject_GetAttr(pool, n__free), *unused = PyObject_GetAttr(pool, n__unused), *live = PyObject_GetAttr(pool, n__live);
    PyObject *free = all && unused && live ? Py_XNewRef(PyDict_GetItemWithError(all, nbytes)) : NULL;
    PyObject *place = NULL, *raw = NULL, *block = NULL, *id = NULL, *kept = NULL;
    Py_ssize_t last = free ? PyList_GET_SIZE(free) - 1 : -1;
    if (last >= 0) {
        place = Py_NewRef(PyList_GET_ITEM(free, last));
        raw = PyObject_CallFunctionObjArgs(frombuffer, place, byte_dtype, NULL);
        block = raw ? PyWeakref_NewRef(raw, unused) : NULL;
        id = block ? PyLong_FromVoidPtr(block) : NULL;
        kept = id ? PyTuple_Pack(3, block, free, place) : NULL;
        if (!kept || PyList_SetSlice(free, last, last + 1, NULL) || PyDict_SetItem(live, id, kept))
            Py_CLEAR(raw);
    }
    Py_XDECREF(all), Py_XDECREF(unused), Py_XDECREF(live), Py_XDECREF(free), Py_XDECREF(place), Py_XDECREF(block), Py_XDECREF(id);
    Py_XDECREF(kept);
    return raw;
}

PyObject *unused(PyObject *Py_UNUSED(module), PyObject *const *given, Py_ssize_t count)
{
    PyObject *id = count == 2 ? PyLong_FromVoidPtr(given[1]) : NULL, *kept = id ? Py_XNewRef(PyDict_GetItemWithError(given[0], id)) : NULL;
    int failed = !kept || PyDict_DelItem(given[0], id) || PyList_Append(PyTuple_GET_ITEM(kept, 1), PyTuple_GET_ITEM(kept, 2));
    Py_XDECREF(id), Py_XDECREF(kept);
    if (failed)
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "a pool's blocks, and one of them");
    Py_RETURN_NONE;
}

/* Whether the bytes of a storage may be looked at and written as they stand: Pending.open would do nothing. */
int is_open(PyObject *storage)
{
    PyObject *pending = SLOT(storage, Storage_pending);
    if (pending == Py_None || !pending || (PyObject *)Py_TYPE(pending) != Pending) /* no pending at all: a view that leaves its tensor */
        return pending == Py_None;
    PyObject *book = SLOT(pending, Pending_book);
    return PyDict_Size(SLOT(pending, Pending_entries)) == 0
           && (SLOT(pending, Pending_is_lent) == Py_False || ((PyObject *)Py_TYPE(book) == Book && SLOT(book, Book_trusts) == Py_True));
}

/* Whether a storage has its bytes, taken from its pool if need be. */
int has_bytes(PyObject *storage)
{
    PyObject *pool = SLOT(storage, Storage_pool);
    if (SLOT(storage, Storage__raw) == Py_None && (PyObject *)Py_TYPE(pool) == Pool) {
        PyObject *raw = take(pool, SLOT(storage, Storage_nbytes));
        PyErr_Clear();
        if (raw)
            set_slot(storage, Storage__raw, raw);
    }
    return SLOT(storage, Storage__raw) != Py_None;
}

PyObject *array(PyObject *tensor, void *Py_UNUSED(closure))
{
    PyObject *storage = SLOT(tensor, Tensor_storage), *made = SLOT(tensor, Tensor__array);
    if (!PyObject_TypeCheck(storage, (PyTypeObject *)Storage) || !is_open(storage))
        return PyObject_CallOneArg(array_in_python, tensor);
    if (made != Py_None)
        return Py_NewRef(made);
    if ((PyObject *)Py_TYPE(storage) != Storage || SLOT(storage, Storage_widened) != Py_False || !has_bytes(storage))
        return PyObject_CallOneArg(array_in_python, tensor);
    made = elements(tensor, SLOT(storage, Storage__raw));
    if (made)
        set_slot(tensor, Tensor__array, Py_NewRef(made));
    return made;
}

PyObject *f32(PyObject *tensor, PyObject *Py_UNUSED(nothing))
{
    PyObject *kind = PyObject_GetAttr(SLOT(tensor, Tensor_dtype), n_np), *storage = SLOT(tensor, Tensor_storage);
    int is_there = kind == f32_dtype && PyObject_TypeCheck(storage, (PyTypeObject *)Storage) && is_open(storage);
    Py_XDECREF(kind);
    if (is_there)
        return array(tensor, NULL);
    PyObject *seen = kind && (PyObject *)Py_TYPE(storage) == Storage ? PyDict_GetItemWithError(SLOT(storage, Storage__f32), SLOT(tensor, Tensor_layout)) : NULL;
    seen = seen ? Py_NewRef(seen) : PyErr_Occurred() ? NULL : widened(tensor);
    return seen || PyErr_Occurred() ? seen : PyObject_CallOneArg(f32_in_python, tensor);
}

/* What has been written. */

/* A view, in bytes, of which each dimension has more than one entry and lies outside the next. */
struct view {
    Py_ssize_t first, size, run, dimensions, counts[MOST], steps[MOST];
    int is_all; /* of its storage */
};

/* Bytes of an element; -1 for an error. */
static Py_ssize_t item_size(PyObject *layout)
{
    PyObject *itemsize = PyObject_GetAttr(PyTuple_GET_ITEM(layout, 3), n_itemsize);
    Py_ssize_t size = itemsize ? PyLong_AsSsize_t(itemsize) : -1;
    Py_XDECREF(itemsize);
    return size;
}

/* How the dimensions of a layout from one on lie in a storage, as mask.side_by_side has it without repeats: 1; 0 if they are not of the
 * frequent kind.
 */
static int find_view(PyObject *storage, PyObject *layout, Py_ssize_t from, struct view *view)
{
    PyObject *shape = PyTuple_GET_ITEM(layout, 1), *strides = PyTuple_GET_ITEM(layout, 2);
    Py_ssize_t size = item_size(layout), all = PyTuple_GET_SIZE(shape), kept = 0, reached;
    if (size < 0 || all > MOST || SLOT(storage, Storage_widened) != Py_False)
        return 0;
    view->first = size * PyLong_AsSsize_t(PyTuple_GET_ITEM(layout, 0));
    view->size = reached = size;
    for (Py_ssize_t d = from; d < all; d++) {
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
    Py_ssize_t there = PyLong_AsSsize_t(SLOT(storage, Storage_nbytes));
    view->is_all = view->size == there;
    return !PyErr_Occurred() && view->first >= 0 && view->first + (kept ? view->steps[0] * (view->counts[0] - 1) : 0) < there;
}

/* How many of n truth values are true; in bytes as long as they hold it, many at a time. */
static Py_ssize_t count_true(const unsigned char *at, Py_ssize_t n)
{
    enum { SOME = 128 };
    Py_ssize_t found = 0;
    for (; n >= SOME; at += SOME, n -= SOME) {
        unsigned char here = 0;
        for (int i = 0; i < SOME; i++)
            here += at[i];
        found += here;
    }
    while (n--)
        found += *at++;
    return found;
}

/* Give the units of a view a value; how many had the other. */
static Py_ssize_t mark_units(unsigned char *at, const struct view *view, Py_ssize_t d, Py_ssize_t unit, char value)
{
    Py_ssize_t changed = 0, n = view->run / unit;
    if (d == view->dimensions) {
        changed = count_true(at, n);
        memset(at, value, n);
        return value ? n - changed : changed;
    }
    for (Py_ssize_t i = 0; i < view->counts[d]; i++)
        changed += mark_units(at + i * (view->steps[d] / unit), view, d + 1, unit, value);
    return changed;
}

/* The places of a view that lies in several, `step` bytes from one to the next: so many of them, from 0 up to and without `end`. */
struct places {
    Py_ssize_t step, count, end;
    const int64_t *numbers;
};
static const struct places one_place = {0, 1, 1, (const int64_t[]){0}};

/* Mark a view in a mask, in which it consists of whole units; how many bytes changed, -1 if it does not. */
static Py_ssize_t mark(PyObject *mask, const struct view *view, const struct places *places, char value)
{
    Py_ssize_t unit = (PyObject *)Py_TYPE(mask) == Mask ? PyLong_AsSsize_t(SLOT(mask, Mask_unit)) : 0, changed = -1, reached;
    int is_whole = unit > 0 && view->first % unit == 0 && view->run % unit == 0 && places->step % unit == 0;
    Py_buffer bits;
    for (Py_ssize_t d = 0; d < view->dimensions; d++)
        is_whole = is_whole && view->steps[d] % unit == 0;
    if (!is_whole || PyObject_GetBuffer(SLOT(mask, Mask_bits), &bits, PyBUF_WRITABLE)) {
        PyErr_Clear();
        return -1;
    }
    reached = view->first + view->run + places->step * (places->end - 1);
    for (Py_ssize_t d = 0; d < view->dimensions; d++)
        reached += view->steps[d] * (view->counts[d] - 1);
    if (bits.itemsize == 1 && reached <= bits.len * unit)
        changed = 0;
    for (Py_ssize_t i = 0; changed >= 0 && i < places->count; i++) {
        unsigned char *at = (unsigned char *)bits.buf + (view->first + places->numbers[i] * places->step) / unit;
        changed += mark_units(at, view, 0, unit, value) * unit;
    }
    PyBuffer_Release(&bits);
    return changed;
}

/* A new mask that a view consists of whole units of, `step` bytes on, too, as the first one of a Mask splits it; NULL for an error. */
static PyObject *new_mask(const struct view *view, Py_ssize_t step, Py_ssize_t all, char value)
{
    Py_ssize_t unit = all, other;
    for (Py_ssize_t d = -3; d < view->dimensions; d++) /* the greatest common divisor */
        for (Py_ssize_t n = d == -3 ? step : d == -2 ? view->first : d == -1 ? view->run : view->steps[d]; n; other = unit % n, unit = n, n = other)
            ;
    PyObject *bits = PyObject_CallFunction(zeros, "nO", all / unit, bool_dtype), *size = bits ? PyLong_FromSsize_t(unit) : NULL;
    PyObject *mask = size ? PyBaseObject_Type.tp_new((PyTypeObject *)Mask, no_arguments, NULL) : NULL;
    Py_buffer bytes;
    if (!mask || PyObject_GetBuffer(bits, &bytes, PyBUF_WRITABLE)) {
        Py_XDECREF(bits), Py_XDECREF(size), Py_XDECREF(mask);
        return NULL;
    }
    memset(bytes.buf, value, bytes.len);
    PyBuffer_Release(&bytes);
    SLOT(mask, Mask_bits) = bits;
    SLOT(mask, Mask_unit) = size;
    return mask;
}

/* The mask in a slot of a storage that has `nothing` there, made if need be; 0 for an error. */
static int has_mask(PyObject *storage, int slot, PyObject *nothing, const struct view *view, Py_ssize_t step, char value)
{
    if (SLOT(storage, slot) == nothing) {
        PyObject *mask = new_mask(view, step, PyLong_AsSsize_t(SLOT(storage, Storage_nbytes)), value);
        if (!mask)
            return 0;
        set_slot(storage, slot, mask);
    }
    return 1;
}

/* Note that so many of the bytes that nothing had written were: 1; 0 for an error, and where `changed` is none. */
static int subtract_missing(PyObject *storage, Py_ssize_t missing, Py_ssize_t changed)
{
    PyObject *left = changed < 0 ? NULL : PyLong_FromSsize_t(missing - changed);
    if (!left)
        return 0;
    set_slot(storage, Storage_missing, left);
    if (missing == changed)
        set_slot(storage, Storage_mask, Py_NewRef(Py_None));
    return 1;
}

int note_written(PyObject *storage, PyObject *layout, PyObject *by_matmul)
{
    struct view view;
    if ((PyObject *)Py_TYPE(storage) != Storage || (by_matmul != Py_True && by_matmul != Py_False))
        return 0;
    PyDict_Clear(SLOT(storage, Storage__f32));
    Py_ssize_t missing = PyLong_AsSsize_t(SLOT(storage, Storage_missing));
    int starts = SLOT(storage, Storage_started) != by_matmul;
    if (!starts && missing == 0)
        return 1;
    if (!find_view(storage, layout, 0, &view))
        goto other;
    if (starts && view.is_all)
        set_slot(storage, Storage_started, Py_NewRef(by_matmul));
    else if (starts) {
        char value = by_matmul == Py_True;
        if (!has_mask(storage, Storage_started, value ? Py_False : Py_True, &view, 0, !value)
            || mark(SLOT(storage, Storage_started), &view, &one_place, value) < 0)
            goto other;
    }
    if (missing == 0)
        return 1;
    int is_first = SLOT(storage, Storage_mask) == Py_None;
    if (!(is_first && view.is_all) && !has_mask(storage, Storage_mask, Py_None, &view, 0, 0))
        goto other;
    Py_ssize_t changed = is_first && view.is_all ? missing : mark(SLOT(storage, Storage_mask), &view, &one_place, 1);
    if (subtract_missing(storage, missing, changed))
        return 1;
other:
    PyErr_Clear();
    return 0;
}

PyObject *tensor_wrote(PyObject *tensor, PyObject *Py_UNUSED(nothing))
{
    if (note_written(SLOT(tensor, Tensor_storage), SLOT(tensor, Tensor_layout), Py_False))
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

/* Note that entries of dimension 0 of a layout were written: 1; 0 if Python has to, which may do all of it once more. */
static int note_rows(PyObject *storage, PyObject *layout, const Py_buffer *rows)
{
    struct view view;
    PyObject *shape = PyTuple_GET_ITEM(layout, 1);
    if ((PyObject *)Py_TYPE(storage) != Storage || SLOT(storage, Storage_started) != Py_False || !PyTuple_GET_SIZE(shape))
        return 0;
    PyDict_Clear(SLOT(storage, Storage__f32));
    Py_ssize_t missing = PyLong_AsSsize_t(SLOT(storage, Storage_missing));
    if (missing == 0)
        return 1;
    if (!find_view(storage, layout, 1, &view))
        return 0;
    Py_ssize_t step = PyLong_AsSsize_t(PyTuple_GET_ITEM(PyTuple_GET_ITEM(layout, 2), 0)) * item_size(layout);
    struct places places = {step, rows->shape[0], PyLong_AsSsize_t(PyTuple_GET_ITEM(shape, 0)), rows->buf};
    for (Py_ssize_t i = 0; i < places.count; i++)
        if (places.numbers[i] < 0 || places.numbers[i] >= places.end)
            return 0;
    if (step < 0 || !has_mask(storage, Storage_mask, Py_None, &view, step, 0))
        return 0;
    return subtract_missing(storage, missing, mark(SLOT(storage, Storage_mask), &view, &places, 1));
}

PyObject *storage_wrote_rows(PyObject *storage, PyObject *const *given, Py_ssize_t count, PyObject *names)
{
    Py_buffer rows;
    int is_noted = 0;
    if (count == 2 && !names && (PyObject *)Py_TYPE(given[0]) == Layout && !PyObject_GetBuffer(given[1], &rows, PyBUF_ND)) {
        if (rows.ndim == 1 && rows.itemsize == sizeof(int64_t))
            is_noted = note_rows(storage, given[0], &rows);
        PyBuffer_Release(&rows);
    }
    PyErr_Clear();
    if (is_noted)
        Py_RETURN_NONE;
    return call_in_python(storage_wrote_rows_in_python, storage, given, count, names);
}
