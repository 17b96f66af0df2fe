#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include "../cuda_frame.h"
#include "../nms.h"
#include "cuda/nms.h"

namespace svm {
namespace {

Tensor nms_mask(const Tensor& boxes_tensor, const Tensor& scores_tensor, const Tensor& groups_tensor,
                double threshold) {
  const Arg boxes("boxes", boxes_tensor), scores("scores", scores_tensor), groups("groups", groups_tensor);
  check_nms(boxes, scores, groups, threshold);
  const int64_t count = boxes.sizes[0];
  constexpr int64_t kMostBoxes = int64_t{1} << 26;
  SVM_CHECK(count <= kMostBoxes, "boxes: expected at most %lld, got %lld; drop those of low scores first",
            static_cast<long long>(kMostBoxes), static_cast<long long>(count));
  const torch::stable::accelerator::DeviceGuard guard(boxes.device_index);
  Tensor keep = new_tensor(boxes, aoti_torch_dtype_bool(), {count});
  cuda::NmsArgs args = {};
  args.boxes = boxes.data;
  args.scores = scores.data;
  args.groups = static_cast<const int64_t*>(groups.data);
  args.dtype = dtype_of(boxes);
  args.score_dtype = dtype_of(scores);
  args.score_stride = scores.strides[0];
  args.group_stride = groups.strides[0];
  args.count = count;
  args.threshold = threshold;
  args.keep = static_cast<bool*>(keep.data_ptr());
  CudaLaunch("nms_mask", boxes).run(cuda::nms, args);
  return keep;
}

}  // namespace
}  // namespace svm

STABLE_TORCH_LIBRARY_IMPL(svm_ext, CUDA, m) { m.impl("nms_mask", TORCH_BOX(&svm::nms_mask)); }
