/* A slice of a tensor, NkiTensor.__getitem__, and the rows of one that an index each chooses: spread and moved_to. */
#include "frequent.h"

#include <stdint.h>

/* tuple.__new__(type, values); steals the values, of which NULL is an error that is set. What is made of numbers, strings and such
 * tuples is in no cycle, and the collector, which would walk over a trace again and again, is not told of it.
 */
PyObject *named_tuple(PyObject *type, Py_ssize_t count, PyObject **values)
{
    PyObject *made = ((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, count);
    for (Py_ssize_t i = 0; i < count; i++) {
        if (made && values[i])
            PyTuple_SET_ITEM(made, i, values[i]);
        else {
            Py_XDECREF(values[i]);
            Py_CLEAR(made);
        }
    }
    if (made)
        PyObject_GC_UnTrack(made);
#if PY_VERSION_HEX >= 0x030E0000
    if (made)
        ((PyTupleObject *)made)->ob_hash = -1; /* not computed yet, which tuple.__new__ says itself since Python 3.14 */
#endif
    return made;
}

/* Tuples that were asked for last, each at a place that follows from its numbers. */
enum { PLACES = 1 << 8 };
static struct { PyObject *tuple; Py_ssize_t count, numbers[MOST]; } lately[PLACES];

static size_t kept_at(Py_ssize_t count, const Py_ssize_t *numbers)
{
    size_t place = (size_t)count;
    for (Py_ssize_t i = 0; i < count; i++)
        place = 31 * place + (size_t)numbers[i];
    return (place ^ place >> 8) % PLACES;
}

/* The tuple of at most MOST numbers, the one that every layout has (memory.layout, one_tuple). */
PyObject *one_tuple(Py_ssize_t count, const Py_ssize_t *numbers)
{
    size_t place = kept_at(count, numbers);
    if (lately[place].tuple && lately[place].count == count && !memcmp(lately[place].numbers, numbers, sizeof *numbers * (size_t)count))
        return Py_NewRef(lately[place].tuple);
    PyObject *made = PyTuple_New(count);
    for (Py_ssize_t i = 0; made && i < count; i++) {
        PyObject *number = PyLong_FromSsize_t(numbers[i]);
        if (number)
            PyTuple_SET_ITEM(made, i, number);
        else
            Py_CLEAR(made);
    }
    PyObject *one = made ? Py_XNewRef(PyDict_SetDefault(tuples, made, made)) : NULL;
    Py_XDECREF(made);
    if (one) {
        Py_XSETREF(lately[place].tuple, Py_NewRef(one));
        lately[place].count = count;
        memcpy(lately[place].numbers, numbers, sizeof *numbers * (size_t)count);
    }
    return one;
}

/* A tensor without an index, as NkiTensor._set makes it, of a layout's four fields; steals those, of which NULL is an error. */
PyObject *new_tensor(PyObject *storage, PyObject *buffer, PyObject *on_chip, PyObject *is_comparison, PyObject *fields[4])
{
    PyObject *allocation = SLOT(storage, Storage_allocation), *tensor = NULL, *layout, *region;
    int is_whole = allocation && fields[0] && fields[1] && fields[2] && fields[3];
    PyObject *of_region[] = {Py_XNewRef(allocation), Py_XNewRef(fields[0]), Py_XNewRef(fields[1]), Py_XNewRef(fields[2]), Py_XNewRef(fields[3])};
    PyObject *of_layout[] = {Py_XNewRef(fields[0]), Py_XNewRef(fields[1]), Py_XNewRef(fields[2]), Py_XNewRef(fields[3])};
    region = named_tuple(Region, 5, of_region), layout = named_tuple(Layout, 4, of_layout);
    if (is_whole && region && layout)
        tensor = PyBaseObject_Type.tp_new((PyTypeObject *)Tensor, no_arguments, NULL);
    if (!tensor) {
        Py_XDECREF(region), Py_XDECREF(layout);
        for (int i = 0; i < 4; i++)
            Py_XDECREF(fields[i]);
        return NULL;
    }
    SLOT(tensor, Tensor_storage) = Py_NewRef(storage);
    SLOT(tensor, Tensor_buffer) = Py_NewRef(buffer);
    SLOT(tensor, Tensor_on_chip) = Py_NewRef(on_chip);
    SLOT(tensor, Tensor_layout) = layout;
    SLOT(tensor, Tensor_offset) = fields[0];
    SLOT(tensor, Tensor_shape) = fields[1];
    SLOT(tensor, Tensor_strides) = fields[2];
    SLOT(tensor, Tensor_dtype) = fields[3];
    SLOT(tensor, Tensor_index) = Py_NewRef(Py_None);
    SLOT(tensor, Tensor_is_comparison) = Py_NewRef(is_comparison);
    SLOT(tensor, Tensor_form) = Py_NewRef(Py_None);
    SLOT(tensor, Tensor_region) = region;
    SLOT(tensor, Tensor__array) = Py_NewRef(Py_None);
    return tensor;
}

PyObject *moved_to(PyObject *Py_UNUSED(module), PyObject *const *given, Py_ssize_t count)
{
    if (count != 2 || (PyObject *)Py_TYPE(given[0]) != Region || !PyList_CheckExact(given[1]))
        return PyErr_Format(PyExc_TypeError, "moved_to takes a region and a list");
    PyObject *moved = PyList_New(PyList_GET_SIZE(given[1]));
    for (Py_ssize_t i = 0; moved && i < PyList_GET_SIZE(moved); i++) {
        PyObject *fields[5], *region;
        for (int field = 0; field < 5; field++)
            fields[field] = Py_NewRef(PyTuple_GET_ITEM(given[0], field));
        Py_SETREF(fields[1], Py_NewRef(PyList_GET_ITEM(given[1], i)));
        if ((region = named_tuple(Region, 5, fields)))
            PyList_SET_ITEM(moved, i, region);
        else
            Py_CLEAR(moved);
    }
    return moved;
}

/* Whether two of some numbers are one; more than a few are asked of a set. */
static int has_twice(PyObject *list)
{
    enum { TABLE = 1 << 9 };
    Py_ssize_t all = PyList_GET_SIZE(list);
    uint16_t taken[TABLE] = {0}; /* by which number, counted from 1 */
    long long numbers[TABLE / 2];
    if (all > TABLE / 2) {
        PyObject *set = PySet_New(list);
        int is_less = set ? PySet_GET_SIZE(set) < all : -1;
        Py_XDECREF(set);
        return is_less;
    }
    for (Py_ssize_t i = 0; i < all; i++) {
        numbers[i] = PyLong_AsLongLong(PyList_GET_ITEM(list, i));
        size_t place = (size_t)((unsigned long long)numbers[i] * 0x9E3779B97F4A7C15u >> 55);
        for (; taken[place]; place = (place + 1) % TABLE)
            if (numbers[taken[place] - 1] == numbers[i])
                return 1;
        taken[place] = (uint16_t)(i + 1);
    }
    return 0;
}

PyObject *spread(PyObject *Py_UNUSED(module), PyObject *const *given, Py_ssize_t count)
{
    Py_buffer entries;
    if (count != 3)
        return PyErr_Format(PyExc_TypeError, "spread takes entries, an offset and a scale");
    if (PyObject_GetBuffer(given[0], &entries, PyBUF_ND | PyBUF_FORMAT)) { /* as those with gaps have none */
        PyErr_Clear();
        return PyObject_Vectorcall(spread_in_python, given, (size_t)count, NULL);
    }
    Py_ssize_t offset = PyLong_AsSsize_t(given[1]), scale = PyLong_AsSsize_t(given[2]), all = entries.len / (Py_ssize_t)sizeof(long long);
    const long long *entry = entries.buf;
    long long low = all ? entry[0] : 0, high = low;
    int is_usual = entries.itemsize == sizeof *entry && (!strcmp(entries.format, "l") || !strcmp(entries.format, "q")) && !PyErr_Occurred();
    for (Py_ssize_t i = 0; is_usual && i < all; i++) {
        low = entry[i] < low ? entry[i] : low, high = entry[i] > high ? entry[i] : high;
        is_usual = entry[i] == (int32_t)entry[i] && scale == (int32_t)scale; /* so that nothing overflows */
    }
    PyObject *offsets = is_usual ? PyList_New(all) : NULL, *found = NULL;
    for (Py_ssize_t i = 0; offsets && i < all; i++) {
        PyObject *number = PyLong_FromLongLong(offset + entry[i] * scale);
        if (number)
            PyList_SET_ITEM(offsets, i, number);
        else
            Py_CLEAR(offsets);
    }
    PyBuffer_Release(&entries);
    int is_twice = offsets ? has_twice(offsets) : -1;
    if (is_twice >= 0)
        found = Py_BuildValue("LLOO", low, high, offsets, is_twice ? Py_True : Py_False);
    Py_XDECREF(offsets);
    return found || PyErr_Occurred() ? found : PyObject_Vectorcall(spread_in_python, given, (size_t)count, NULL);
}

/* Whether a bound of a slice, or an index, is a plain number or left out; from the end where it is negative. */
static int is_number(PyObject *value, Py_ssize_t left_out, Py_ssize_t size, Py_ssize_t *number)
{
    if (value == Py_None) {
        *number = left_out;
        return 1;
    }
    int over = 0;
    long long found = PyLong_CheckExact(value) ? PyLong_AsLongLongAndOverflow(value, &over) : (over = 1);
    *number = (Py_ssize_t)(found < 0 ? found + size : found);
    return !over;
}

PyObject *getitem(PyObject *tensor, PyObject *key)
{
    PyObject *shape = SLOT(tensor, Tensor_shape), *strides = SLOT(tensor, Tensor_strides), *const *keys = &key;
    Py_ssize_t dimensions = PyTuple_GET_SIZE(shape), many = 1, left = 0, counts[MOST + 2], steps[MOST + 2];
    Py_ssize_t first = PyLong_AsSsize_t(SLOT(tensor, Tensor_offset));
    int on_chip = SLOT(tensor, Tensor_on_chip) == Py_True, all_stay = 1;
    if (PyTuple_CheckExact(key)) {
        keys = ((PyTupleObject *)key)->ob_item;
        many = PyTuple_GET_SIZE(key);
    }
    if (SLOT(tensor, Tensor_index) != Py_None || many > dimensions || dimensions > MOST)
        goto other;
    for (Py_ssize_t d = 0; d < dimensions; d++) {
        Py_ssize_t size = PyLong_AsSsize_t(PyTuple_GET_ITEM(shape, d)), start = 0, stop = size;
        Py_ssize_t step = PyLong_AsSsize_t(PyTuple_GET_ITEM(strides, d));
        int is_index = 0;
        if (d < many && PySlice_Check(keys[d])) {
            PySliceObject *slice = (PySliceObject *)keys[d];
            if (slice->step != Py_None || !is_number(slice->start, 0, size, &start) || !is_number(slice->stop, size, size, &stop))
                goto other;
        }
        else if (d < many) {
            if (keys[d] == Py_None || !is_number(keys[d], 0, size, &start))
                goto other;
            stop = start + 1;
            is_index = 1;
        }
        if (!(0 <= start && start < stop && stop <= size))
            goto other;
        first += start * step;
        if (is_index && !(on_chip && d == 0)) {
            all_stay = 0;
            continue;
        }
        counts[left] = stop - start;
        steps[left++] = step;
    }
    for (; left < (on_chip ? 2 : 1); all_stay = 0)
        counts[left] = steps[left] = 1, left++;
    PyObject *fields[] = {PyLong_FromSsize_t(first), one_tuple(left, counts), all_stay ? Py_NewRef(strides) : one_tuple(left, steps),
                          Py_NewRef(SLOT(tensor, Tensor_dtype))};
    return new_tensor(SLOT(tensor, Tensor_storage), SLOT(tensor, Tensor_buffer), SLOT(tensor, Tensor_on_chip),
                      SLOT(tensor, Tensor_is_comparison), fields);
other:
    return PyObject_CallFunctionObjArgs(getitem_in_python, tensor, key, NULL);
}
