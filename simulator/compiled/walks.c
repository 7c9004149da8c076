/* The walks over all operands of a trace that the timing model needs, compiled. Each is that of the same name in Python, after
 * whose text it is written, on the same dicts and lists. What is seen for the first time, and what is rare, is left to the Python:
 *
 *     edges_of   triptych.simulator.analysis.hazards
 *     forms      triptych.simulator.timing.forms
 *     touched    triptych.simulator.timing.room
 *     lives      triptych.simulator.analysis.capacity
 */
#include "walks.h"
#include <structmember.h>

/* The slots of an Event, and where each lies in it. */
enum { OP, ENGINE, CORE, ATTRIBUTES, READS, WRITES, SLOTS };
static const char *const slots[] = {"op", "engine", "core", "attributes", "reads", "writes"};
static Py_ssize_t slot_at[SLOTS];
#define OF(event, what) (*(PyObject **)((char *)(event) + slot_at[what]))

static PyTypeObject *Event, *IndirectRegion;

/* Reasons to wait, attributes and methods, by name. */
#define NAMES(X) X(add) X(after) X(data) X(no_reorder) X(order) X(overwrite) X(read) X(registers) X(see)
#define DECLARE(name) static PyObject *n_##name;
NAMES(DECLARE)

/* What `edges_of` is given, and the event at hand. */
typedef struct {
    PyObject *tensors, *cores, *asked, *of, *of_core, *event, *index, *found;
} Walk;

/* Wait for the accesses to a place: a list, or the only one. */
static int wait_for(PyObject *found, PyObject *accesses, PyObject *place, PyObject *why)
{
    PyObject *before = PyDict_GetItemWithError(accesses, place);
    if (!before)
        return !PyErr_Occurred();
    if (!PyList_CheckExact(before))
        return PyDict_SetDefault(found, before, why) != NULL;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(before); i++)
        if (!PyDict_SetDefault(found, PyList_GET_ITEM(before, i), why))
            return 0;
    return 1;
}

static int wait_for_all(PyObject *found, PyObject *accesses, PyObject *places, PyObject *why)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(places); i++)
        if (!wait_for(found, accesses, PyList_GET_ITEM(places, i), why))
            return 0;
    return 1;
}

static int forget(PyObject *accesses, PyObject *place)
{
    return PyDict_GetItemWithError(accesses, place) ? !PyDict_DelItem(accesses, place) : !PyErr_Occurred();
}

/* The tensor of a region as this core sees it, borrowed. */
static PyObject *tensor_of(const Walk *w, PyObject *region)
{
    PyObject *identity = PyLong_FromVoidPtr(FIELD(region, ALLOCATION));
    PyObject *tensor = identity ? PyDict_GetItemWithError(w->of_core, identity) : NULL;
    Py_XDECREF(identity);
    if (!tensor && !PyErr_Occurred()) /* which the walk's `of` then holds */
        is_done(tensor = PyObject_CallMethodObjArgs(w->tensors, n_see, w->event, FIELD(region, ALLOCATION), NULL));
    return tensor;
}

/* The places that a view of a tensor is about, borrowed. */
static PyObject *view_of(PyObject *tensor, int how, PyObject *region)
{
    PyObject *says = PyTuple_GetSlice(region, OFFSET, DTYPE + 1), *views = FIELD(tensor, how);
    PyObject *view = says ? PyDict_GetItemWithError(views, says) : NULL;
    if (!view && !PyErr_Occurred())
        view = see_view(FIELD(tensor, MAP), views, region, says, how == WRITTEN);
    Py_XDECREF(says);
    return view;
}

static int add_read(const Walk *w, PyObject *region)
{
    PyObject *tensor = tensor_of(w, region);
    if (!tensor || tensor == Py_None)
        return tensor != NULL;
    PyObject *view = view_of(tensor, READ, region);
    if (!view)
        return 0;
    PyObject *place = FIELD(view, PLACE), *sources = FIELD(view, SOURCES), *shared = FIELD(tensor, SHARED);
    PyObject *readers = FIELD(tensor, READERS), *writers = FIELD(tensor, WRITERS);
    if (shared != Py_None) {
        if (!is_done(PyObject_CallMethodObjArgs(w->cores, n_read, shared, place, sources, w->index, w->found, NULL)))
            return 0;
    }
    else if (!wait_for(w->found, writers, place, n_data) || !wait_for_all(w->found, writers, sources, n_data))
        return 0;
    if (PyLong_AsSsize_t(w->index) >= PyLong_AsSsize_t(FIELD(tensor, LAST_WRITE)))
        return 1;
    PyObject *mine = PyDict_GetItemWithError(readers, place);
    if (mine)
        return !PyList_Append(mine, w->index);
    PyObject *first = PyErr_Occurred() ? NULL : PyList_New(1);
    if (!first)
        return 0;
    PyList_SET_ITEM(first, 0, Py_NewRef(w->index));
    int is_kept = !PyDict_SetItem(readers, place, first);
    Py_DECREF(first);
    return is_kept;
}

