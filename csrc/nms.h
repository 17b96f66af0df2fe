// The arguments of nms, checked as far as shapes, types and devices tell.
#pragma once

#include "check.h"

namespace svm {

void check_nms(const Arg& boxes, const Arg& scores, const Arg& groups, double threshold);

}  // namespace svm
