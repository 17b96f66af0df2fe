#include "../nms.h"

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "../parallel.h"
#include "../tensors.h"
#include "cpu/kernels.h"

namespace svm {
namespace {

// One box as the order sees it.
struct Candidate {
  int64_t group;
  double score;
  int64_t index;
};

// By group, then best score first, NaN last, then first come first: one order for one input.
bool precedes(const Candidate& a, const Candidate& b) {
  if (a.group != b.group) return a.group < b.group;
  if (a.score > b.score) return true;
  if (a.score < b.score) return false;
  const bool a_nan = std::isnan(a.score), b_nan = std::isnan(b.score);
  return a_nan != b_nan ? b_nan : a.index < b.index;
}

// What a call needs besides its output; kept by the thread that calls.
struct Workspace {
  std::vector<Candidate> candidates;
  std::vector<int64_t> order, starts;
};

void sort_into_groups(const Arg& scores, const Arg& groups, int64_t count, Workspace& work) {
  const bool fp64 = dtype_of(scores) == Dtype::kFloat64;
  work.candidates.resize(count);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t at = i * scores.strides[0];
    const double score =
        fp64 ? static_cast<const double*>(scores.data)[at] : static_cast<const float*>(scores.data)[at];
    work.candidates[i] = {static_cast<const int64_t*>(groups.data)[i * groups.strides[0]], score, i};
  }
  std::sort(work.candidates.begin(), work.candidates.end(), precedes);
  work.order.resize(count);
  work.starts.clear();
  for (int64_t i = 0; i < count; ++i) {
    if (i == 0 || work.candidates[i].group != work.candidates[i - 1].group) work.starts.push_back(i);
    work.order[i] = work.candidates[i].index;
  }
  work.starts.push_back(count);
}

void check_float(const Arg& arg) {
  SVM_CHECK(arg.dtype == aoti_torch_dtype_float32() || arg.dtype == aoti_torch_dtype_float64(),
            "%s: expected float32 or float64, got %s; convert it with .float()", arg.name, dtype_text(arg.dtype));
}

Tensor nms_mask(const Tensor& boxes_tensor, const Tensor& scores_tensor, const Tensor& groups_tensor,
                double threshold) {
  const Arg boxes("boxes", boxes_tensor), scores("scores", scores_tensor), groups("groups", groups_tensor);
  check_nms(boxes, scores, groups, threshold);
  const int64_t count = boxes.sizes[0];
  Tensor keep = new_tensor(boxes, aoti_torch_dtype_bool(), {count});
  if (count == 0) return keep;
  static thread_local Workspace work;
  sort_into_groups(scores, groups, count, work);
  NmsParams params;
  params.boxes = boxes.data;
  params.order = work.order.data();
  params.starts = work.starts.data();
  params.count = count;
  params.groups = static_cast<int64_t>(work.starts.size()) - 1;
  params.threshold = threshold;
  params.keep = static_cast<bool*>(keep.data_ptr());
  params.dtype = dtype_of(boxes);
  const cpu::Kernels& kernels = cpu::selected_set();
  const double operations_a_box = 200.0;  // a guess: it depends on who is near
  for_units(params.groups, operations_a_box * static_cast<double>(count) / static_cast<double>(params.groups),
            [&](int64_t begin, int64_t end) { kernels.nms(params, begin, end); });
  return keep;
}

}  // namespace

void check_nms(const Arg& boxes, const Arg& scores, const Arg& groups, double threshold) {
  SVM_CHECK(boxes.rank == 2 && boxes.sizes[1] == 4, "boxes: expected shape [n, 4], got %s; give x1, y1, x2, y2 a row",
            shape_text(boxes).c_str());
  const int64_t count = boxes.sizes[0];
  check_float(boxes);
  check_float(scores);
  check_dtype(groups, aoti_torch_dtype_int64(), "convert it with .long()");
  check_shape(scores, {{"n", count}}, "there is one score a box");
  check_shape(groups, {{"n", count}}, "there is one group a box");
  check_same_device(scores, boxes);
  check_same_device(groups, boxes);
  check_contiguous(boxes, "call .contiguous()");
  SVM_CHECK(!std::isnan(threshold), "threshold: expected a number, got nan; 0.7 is a usual one");
}

}  // namespace svm

STABLE_TORCH_LIBRARY_IMPL(svm_ext, CPU, m) { m.impl("nms_mask", TORCH_BOX(&svm::nms_mask)); }