static int add_write(const Walk *w, PyObject *region)
{
    PyObject *tensor = tensor_of(w, region), *view = tensor ? view_of(tensor, WRITTEN, region) : NULL;
    if (!view)
        return 0;
    PyObject *place = FIELD(view, PLACE), *meets = FIELD(view, MEETS), *hides = FIELD(view, HIDES), *shared = FIELD(tensor, SHARED);
    PyObject *readers = FIELD(tensor, READERS), *writers = FIELD(tensor, WRITERS), *found = w->found;
    if (shared != Py_None)
        return is_done(PyObject_CallMethodObjArgs(w->cores, n_overwrite, readers, shared, place, meets, hides, w->index, found, NULL));
    if (!wait_for(found, readers, place, n_overwrite) || !forget(readers, place) || !wait_for_all(found, readers, meets, n_overwrite) ||
        !wait_for_all(found, writers, meets, n_order))
        return 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(hides); i++)
        if (!forget(readers, PyList_GET_ITEM(hides, i)) || !forget(writers, PyList_GET_ITEM(hides, i)))
            return 0;
    return wait_for(found, writers, place, n_order) && !PyDict_SetItem(writers, place, w->index);
}

static int add_all(Walk *w, PyObject *event)
{
    PyObject *reads = OF(event, READS), *writes = OF(event, WRITES), *attributes = OF(event, ATTRIBUTES);
    w->event = event;
    if (!(w->of_core = PyDict_GetItemWithError(w->of, OF(event, CORE))))
        return 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(reads); i++)
        if (!add_read(w, FIELD(reads, i)))
            return 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(writes); i++)
        if (!add_write(w, FIELD(writes, i)))
            return 0;
    int is_asked = PyDict_GET_SIZE(attributes) && (PyDict_Contains(attributes, n_no_reorder) || PyDict_Contains(attributes, n_after) ||
                                                   PyDict_Contains(attributes, n_registers));
    if (is_asked && !is_done(PyObject_CallMethodObjArgs(w->asked, n_add, event, w->index, w->found, NULL)))
        return 0;
    return forget(w->found, w->index);
}

/* The number of a tensor that no event of its core has touched before. */
static PyObject *first_seen(PyObject *core, PyObject *tensor, PyObject *numbers, PyObject *kinds, PyObject *of_tensors)
{
    PyObject *buffer = FIELD(tensor, BUFFER), *kind, *number, *like = NULL;
    Py_ssize_t at = -1;
    if (FIELD(tensor, ADDRESS) == Py_None &&
        (!PyUnicode_CompareWithASCIIString(buffer, "sbuf") || !PyUnicode_CompareWithASCIIString(buffer, "psum"))) {
        at = PyList_GET_SIZE(of_tensors);
        if ((kind = PyTuple_Pack(4, core, buffer, FIELD(tensor, WHOLE), FIELD(tensor, KIND))))
            like = held(kinds, kind, PyLong_FromSsize_t(PyDict_GET_SIZE(kinds)));
        if (!like || PyList_Append(of_tensors, like))
            return NULL;
    }
    if ((number = PyLong_FromSsize_t(at)) && PyDict_SetItem(numbers, FIELD(tensor, ID), number))
        Py_CLEAR(number);
    return number;
}

/* The numbers of an event's tensors that need room. */
static int touch(PyObject *mine, PyObject *core, PyObject *regions, PyObject *numbers, PyObject *kinds, PyObject *of_tensors)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(regions); i++) {
        PyObject *allocation = FIELD(FIELD(regions, i), ALLOCATION);
        PyObject *number = Py_XNewRef(PyDict_GetItemWithError(numbers, FIELD(allocation, ID)));
        if (!number && !PyErr_Occurred())
            number = first_seen(core, allocation, numbers, kinds, of_tensors);
        int is_there = !number ? -1 : PyLong_AsLong(number) < 0 ? 1 : PySequence_Contains(mine, number);
        int is_right = is_there < 0 ? 0 : is_there || !PyList_Append(mine, number);
        Py_XDECREF(number);
        if (!is_right)
            return 0;
    }
    return 1;
}

