/* The places that views of tensors on chip take, and which of them meet: what `_Map` of triptych.simulator.analysis.hazards
 * finds where a view is first touched, and `box_of` of triptych.simulator.analysis.boxes, after whose text it is written, on the
 * same dicts and lists. Views of tensors elsewhere are left to the Python.
 */
#include "walks.h"

static PyObject *Box, *meet;
#define NAMES(X) X(boxes) X(hides) X(itemsize) X(meets) X(numbers) X(psum) X(sbuf) X(see_read) X(see_written) X(sizes) X(sources) X(written)
#define DECLARE(name) static PyObject *n_##name;
NAMES(DECLARE)

/* A Box on chip, whose pitch is 1: partitions [first, last] and the bytes [low, high) of each. */
typedef struct { Py_ssize_t first, last, low, high; } Bytes;

/* A _Map, whose containers it holds, and the new place. */
typedef struct { PyObject *numbers, *boxes, *meets, *hides, *sources, *written, *sizes, *box, *number, *mine, *hidden; Bytes at; } Map;

static Py_ssize_t number_at(PyObject *tuple, Py_ssize_t i)
{
    return PyLong_AsSsize_t(FIELD(tuple, i));
}

static Py_ssize_t size_of(PyObject *dtype)
{
    PyObject *size = PyObject_GetAttr(dtype, n_itemsize);
    Py_ssize_t bytes = size ? PyLong_AsSsize_t(size) : -1;
    Py_XDECREF(size);
    return bytes;
}

/* box_of: 1, or 0 of what is left to the Python, or -1 with what went wrong. */
static int bytes_of(PyObject *region, Bytes *at)
{
    PyObject *tensor = FIELD(region, ALLOCATION), *whole = FIELD(tensor, WHOLE), *shape = FIELD(region, SHAPE);
    PyObject *buffer = FIELD(tensor, BUFFER), *address = FIELD(tensor, ADDRESS);
    int is_on_chip = PyUnicode_Compare(buffer, n_sbuf) == 0 || PyUnicode_Compare(buffer, n_psum) == 0;
    Py_ssize_t size = is_on_chip ? size_of(FIELD(region, DTYPE)) : 0, row = is_on_chip && size > 0 ? size_of(FIELD(tensor, KIND)) : 0;
    for (Py_ssize_t i = 1; row > 0 && i < PyTuple_GET_SIZE(whole); i++)
        row *= number_at(whole, i);
    Py_ssize_t start = number_at(region, OFFSET) * size;
    if (PyErr_Occurred())
        return -1;
    if (row <= 0 || start < 0)
        return 0;
    at->first = start / row, at->low = start % row, at->high = at->low + size;
    for (Py_ssize_t i = 1; i < PyTuple_GET_SIZE(shape); i++) {
        Py_ssize_t reach = (number_at(shape, i) - 1) * number_at(FIELD(region, STRIDES), i) * size;
        *(reach > 0 ? &at->high : &at->low) += reach;
    }
    if (address != Py_None) {
        at->first += number_at(address, 0);
        at->low += number_at(address, 1), at->high += number_at(address, 1);
    }
    at->last = at->first + number_at(shape, 0) - 1;
    return PyErr_Occurred() ? -1 : 1;
}

static int append(PyObject *lists, PyObject *number, PyObject *new)
{
    return !PyList_Append(PyList_GET_ITEM(lists, PyLong_AsSsize_t(number)), new);
}

/* What one that was here before and the new place are to each other. */
static int introduce(const Map *m, PyObject *other)
{
    PyObject *theirs = PyList_GET_ITEM(m->boxes, PyLong_AsSsize_t(other));
    const Bytes a = m->at, b = {number_at(theirs, 1), number_at(theirs, 2), number_at(theirs, 3), number_at(theirs, 4)};
    int is_on_chip = number_at(theirs, 0) == 1, do_meet = a.low < b.high && b.low < a.high && a.first <= b.last && b.first <= a.last;
    if (!is_on_chip) { /* a line allocates tensors in more than one memory */
        PyObject *said = PyObject_CallFunctionObjArgs(meet, m->box, theirs, NULL);
        do_meet = said ? PyObject_IsTrue(said) : -1;
        Py_XDECREF(said);
    }
    if (do_meet <= 0)
        return !do_meet;
    if (PyList_Append(m->mine, other) || !append(m->meets, other, m->number))
        return 0;
    if (is_on_chip && a.low <= b.low && b.high <= a.high && a.first <= b.first && b.last <= a.last && PyList_Append(m->hidden, other))
        return 0;
    return !is_on_chip || b.low > a.low || a.high > b.high || b.first > a.first || a.last > b.last || append(m->hides, other, m->number);
}

static int introduce_all(const Map *m, PyObject *places)
{
    for (Py_ssize_t i = 0; places && i < PyList_GET_SIZE(places); i++)
        if (!introduce(m, PyList_GET_ITEM(places, i)))
            return 0;
    return !PyErr_Occurred();
}

static PyObject *looked_up(PyObject *dict, Py_ssize_t key)
{
    PyObject *number = PyLong_FromSsize_t(key), *found = number ? PyDict_GetItemWithError(dict, number) : NULL;
    Py_XDECREF(number);
    return found;
}

