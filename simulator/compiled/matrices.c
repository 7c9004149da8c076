/* What the Tensor Engine makes of matrices that lie row by row (engines.tensor): a product, and one that is added, by the function of
 * the library with which NumPy multiplies (machine.deferral.blas), and the transpose.
 */
#include "frequent.h"

#include <stdint.h>

enum { ALLOCATION_DTYPE = 4 }; /* a field of an Allocation */
enum { ROW_MAJOR = 101, AS_IT_IS = 111, TRANSPOSED = 112 }; /* of CBLAS */
typedef void Sgemm64(int, int, int, int64_t, int64_t, int64_t, float, const void *, int64_t, const void *, int64_t, float, void *, int64_t);
typedef void Sgemm32(int, int, int, int, int, int, float, const void *, int, const void *, int, float, void *, int);

/* A matrix in memory that is held as long as it is looked at; `step` is from row to row, in elements. */
struct matrix {
    Py_buffer bytes;
    char *at;
    Py_ssize_t rows, columns, step;
};

/* The function, and the size of its whole numbers; NULL without one. */
static void *sgemm_of_numpy(Py_ssize_t *size)
{
    static unsigned long long address;
    static Py_ssize_t size_of_number = -1;
    if (size_of_number < 0) {
        PyObject *found = PyObject_CallNoArgs(find_sgemm);
        if (!found || !PyArg_ParseTuple(found, "Kn", &address, &size_of_number))
            size_of_number = 0;
        Py_XDECREF(found);
    }
    *size = size_of_number;
    return size_of_number == sizeof(int64_t) || size_of_number == sizeof(int) ? (void *)(uintptr_t)address : NULL;
}

/* The elements of a tensor, of so many bytes each, as its storage has them: 1, to be released, or 0. */
static int take_stored(PyObject *tensor, Py_ssize_t size, struct matrix *matrix, int flags)
{
    PyObject *storage = SLOT(tensor, Tensor_storage);
    Py_ssize_t first = PyLong_AsSsize_t(SLOT(tensor, Tensor_offset)), end = first + (matrix->rows - 1) * matrix->step + matrix->columns;
    if ((PyObject *)Py_TYPE(storage) != Storage || !is_open(storage) || !has_bytes(storage)
        || PyObject_GetBuffer(SLOT(storage, Storage__raw), &matrix->bytes, flags))
        return 0;
    matrix->at = (char *)matrix->bytes.buf + size * first;
    if (first >= 0 && size * end <= matrix->bytes.len)
        return 1;
    PyBuffer_Release(&matrix->bytes);
    return 0;
}

/* Whether a tensor is a matrix of the frequent kind, and its sizes. */
static int is_matrix(PyObject *tensor, struct matrix *matrix)
{
    PyObject *shape = SLOT(tensor, Tensor_shape), *strides = SLOT(tensor, Tensor_strides);
    if (PyTuple_GET_SIZE(shape) != 2 || PyLong_AsSsize_t(PyTuple_GET_ITEM(strides, 1)) != 1)
        return 0;
    matrix->rows = PyLong_AsSsize_t(PyTuple_GET_ITEM(shape, 0)), matrix->columns = PyLong_AsSsize_t(PyTuple_GET_ITEM(shape, 1));
    matrix->step = PyLong_AsSsize_t(PyTuple_GET_ITEM(strides, 0));
    return matrix->rows > 1 && matrix->columns > 1 && matrix->step >= matrix->columns; /* of one row NumPy makes something else */
}

PyObject *widened(PyObject *tensor)
{
    PyObject *storage = SLOT(tensor, Tensor_storage), *dtype = SLOT(tensor, Tensor_dtype), *made;
    struct matrix from;
    Py_buffer to;
    if (!widen || PyUnicode_CompareWithASCIIString(dtype, "bfloat16") || !is_matrix(tensor, &from))
        return NULL;
    if (!take_stored(tensor, 2, &from, PyBUF_SIMPLE))
        return NULL;
    int is_kept = SLOT(storage, Storage_widened) == Py_False && SLOT(storage, Storage_row) && PyObject_IsTrue(SLOT(storage, Storage_row)) == 1
                  && PyTuple_GET_ITEM(SLOT(storage, Storage_allocation), ALLOCATION_DTYPE) == dtype;
    made = is_kept ? PyObject_CallFunctionObjArgs(empty, SLOT(tensor, Tensor_shape), f32_dtype, NULL) : NULL;
    int failed = !made || PyObject_GetBuffer(made, &to, PyBUF_WRITABLE);
    if (!failed) {
        widen(from.at, 2 * from.step, to.buf, 4 * from.columns, from.rows, from.columns);
        PyBuffer_Release(&to);
        failed = PyDict_SetItem(SLOT(storage, Storage__f32), SLOT(tensor, Tensor_layout), made);
    }
    PyBuffer_Release(&from.bytes);
    if (failed)
        Py_CLEAR(made);
    return made;
}

