/* What the walks over a trace (walks.c, hazards.c) and the places that views take (places.c) share. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Fields of a region, of an allocation, of a tensor of the hazards and of a view of one, which are tuples. A view that is
 * read has SOURCES in the place of MEETS. */
enum { ALLOCATION, OFFSET, SHAPE, STRIDES, DTYPE };
enum { ID, NAME, BUFFER, WHOLE, KIND, LINE, ADDRESS };
enum { LAST_WRITE, READERS, WRITERS, SHARED, READ, WRITTEN, MAP };
enum { PLACE, MEETS, HIDES, SOURCES = MEETS };
#define FIELD PyTuple_GET_ITEM

/* The slots of an Event, and where each lies in it. */
enum { OP, ENGINE, CORE, ATTRIBUTES, READS, WRITES, SLOTS };
extern Py_ssize_t slot_at[SLOTS];
#define OF(event, what) (*(PyObject **)((char *)(event) + slot_at[what]))

/* Whether the call of a method that returns nothing, or what another holds, went well. */
static inline int is_done(PyObject *returned)
{
    Py_XDECREF(returned);
    return returned != NULL;
}

/* What a dict holds by a key, borrowed; `new` if there was nothing. Takes the references of key and `new`, which may be NULL. */
static inline PyObject *held(PyObject *dict, PyObject *key, PyObject *new)
{
    PyObject *found = key && new ? PyDict_SetDefault(dict, key, new) : NULL;
    Py_XDECREF(key);
    Py_XDECREF(new);
    return found;
}

/* _Map.see_read or .see_written, whose result is borrowed of `views`, which hold it by what the region `says`. */
PyObject *see_view(PyObject *map, PyObject *views, PyObject *region, PyObject *says, int is_written);

/* A list of as many as there are events; NULL if these are no events. */
PyObject *list_for(PyObject *events);

PyObject *edges_of(PyObject *module, PyObject *args);
PyObject *last_writes(PyObject *module, PyObject *args);

/* Once; whether that went well. */
int set_up_hazards(void);
int set_up_places(void);
