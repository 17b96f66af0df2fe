// Launches the kernel of one type for the sizes at hand.
#pragma once

#include "cuda/attend_launch.h"
#include "cuda/heuristics.h"

namespace svm::cuda {

// Block is a class with kBlockSize, Notes and kernel().
template <typename Block>
cudaError_t run_block(const AttendArgs& args, const Grid& grid) {
  static_assert(sizeof(typename Block::Notes) <= kNotesBytes);
  const auto kernel = Block::kernel();
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(grid.shared_bytes));
  if (error != cudaSuccess) return error;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(grid.blocks);
  config.blockDim = dim3(Block::kBlockSize);
  config.dynamicSmemBytes = static_cast<size_t>(grid.shared_bytes);
  config.stream = static_cast<cudaStream_t>(grid.stream);
  return cudaLaunchKernelEx(&config, kernel, args);
}

// The sizes that have kernels: one tuned window, and any other up to 16 x 16.
template <template <typename, typename, int, int, bool> class Block, typename Element, typename Stored = Element>
cudaError_t run_sizes(const AttendArgs& args, const Grid& grid) {
  switch (args.dim) {
    case 32:
      return run_block<Block<Element, Stored, 32, 0, attend_both_planes(32)>>(args, grid);
    case 64:
      return args.side == 14 ? run_block<Block<Element, Stored, 64, 14, attend_both_planes(64)>>(args, grid)
                             : run_block<Block<Element, Stored, 64, 0, attend_both_planes(64)>>(args, grid);
    case 96:
      return run_block<Block<Element, Stored, 96, 0, attend_both_planes(96)>>(args, grid);
    default:
      return run_block<Block<Element, Stored, 128, 0, attend_both_planes(128)>>(args, grid);
  }
}

}  // namespace svm::cuda