/* What the form of an event follows from; two that agree in the identity of all of it have one form. Of a transfer, also
 * where a tile lies. */
enum { OF_EVENT = 5, OF_REGION = 5, OF_PLACE = 4 };

static const void **say_regions(const void **says, PyObject *regions, int moves)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(regions); i++) {
        PyObject *region = FIELD(regions, i), *tensor = FIELD(region, ALLOCATION);
        *says++ = FIELD(tensor, BUFFER), *says++ = FIELD(region, SHAPE), *says++ = FIELD(region, STRIDES), *says++ = FIELD(region, DTYPE);
        *says++ = Py_TYPE(region) == IndirectRegion ? region : NULL;
        if (moves) {
            int is_tile = !PyUnicode_CompareWithASCIIString(FIELD(tensor, BUFFER), "sbuf");
            *says++ = is_tile ? (void *)PyLong_AsSsize_t(FIELD(region, OFFSET)) : NULL;
            *says++ = is_tile ? FIELD(tensor, WHOLE) : NULL;
            *says++ = is_tile ? FIELD(tensor, KIND) : NULL;
            *says++ = is_tile ? FIELD(tensor, ADDRESS) : NULL;
        }
    }
    return says;
}

/* The number of an event's form; `number` is asked for those that agree with none before. */
static PyObject *form_of(PyObject *event, PyObject *memo, PyObject *number)
{
    PyObject *reads = OF(event, READS), *writes = OF(event, WRITES);
    int moves = !PyUnicode_CompareWithASCIIString(OF(event, ENGINE), "dma");
    Py_ssize_t said = OF_EVENT + (OF_REGION + moves * OF_PLACE) * (PyTuple_GET_SIZE(reads) + PyTuple_GET_SIZE(writes));
    PyObject *key = PyBytes_FromStringAndSize(NULL, said * sizeof(void *));
    if (!key)
        return NULL;
    const void **says = (const void **)PyBytes_AS_STRING(key);
    *says++ = OF(event, OP), *says++ = OF(event, ENGINE), *says++ = OF(event, CORE), *says++ = OF(event, ATTRIBUTES);
    *says++ = (void *)PyTuple_GET_SIZE(reads);
    say_regions(say_regions(says, reads, moves), writes, moves);
    PyObject *form = Py_XNewRef(PyDict_GetItemWithError(memo, key));
    if (!form && !PyErr_Occurred() && (form = PyObject_CallFunctionObjArgs(number, event, NULL)) && PyDict_SetItem(memo, key, form))
        Py_CLEAR(form);
    Py_DECREF(key);
    return form;
}

/* A list of as many as there are events; NULL if these are no events. */
static PyObject *list_for(PyObject *events)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(events); i++)
        if (!PyObject_TypeCheck(PyList_GET_ITEM(events, i), Event))
            return PyErr_Format(PyExc_TypeError, "expected events, got %R", PyList_GET_ITEM(events, i));
    return PyList_New(PyList_GET_SIZE(events));
}

/* edges_of(events, first, tensors, cores, asked) */
static PyObject *edges_of(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *events, *all;
    Py_ssize_t first;
    Walk w = {0};
    if (!PyArg_ParseTuple(args, "O!nOOO", &PyList_Type, &events, &first, &w.tensors, &w.cores, &w.asked) || !(all = list_for(events)))
        return NULL;
    int is_right = (w.of = PyObject_GetAttrString(w.tensors, "of")) != NULL;
    for (Py_ssize_t i = 0; is_right && i < PyList_GET_SIZE(events); i++) {
        w.index = PyLong_FromSsize_t(first + i);
        is_right = w.index && (w.found = PyDict_New());
        if (is_right) {
            PyList_SET_ITEM(all, i, w.found);
            is_right = add_all(&w, PyList_GET_ITEM(events, i));
        }
        Py_XDECREF(w.index);
    }
    Py_XDECREF(w.of);
    if (!is_right)
        Py_CLEAR(all);
    return all;
}

/* forms(events, number) */
static PyObject *forms(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *events, *number, *all;
    if (!PyArg_ParseTuple(args, "O!O", &PyList_Type, &events, &number) || !(all = list_for(events)))
        return NULL;
    PyObject *memo = PyDict_New(), *form;
    int is_right = memo != NULL;
    for (Py_ssize_t i = 0; is_right && i < PyList_GET_SIZE(events); i++)
        if ((is_right = (form = form_of(PyList_GET_ITEM(events, i), memo, number)) != NULL))
            PyList_SET_ITEM(all, i, form);
    Py_XDECREF(memo);
    if (!is_right)
        Py_CLEAR(all);
    return all;
}