/* The elements of a tensor as engines see them: 1, to be released, or 0. */
static int take_converted(PyObject *tensor, struct matrix *matrix)
{
    PyObject *array = f32(tensor, NULL);
    int is_taken = array && !PyObject_GetBuffer(array, &matrix->bytes, PyBUF_STRIDED_RO);
    Py_XDECREF(array); /* its buffer keeps it */
    if (!is_taken)
        return 0;
    const Py_buffer *bytes = &matrix->bytes;
    matrix->at = bytes->buf;
    if (bytes->ndim == 2 && bytes->itemsize == 4 && bytes->shape[0] == matrix->rows && bytes->shape[1] == matrix->columns
        && bytes->strides[1] == 4 && bytes->strides[0] % 4 == 0 && bytes->strides[0] >= 4 * matrix->columns) {
        matrix->step = bytes->strides[0] / 4;
        return 1;
    }
    PyBuffer_Release(&matrix->bytes);
    return 0;
}

/* A matrix of float32: 1, to be released, or 0. */
static int take_matrix(PyObject *tensor, struct matrix *matrix, int is_result)
{
    if (!is_matrix(tensor, matrix))
        return 0;
    if (PyUnicode_CompareWithASCIIString(SLOT(tensor, Tensor_dtype), "float32") == 0)
        if (take_stored(tensor, 4, matrix, is_result ? PyBUF_WRITABLE : PyBUF_SIMPLE))
            return 1;
    return !is_result && !PyErr_Occurred() && take_converted(tensor, matrix);
}

/* Whether BLAS, told to add, gives the bits of NumPy's product and sum: blas.same_bits. */
static int adds_alike(const struct matrix *left, const struct matrix *right)
{
    PyObject *answer = PyObject_CallFunction(same_bits, "n(nn)(nn)(OO)", left->rows, left->columns, right->columns, left->columns,
                                             right->columns, Py_False, Py_False);
    int is_same = answer == Py_True;
    Py_XDECREF(answer);
    return is_same;
}

/* to (+)= left.T @ right. */
static int multiply_matrices(const struct matrix *left, const struct matrix *right, const struct matrix *to, int adds)
{
    Py_ssize_t size, m = left->columns, n = right->columns, k = left->rows;
    void *sgemm = sgemm_of_numpy(&size);
    int fits = sgemm && right->rows == k && to->rows == m && to->columns == n && left->at != right->at; /* of one matrix NumPy makes half */
    if (!fits || (adds && !adds_alike(left, right)))
        return 0;
    Py_BEGIN_ALLOW_THREADS
    if (size == sizeof(int64_t))
        ((Sgemm64 *)sgemm)(ROW_MAJOR, TRANSPOSED, AS_IT_IS, m, n, k, 1, left->at, left->step, right->at, right->step, adds, to->at, to->step);
    else
        ((Sgemm32 *)sgemm)(ROW_MAJOR, TRANSPOSED, AS_IT_IS, (int)m, (int)n, (int)k, 1, left->at, (int)left->step, right->at,
                           (int)right->step, adds, to->at, (int)to->step);
    Py_END_ALLOW_THREADS
    return 1;
}

/* Note that a result was written: 1, or -1. */
static int note(PyObject *dst, PyObject *by_matmul)
{
    PyObject *into = SLOT(dst, Tensor_storage), *layout = SLOT(dst, Tensor_layout), *noted = NULL;
    if (note_written(into, layout, by_matmul))
        return 1;
    noted = PyObject_CallMethodObjArgs(into, n_wrote, layout, by_matmul, NULL);
    Py_XDECREF(noted);
    return noted ? 1 : -1;
}

int multiply(PyObject *dst, PyObject *stationary, PyObject *moving, int adds)
{
    PyObject *into = SLOT(dst, Tensor_storage);
    struct matrix left, right, to;
    int done = 0;
    if (into == SLOT(stationary, Tensor_storage) || into == SLOT(moving, Tensor_storage) || !take_matrix(stationary, &left, 0))
        return 0;
    if (take_matrix(moving, &right, 0)) {
        if (take_matrix(dst, &to, 1)) {
            done = multiply_matrices(&left, &right, &to, adds);
            PyBuffer_Release(&to.bytes);
        }
        PyBuffer_Release(&right.bytes);
    }
    PyBuffer_Release(&left.bytes);
    return done ? note(dst, Py_True) : 0;
}

int transpose(PyObject *dst, PyObject *data)
{
    PyObject *into = SLOT(dst, Tensor_storage), *dtype = SLOT(dst, Tensor_dtype), *itemsize = NULL;
    struct matrix from, to;
    if (!turn || into == SLOT(data, Tensor_storage) || dtype != SLOT(data, Tensor_dtype) || SLOT(into, Storage_widened) != Py_False)
        return 0;
    if (!is_matrix(data, &from) || !is_matrix(dst, &to) || !(itemsize = PyObject_GetAttr(dtype, n_itemsize)))
        return 0;
    Py_ssize_t size = PyLong_AsSsize_t(itemsize);
    int done = from.rows == to.columns && from.columns == to.rows && take_stored(data, size, &from, PyBUF_SIMPLE);
    Py_DECREF(itemsize);
    if (!done)
        return 0;
    if ((done = take_stored(dst, size, &to, PyBUF_WRITABLE))) {
        done = turn(from.at, from.step * size, to.at, to.step * size, from.rows, from.columns, size);
        PyBuffer_Release(&to.bytes);
    }
    PyBuffer_Release(&from.bytes);
    return done ? note(dst, Py_False) : 0;
}
