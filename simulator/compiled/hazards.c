/* Which event has to wait for which, compiled: triptych.simulator.analysis.hazards, after whose text each function is written
 * that has its name there, on the same dicts and lists. What is rare is left to the Python.
 */
#include "walks.h"
#include <stddef.h>
#include <string.h>

/* Reasons to wait, attributes and methods, by name. */
#define NAMES(X) X(add) X(after) X(data) X(last_writes) X(maps) X(memories) X(no_reorder) X(of) X(order) X(overwrite) X(read) X(registers) X(see) X(views)
#define DECLARE(name) static PyObject *n_##name;
NAMES(DECLARE)

/* What was looked up before, by the identities that it follows from: the events and the tensors hold them while a walk lasts. */
enum { KNOWN = 1024 };
typedef struct { PyObject *allocation, *of_core, *tensor; } Tensor;
typedef struct { PyObject *views, *shape, *strides, *dtype; Py_ssize_t offset; PyObject *view; } View;
typedef struct { Tensor tensors[KNOWN]; View views[KNOWN]; } Memo;

/* What `edges_of` is given, parts of the tensors, and the event at hand. */
typedef struct {
    PyObject *tensors, *cores, *asked, *of, *last_writes, *memories, *maps, *of_core, *event, *index, *found;
    Memo *memo;
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

/* A tensor without an address, of a line of which another was seen: with accesses of its own, and the views of the other. */
static PyObject *see_alike(const Walk *w, PyObject *allocation)
{
    PyObject *id = FIELD(allocation, ID), *last = NULL, *layout = NULL, *found = NULL;
    if (!PyDict_GetItemWithError(w->memories, id) && (last = PyDict_GetItemWithError(w->last_writes, id))) {
        PyObject *alike = PyTuple_GetSlice(allocation, WHOLE, LINE + 1);
        layout = alike ? PyDict_GetItemWithError(w->maps, alike) : NULL;
        Py_XDECREF(alike);
    }
    PyObject *of_layout = layout ? PyObject_GetAttr(layout, n_views) : NULL;
    PyObject *views = of_layout ? PyDict_GetItemWithError(of_layout, Py_None) : NULL;
    PyObject *readers = views ? PyDict_New() : NULL, *writers = views ? PyDict_New() : NULL;
    if (readers && writers)
        found = PyTuple_Pack(7, last, readers, writers, Py_None, FIELD(views, 0), FIELD(views, 1), layout);
    if (found && PyDict_SetItem(w->memories, id, found))
        Py_CLEAR(found);
    Py_XDECREF(of_layout), Py_XDECREF(readers), Py_XDECREF(writers);
    return found;
}

/* A tensor with an address in a memory that was seen: with the accesses to that, and the views of those that lie alike. */
static PyObject *see_placed(const Walk *w, PyObject *allocation)
{
    PyObject *key = PyTuple_Pack(2, FIELD(allocation, BUFFER), OF(w->event, CORE)), *found = NULL;
    PyObject *memory = key ? PyDict_GetItemWithError(w->memories, key) : NULL, *layout = memory ? FIELD(memory, MAP) : NULL;
    PyObject *of_layout = layout ? PyObject_GetAttr(layout, n_views) : NULL, *views = NULL;
    if (of_layout)
        views = held(of_layout, PyTuple_Pack(3, FIELD(allocation, WHOLE), FIELD(allocation, KIND), FIELD(allocation, ADDRESS)),
                     Py_BuildValue("({}{})"));
    if (views)
        found = PyTuple_Pack(7, FIELD(memory, LAST_WRITE), FIELD(memory, READERS), FIELD(memory, WRITERS), FIELD(memory, SHARED),
                             FIELD(views, 0), FIELD(views, 1), layout);
    Py_XDECREF(key), Py_XDECREF(of_layout);
    return found;
}

/* _Tensors.see of a tensor that this core has not touched before, borrowed; what is like none before is left to the Python. */
static PyObject *see(const Walk *w, PyObject *allocation, PyObject *identity)
{
    PyObject *found = NULL;
    if (FIELD(allocation, ADDRESS) != Py_None)
        found = see_placed(w, allocation);
    else if (PyUnicode_CompareWithASCIIString(FIELD(allocation, BUFFER), "shared_hbm"))
        found = see_alike(w, allocation);
    if (found && PyDict_SetItem(w->of_core, identity, found))
        Py_CLEAR(found);
    else if (!found && !PyErr_Occurred()) /* which puts it there, too */
        found = PyObject_CallMethodObjArgs(w->tensors, n_see, w->event, allocation, NULL);
    Py_XDECREF(found);
    return found;
}

/* The tensor of a region as this core sees it, borrowed. */
static PyObject *tensor_of(Walk *w, PyObject *region)
{
    PyObject *allocation = FIELD(region, ALLOCATION);
    Tensor *known = &w->memo->tensors[(size_t)allocation / sizeof(PyObject) % KNOWN];
    if (known->allocation == allocation && known->of_core == w->of_core)
        return known->tensor;
    PyObject *identity = PyLong_FromVoidPtr(allocation), *tensor = identity ? PyDict_GetItemWithError(w->of_core, identity) : NULL;
    if (!tensor && !PyErr_Occurred())
        tensor = see(w, allocation, identity);
    Py_XDECREF(identity);
    if (tensor)
        *known = (Tensor){allocation, w->of_core, tensor};
    return tensor;
}

/* The places that a view of a tensor is about, borrowed. */
static PyObject *view_of(Walk *w, PyObject *tensor, int how, PyObject *region)
{
    const View asked = {FIELD(tensor, how), FIELD(region, SHAPE), FIELD(region, STRIDES), FIELD(region, DTYPE),
                        PyLong_AsSsize_t(FIELD(region, OFFSET)), NULL};
    size_t mixed = (size_t)asked.views / 32 + (size_t)asked.shape / 16 + (size_t)asked.strides / 8 + (size_t)asked.offset * 31;
    View *known = &w->memo->views[(mixed ^ mixed >> 10) % KNOWN];
    if (!memcmp(known, &asked, offsetof(View, view)))
        return known->view;
    PyObject *says = PyTuple_GetSlice(region, OFFSET, DTYPE + 1);
    PyObject *view = says ? PyDict_GetItemWithError(asked.views, says) : NULL;
    if (!view && !PyErr_Occurred())
        view = see_view(FIELD(tensor, MAP), asked.views, region, says, how == WRITTEN);
    Py_XDECREF(says);
    *known = asked;
    known->view = view;
    return view;
}

static int add_read(Walk *w, PyObject *region)
{
    PyObject *tensor = tensor_of(w, region);
    if (!tensor || tensor == Py_None)
        return tensor != NULL;
    PyObject *view = view_of(w, tensor, READ, region);
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

static int add_write(Walk *w, PyObject *region)
{
    PyObject *tensor = tensor_of(w, region), *view = tensor ? view_of(w, tensor, WRITTEN, region) : NULL;
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

/* edges_of(events, first, tensors, cores, asked) */
PyObject *edges_of(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *events, *all;
    Py_ssize_t first;
    Walk w = {0};
    if (!PyArg_ParseTuple(args, "O!nOOO", &PyList_Type, &events, &first, &w.tensors, &w.cores, &w.asked) || !(all = list_for(events)))
        return NULL;
    int is_right = (w.memo = PyMem_Calloc(1, sizeof(Memo))) && (w.of = PyObject_GetAttr(w.tensors, n_of)) &&
                   (w.last_writes = PyObject_GetAttr(w.tensors, n_last_writes)) &&
                   (w.memories = PyObject_GetAttr(w.tensors, n_memories)) && (w.maps = PyObject_GetAttr(w.tensors, n_maps));
    for (Py_ssize_t i = 0; is_right && i < PyList_GET_SIZE(events); i++) {
        w.index = PyLong_FromSsize_t(first + i);
        is_right = w.index && (w.found = PyDict_New());
        if (is_right) {
            PyList_SET_ITEM(all, i, w.found);
            is_right = add_all(&w, PyList_GET_ITEM(events, i));
        }
        Py_XDECREF(w.index);
    }
    Py_XDECREF(w.of), Py_XDECREF(w.last_writes), Py_XDECREF(w.memories), Py_XDECREF(w.maps);
    PyMem_Free(w.memo);
    if (!is_right) {
        Py_CLEAR(all);
        if (!PyErr_Occurred())
            PyErr_NoMemory();
    }
    return all;
}

/* last_writes(events) */
PyObject *last_writes(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *events, *found;
    if (!PyArg_ParseTuple(args, "O!", &PyList_Type, &events) || !(found = list_for(events)))
        return NULL;
    Py_SETREF(found, PyDict_New());
    for (Py_ssize_t i = 0; found && i < PyList_GET_SIZE(events); i++) {
        PyObject *event = PyList_GET_ITEM(events, i), *writes = OF(event, WRITES), *index = PyLong_FromSsize_t(i);
        for (Py_ssize_t j = 0; index && found && j < PyTuple_GET_SIZE(writes); j++) {
            PyObject *tensor = FIELD(FIELD(writes, j), ALLOCATION);
            PyObject *key = FIELD(tensor, ADDRESS) == Py_None ? Py_NewRef(FIELD(tensor, ID))
                                                              : PyTuple_Pack(2, FIELD(tensor, BUFFER), OF(event, CORE));
            if (!key || PyDict_SetItem(found, key, index))
                Py_CLEAR(found);
            Py_XDECREF(key);
        }
        if (!index)
            Py_CLEAR(found);
        Py_XDECREF(index);
    }
    return found;
}

int set_up_hazards(void)
{
#define INTERN(name)                                     \
    if (!(n_##name = PyUnicode_InternFromString(#name))) \
        return 0;
    NAMES(INTERN)
    return 1;
}
