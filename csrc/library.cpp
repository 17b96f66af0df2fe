// The op library: every schema, and the module that Python loads.
#define Py_LIMITED_API 0x030A0000
#include <Python.h>
#include <torch/csrc/stable/library.h>

extern "C" __attribute__((visibility("default"))) PyObject* PyInit__C() {
  static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&module);
}

// Letters as in svm/params.h. `streams` None: all streams of the pool in order. `real` [W, 2]: real rows and columns of
// each window. `pad_k`, `pad_v` [H, D]: key and value of every padded token. `evict`: 0 merge, 1 fifo, 2 clear.
STABLE_TORCH_LIBRARY(svm_ext, m) {
  // One frame's K and V of the given streams into their ring slots.
  m.def(
      "memory_append_(Tensor(a!) k_pool, Tensor(b!) v_pool, Tensor(c!) cursor, Tensor k, Tensor v, Tensor step, "
      "Tensor? streams, Tensor? real, int evict) -> ()");
  // Both axial attentions of one frame's queries over the frames in memory; what the backward needs when asked.
  m.def(
      "memory_attend(Tensor q, Tensor k_pool, Tensor v_pool, Tensor cursor, Tensor? streams, Tensor? real, "
      "Tensor? pad_k, Tensor? pad_v, float scale, bool for_backward) -> (Tensor out, Tensor? out_column, Tensor? lse)");
  // The gradient of q; K and V in memory are detached by definition.
  m.def(
      "memory_attend_backward(Tensor dout, Tensor q, Tensor k_pool, Tensor v_pool, Tensor cursor, Tensor? streams, "
      "Tensor? real, Tensor? pad_k, Tensor? pad_v, Tensor out, Tensor out_column, Tensor lse, float scale) -> Tensor");
  // memory_append_ and memory_attend in one: the new frame is read once.
  m.def(
      "stream_step_(Tensor(a!) k_pool, Tensor(b!) v_pool, Tensor(c!) cursor, Tensor q, Tensor k, Tensor v, "
      "Tensor step, Tensor? streams, Tensor? real, Tensor? pad_k, Tensor? pad_v, float scale, int evict) -> Tensor");
  // All frames of a clip at once, [B, T, W, H, N, D]: frame t attends to the frames that its memory would hold.
  m.def(
      "clip_attend(Tensor q, Tensor k, Tensor v, Tensor? real, Tensor? pad_k, Tensor? pad_v, float scale, "
      "int memory_frames, int evict, bool for_backward) -> (Tensor out, Tensor? out_column, Tensor? lse)");
  // The gradient of q, as above.
  m.def(
      "clip_attend_backward(Tensor dout, Tensor q, Tensor k, Tensor v, Tensor? real, Tensor? pad_k, Tensor? pad_v, "
      "Tensor out, Tensor out_column, Tensor lse, float scale, int memory_frames, int evict) -> Tensor");
  // Which boxes stay: those that overlap no better kept box of their own group by more than the threshold.
  m.def("nms_mask(Tensor boxes, Tensor scores, Tensor groups, float threshold) -> Tensor");
  // The CPU's instruction set in use, after choosing `select` where it is given.
  m.def("cpu_isa(str? select) -> str");
  // The sets that this CPU can run, comma separated, best last.
  m.def("cpu_isas() -> str");
  // Multiply-adds on all of torch's threads in GFLOP/s, measured now; with `dot` those of the bf16 dot product.
  m.def("cpu_peak(bool dot, int rounds) -> float");
  // What this library was built as, in JSON.
  m.def("build_info() -> str");
}
