/* What every line of a kernel does, compiled: puts the functions of slices.c, contents.c, allocations.c, instructions.c and drivers.c in the
 * place of those in Python (frequent.h).
 */
#include "frequent.h"

Py_ssize_t slots[SLOTS];
#define DEFINE(name) PyObject *name;
#define DEFINE_REPLACED(name) PyObject *name##_in_python;
#define DEFINE_NAME(name) PyObject *n_##name;
GIVEN(DEFINE)
REPLACED(DEFINE_REPLACED)
NAMES(DEFINE_NAME)
PyObject *no_arguments, *no_name;
Turning turn;
Widening widen;

PyObject *call_in_python(PyObject *function, PyObject *self, PyObject *const *given, Py_ssize_t count, PyObject *names)
{
    Py_ssize_t all = count + (names ? PyTuple_GET_SIZE(names) : 0);
    PyObject **values = PyMem_New(PyObject *, all + 1), *answer;
    if (!values)
        return PyErr_NoMemory();
    values[0] = self;
    for (Py_ssize_t i = 0; i < all; i++)
        values[i + 1] = given[i];
    answer = PyObject_Vectorcall(function, values, count + 1, names);
    PyMem_Free(values);
    return answer;
}

static int find_slots(void)
{
#define NAME_SLOT(type, name) {&type, #name},
    static const struct { PyObject **type; const char *name; } of[] = {SLOTS_OF(NAME_SLOT)};
    for (int i = 0; i < SLOTS; i++) {
        PyObject *slot = PyObject_GetAttrString(*of[i].type, of[i].name);
        int is_slot = slot && Py_TYPE(slot) == &PyMemberDescr_Type;
        if (is_slot)
            slots[i] = ((PyMemberDescrObject *)slot)->d_member->offset;
        else if (slot)
            PyErr_Format(PyExc_TypeError, "%s is no slot of %R", of[i].name, *of[i].type);
        Py_XDECREF(slot);
        if (!is_slot)
            return -1;
    }
    return 0;
}

#define FUNCTION(name) (PyCFunction)(void (*)(void))name
static PyMethodDef methods[] = { /* with their parameters where `described` puts more */
    {"__getitem__", FUNCTION(getitem), METH_O, "$self, key"},
    {"f32", FUNCTION(f32), METH_NOARGS, "$self"},
    {"_unused", FUNCTION(unused), METH_FASTCALL, "live, block"},
    {"wrote", FUNCTION(tensor_wrote), METH_NOARGS, "$self"},
    {"wrote", FUNCTION(storage_wrote), METH_FASTCALL | METH_KEYWORDS, "$self, at, by_matmul=False"},
    {"wrote_rows", FUNCTION(storage_wrote_rows), METH_FASTCALL | METH_KEYWORDS, "$self, at, rows"},
    {"__del__", FUNCTION(storage_del), METH_NOARGS, "$self"},
    {"allocate", FUNCTION(allocate), METH_FASTCALL | METH_KEYWORDS, "$self, shape, dtype, buffer, name='', address=None"},
    {"execute", FUNCTION(execute), METH_FASTCALL, "$self, kind, args, kwargs"},
    {"carry_out", FUNCTION(carry_out), METH_FASTCALL, "what, args, kwargs"},
    {"moved_to", FUNCTION(moved_to), METH_FASTCALL, "region, offsets"},
    {"spread", FUNCTION(spread), METH_FASTCALL, "entries, offset, scale"},
    {"regions_of", FUNCTION(regions_of), METH_O, "touched"},
};
static PyGetSetDef array_in_place = {"array", array, NULL, NULL, NULL};

/* The signature and the documentation of a method, as those of the one in Python are; kept for good. */
static const char *described(const PyMethodDef *method, PyObject *in_python)
{
    PyObject *words = PyObject_GetAttrString(in_python, "__doc__");
    PyObject *text = words ? PyUnicode_FromFormat("%s(%s)\n--\n\n%S", method->ml_name, method->ml_doc, words) : NULL;
    Py_XDECREF(words);
    return text ? PyUnicode_AsUTF8(text) : NULL;
}

/* Put a function in the place of one in Python, which is kept. */
static int replace(PyObject *owner, const char *name, PyObject *made)
{
    int failed = !made || PyObject_SetAttrString(owner, name, made);
    Py_XDECREF(made);
    return failed;
}

static int replace_all(void)
{
    PyObject *const owners[] = {Tensor, Tensor, pools, Tensor, Storage, Storage, Storage, Machine, Machine, instructions, dynamic, dynamic, machines};
    PyObject **const kept[] = {&getitem_in_python, &f32_in_python, &unused_in_python, &tensor_wrote_in_python,
                               &storage_wrote_in_python, &storage_wrote_rows_in_python, &storage_del_in_python, &allocate_in_python, &execute_in_python, &carry_out_in_python,
                               &moved_to_in_python, &spread_in_python, &regions_of_in_python};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        PyMethodDef *method = &methods[i];
        if (!(*kept[i] = PyObject_GetAttrString(owners[i], method->ml_name)) || !(method->ml_doc = described(method, *kept[i])))
            return -1;
        PyObject *made = PyModule_Check(owners[i]) ? PyCFunction_New(method, NULL) : PyDescr_NewMethod((PyTypeObject *)owners[i], method);
        if (replace(owners[i], method->ml_name, made))
            return -1;
    }
    PyObject *property = PyObject_GetAttrString(Tensor, "array"), *words = property ? PyObject_GetAttrString(property, "__doc__") : NULL;
    array_in_python = property ? PyObject_GetAttrString(property, "fget") : NULL;
    if (!array_in_python || !words || !(array_in_place.doc = PyUnicode_AsUTF8(words))) /* both are kept for good */
        return -1;
    return replace(Tensor, "array", PyDescr_NewGetSet((PyTypeObject *)Tensor, &array_in_place));
}

static PyObject *install(PyObject *Py_UNUSED(module), PyObject *args, PyObject *given)
{
    if (!PyArg_ParseTuple(args, ":install"))
        return NULL;
    if (execute_in_python) {
        PyErr_SetString(PyExc_RuntimeError, "installed already");
        return NULL;
    }
#define TAKE(name) \
    if (!(name = Py_XNewRef(given ? PyDict_GetItemString(given, #name) : NULL))) \
        return PyErr_Format(PyExc_TypeError, "install takes %s", #name);
    GIVEN(TAKE)
    if (PyCapsule_IsValid(turning, "turning"))
        turn = (Turning)PyCapsule_GetPointer(turning, "turning");
    if (PyCapsule_IsValid(widening, "widening"))
        widen = (Widening)PyCapsule_GetPointer(widening, "widening");
    if (find_slots() || replace_all())
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"install", FUNCTION(install), METH_VARARGS | METH_KEYWORDS, "Put the functions of these files in the place of those in Python, once."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "frequent", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_frequent(void)
{
#define INTERN(name) || !(n_##name = PyUnicode_InternFromString(#name))
    if (!(no_arguments = PyTuple_New(0)) || !(no_name = PyUnicode_InternFromString("")) NAMES(INTERN))
        return NULL;
    return PyModule_Create(&definition);
}
