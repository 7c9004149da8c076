/* The walks over all operands of a trace that the timing model needs, compiled. Each is that of the same name in Python, after
 * whose text it is written, on the same dicts and lists:
 *
 *     edges_of, last_writes   triptych.simulator.analysis.hazards (hazards.c, places.c)
 *     forms                   triptych.simulator.timing.forms
 *     touched                 triptych.simulator.timing.room
 *     numbered, coded         triptych.simulator.timing.links
 *     lives                   triptych.simulator.analysis.capacity
 */
#include "walks.h"
#include <structmember.h>

static const char *const slots[] = {"op", "engine", "core", "attributes", "reads", "writes"};
Py_ssize_t slot_at[SLOTS];

static PyTypeObject *Event, *IndirectRegion;

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
            Py_ssize_t offset = is_tile ? PyLong_AsSsize_t(FIELD(region, OFFSET)) : 0;
            *says++ = (void *)offset;
            *says++ = offset ? FIELD(tensor, WHOLE) : NULL;
            *says++ = offset ? FIELD(tensor, KIND) : NULL;
            *says++ = is_tile && FIELD(tensor, ADDRESS) != Py_None ? (void *)PyLong_AsSsize_t(FIELD(FIELD(tensor, ADDRESS), 0)) : NULL;
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

PyObject *list_for(PyObject *events)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(events); i++)
        if (!PyObject_TypeCheck(PyList_GET_ITEM(events, i), Event))
            return PyErr_Format(PyExc_TypeError, "expected events, got %R", PyList_GET_ITEM(events, i));
    return PyList_New(PyList_GET_SIZE(events));
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

/* numbered(of_events): of dicts, by their keys, or of lists */
static PyObject *numbered(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *all, *key, *value;
    Py_ssize_t count = 0;
    if (!PyArg_ParseTuple(args, "O!", &PyList_Type, &all))
        return NULL;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(all); i++)
        count += PyObject_Size(PyList_GET_ITEM(all, i));
    if (PyErr_Occurred())
        return NULL;
    PyObject *numbers = PyBytes_FromStringAndSize(NULL, count * sizeof(int)), *events = PyBytes_FromStringAndSize(NULL, count * sizeof(int));
    for (Py_ssize_t i = 0, at = 0; numbers && events && i < PyList_GET_SIZE(all); i++) {
        PyObject *mine = PyList_GET_ITEM(all, i);
        int *number = (int *)PyBytes_AS_STRING(numbers), *event = (int *)PyBytes_AS_STRING(events);
        if (PyDict_Check(mine))
            for (Py_ssize_t j = 0; PyDict_Next(mine, &j, &key, &value); at++)
                number[at] = (int)PyLong_AsLong(key), event[at] = (int)i;
        else
            for (Py_ssize_t j = 0; j < PyList_GET_SIZE(mine); j++, at++)
                number[at] = (int)PyLong_AsLong(PyList_GET_ITEM(mine, j)), event[at] = (int)i;
    }
    PyObject *both = numbers && events && !PyErr_Occurred() ? PyTuple_Pack(2, numbers, events) : NULL;
    Py_XDECREF(numbers), Py_XDECREF(events);
    return both;
}

/* coded(waits, codes) */
static PyObject *coded(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *waits, *codes, *key, *why;
    Py_ssize_t count = 0;
    if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &waits, &PyDict_Type, &codes))
        return NULL;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(waits); i++)
        count += PyObject_Size(PyList_GET_ITEM(waits, i));
    PyObject *found = PyErr_Occurred() ? NULL : PyBytes_FromStringAndSize(NULL, count * sizeof(int));
    for (Py_ssize_t i = 0, at = 0; found && i < PyList_GET_SIZE(waits); i++)
        for (Py_ssize_t j = 0; found && PyDict_Next(PyList_GET_ITEM(waits, i), &j, &key, &why); at++) {
            PyObject *code = PyDict_GetItemWithError(codes, why);
            if (code)
                ((int *)PyBytes_AS_STRING(found))[at] = (int)PyLong_AsLong(code);
            else {
                if (!PyErr_Occurred())
                    PyErr_SetObject(PyExc_KeyError, why);
                Py_CLEAR(found);
            }
        }
    return found;
}

static PyMethodDef functions[] = {
    {"coded", coded, METH_VARARGS, "Why events wait, by number."},
    {"edges_of", edges_of, METH_VARARGS, "What events wait for."},
    {"forms", forms, METH_VARARGS, "The number of each event's form."},
    {"last_writes", last_writes, METH_VARARGS, "The last event that writes to each memory."},
    {"numbered", numbered, METH_VARARGS, "All numbers that events have, and the events'."},
    {"touched", touched, METH_VARARGS, "The tensors that need room, event by event."},
    {"lives", lives, METH_O, "The first event of each tensor, and the last."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "walks", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_walks(void)
{
    PyObject *trace = PyImport_ImportModule("triptych.simulator.trace");
    if (!set_up_hazards() || !set_up_places() || !trace || !(Event = (PyTypeObject *)PyObject_GetAttrString(trace, "Event")) ||
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
    return PyModule_Create(&definition);
}