/* touched(events, kinds, of_tensors) */
static PyObject *touched(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *events, *kinds, *of_tensors, *all, *mine;
    if (!PyArg_ParseTuple(args, "O!O!O!", &PyList_Type, &events, &PyDict_Type, &kinds, &PyList_Type, &of_tensors) ||
        !(all = list_for(events)))
        return NULL;
    PyObject *known = PyDict_New();
    int is_right = known != NULL;
    for (Py_ssize_t i = 0; is_right && i < PyList_GET_SIZE(events); i++) {
        PyObject *event = PyList_GET_ITEM(events, i), *core = OF(event, CORE);
        PyObject *numbers = PyDict_GetItemWithError(known, core);
        if (!numbers && !PyErr_Occurred())
            numbers = held(known, Py_NewRef(core), PyDict_New());
        if ((is_right = numbers && (mine = PyList_New(0)))) {
            PyList_SET_ITEM(all, i, mine);
            is_right = touch(mine, core, OF(event, READS), numbers, kinds, of_tensors) &&
                       touch(mine, core, OF(event, WRITES), numbers, kinds, of_tensors);
        }
    }
    Py_XDECREF(known);
    if (!is_right)
        Py_CLEAR(all);
    return all;
}

/* Note the tensors of an event's operands: the event as their last, and of those that come now that it is their first. */
static int live(PyObject *found, PyObject *last, PyObject *event, PyObject *regions, PyObject *index)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(regions); i++) {
        PyObject *allocation = FIELD(PyTuple_GET_ITEM(regions, i), ALLOCATION), *first = NULL;
        Py_ssize_t known = PyDict_GET_SIZE(last);
        if (PyDict_SetItem(last, FIELD(allocation, ID), index))
            return 0;
        if (PyDict_GET_SIZE(last) == known)
            continue;
        int failed = !(first = PyTuple_Pack(3, index, OF(event, CORE), allocation)) || PyList_Append(found, first);
        Py_XDECREF(first);
        if (failed)
            return 0;
    }
    return 1;
}

/* lives(events) */
static PyObject *lives(PyObject *Py_UNUSED(module), PyObject *events)
{
    PyObject *checked = PyList_Check(events) ? list_for(events) : PyErr_Format(PyExc_TypeError, "expected a list, got %R", events);
    PyObject *found = checked ? PyList_New(0) : NULL, *last = found ? PyDict_New() : NULL, *both = NULL;
    int is_right = last != NULL;
    for (Py_ssize_t i = 0; is_right && i < PyList_GET_SIZE(events); i++) {
        PyObject *event = PyList_GET_ITEM(events, i), *index = PyLong_FromSsize_t(i);
        is_right = index && live(found, last, event, OF(event, READS), index) && live(found, last, event, OF(event, WRITES), index);
        Py_XDECREF(index);
    }
    if (is_right)
        both = PyTuple_Pack(2, found, last);
    Py_XDECREF(checked), Py_XDECREF(found), Py_XDECREF(last);
    return both;
}

static PyMethodDef functions[] = {
    {"edges_of", edges_of, METH_VARARGS, "What events wait for."},
    {"forms", forms, METH_VARARGS, "The number of each event's form."},
    {"touched", touched, METH_VARARGS, "The tensors that need room, event by event."},
    {"lives", lives, METH_O, "The first event of each tensor, and the last."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "walks", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_walks(void)
{
    PyObject *trace = PyImport_ImportModule("triptych.simulator.trace");
    if (!set_up_places() || !trace || !(Event = (PyTypeObject *)PyObject_GetAttrString(trace, "Event")) ||
        !(IndirectRegion = (PyTypeObject *)PyObject_GetAttrString(trace, "IndirectRegion")))
        return NULL;
    for (int i = 0; i < SLOTS; i++) {
        PyObject *slot = PyObject_GetAttrString((PyObject *)Event, slots[i]);
        if (!slot || !Py_IS_TYPE(slot, &PyMemberDescr_Type))
            return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "an Event's %s is no slot", slots[i]);
        slot_at[i] = ((PyMemberDescrObject *)slot)->d_member->offset;
        Py_DECREF(slot);
    }
    Py_DECREF(trace);
#define INTERN(name)                                     \
    if (!(n_##name = PyUnicode_InternFromString(#name))) \
        return NULL;
    NAMES(INTERN)
    return PyModule_Create(&definition);
}