/* All that the new place can meet: they begin in one of its strips or in the one before. */
static int introduce_neighbours(const Map *m)
{
    PyObject *n, *strips, *strip, *places;
    for (Py_ssize_t at = 0; PyDict_Next(m->sizes, &at, &n, &strips);) {
        Py_ssize_t first = (m->at.low >> PyLong_AsSsize_t(n)) - 1, last = (m->at.high - 1) >> PyLong_AsSsize_t(n), each = 0;
        if (last - first < PyDict_GET_SIZE(strips)) {
            for (Py_ssize_t i = first; i <= last; i++)
                if (!introduce_all(m, looked_up(strips, i)))
                    return 0;
        }
        else
            while (PyDict_Next(strips, &each, &strip, &places))
                if (first <= PyLong_AsSsize_t(strip) && PyLong_AsSsize_t(strip) <= last && !introduce_all(m, places))
                    return 0;
    }
    return 1;
}

/* Put the new place among the others. */
static int settle(Map *m)
{
    int n = 0, is_right = introduce_neighbours(m);
    PyObject *sources = PyList_New(0);
    is_right = is_right && sources && !PyDict_SetItem(m->numbers, m->box, m->number) && !PyList_Append(m->boxes, m->box) &&
               !PyList_Append(m->meets, m->mine) && !PyList_Append(m->hides, m->hidden) && !PyList_Append(m->sources, sources);
    for (Py_ssize_t i = 0; is_right && i < PyList_GET_SIZE(m->mine); i++) {
        int is_written = PySet_Contains(m->written, PyList_GET_ITEM(m->mine, i));
        is_right = is_written >= 0 && (!is_written || !PyList_Append(sources, PyList_GET_ITEM(m->mine, i)));
    }
    Py_XDECREF(sources);
    while ((m->at.high - m->at.low) >> n)
        n++;
    PyObject *strips = is_right ? held(m->sizes, PyLong_FromSsize_t(n), PyDict_New()) : NULL;
    PyObject *places = strips ? held(strips, PyLong_FromSsize_t(m->at.low >> n), PyList_New(0)) : NULL;
    return places && !PyList_Append(places, m->number);
}

/* _Map.place; whether `number` is there. */
static int place(Map *m)
{
    PyObject *fields = Py_BuildValue("((nnnnn))", (Py_ssize_t)1, m->at.first, m->at.last, m->at.low, m->at.high);
    m->box = fields ? PyTuple_Type.tp_new((PyTypeObject *)Box, fields, NULL) : NULL;
    Py_XDECREF(fields);
    m->number = m->box ? Py_XNewRef(PyDict_GetItemWithError(m->numbers, m->box)) : NULL;
    if (m->number || PyErr_Occurred())
        return m->number != NULL;
    m->number = PyLong_FromSsize_t(PyList_GET_SIZE(m->boxes)), m->mine = PyList_New(0), m->hidden = PyList_New(0);
    return m->number && m->mine && m->hidden && settle(m);
}

/* That the place is written, as those that meet it must know; whether that went well. */
static int write_to(const Map *m)
{
    PyObject *meets = PyList_GET_ITEM(m->meets, PyLong_AsSsize_t(m->number));
    int is_right = PySet_Contains(m->written, m->number);
    if (is_right)
        return is_right > 0;
    is_right = !PySet_Add(m->written, m->number);
    for (Py_ssize_t i = 0; is_right && i < PyList_GET_SIZE(meets); i++)
        is_right = append(m->sources, PyList_GET_ITEM(meets, i), m->number);
    return is_right;
}

PyObject *see_view(PyObject *map, PyObject *views, PyObject *region, PyObject *says, int is_written)
{
    Map m = {0};
    PyObject *view = NULL, *names[] = {n_numbers, n_boxes, n_meets, n_hides, n_sources, n_written, n_sizes};
    PyObject **parts[] = {&m.numbers, &m.boxes, &m.meets, &m.hides, &m.sources, &m.written, &m.sizes};
    int is_right = bytes_of(region, &m.at);
    if (is_right < 0)
        return NULL;
    if (!is_right) {
        is_done(view = PyObject_CallMethodObjArgs(map, is_written ? n_see_written : n_see_read, views, region, NULL));
        return view;
    }
    for (int i = 0; is_right && i < 7; i++)
        is_right = (*parts[i] = PyObject_GetAttr(map, names[i])) != NULL;
    if (is_right && place(&m) && (!is_written || write_to(&m))) {
        Py_ssize_t i = PyLong_AsSsize_t(m.number);
        view = is_written ? PyTuple_Pack(3, m.number, PyList_GET_ITEM(m.meets, i), PyList_GET_ITEM(m.hides, i))
                          : PyTuple_Pack(2, m.number, PyList_GET_ITEM(m.sources, i));
        if (view && PyDict_SetItem(views, says, view))
            Py_CLEAR(view);
        Py_XDECREF(view); /* which the views hold */
    }
    for (int i = 0; i < 7; i++)
        Py_XDECREF(*parts[i]);
    Py_XDECREF(m.box), Py_XDECREF(m.number), Py_XDECREF(m.mine), Py_XDECREF(m.hidden);
    return view;
}

int set_up_places(void)
{
    PyObject *boxes = PyImport_ImportModule("triptych.simulator.analysis.boxes");
    if (!boxes || !(Box = PyObject_GetAttrString(boxes, "Box")) || !(meet = PyObject_GetAttrString(boxes, "meet")))
        return 0;
    Py_DECREF(boxes);
#define INTERN(name)                                     \
    if (!(n_##name = PyUnicode_InternFromString(#name))) \
        return 0;
    NAMES(INTERN)
    return 1;
}
