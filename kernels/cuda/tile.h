// How the tokens of a tile lie in shared memory.
//
// A tile is a few lines of tokens: a line is one row of one frame, `side` tokens of kDim numbers of 16 bits. Both
// planes read it by ldmatrix, eight tokens at a time and of each the same 16 bytes: the row plane takes eight
// neighbours of one line, the column plane the same column of eight lines. Eight such pieces are read at once where
// they lie in different eighths of 128 bytes. To have that in both directions
//   - a line has an odd number of places, so that eight neighbours and eight lines alike begin at eight different
//     multiples of a token, modulo 8 (of 14 tokens a line, one place in fifteen stays empty);
//   - the 16-byte chunks of a token change places by an exclusive or with the token's number: of 128 bytes and their
//     multiples all eight chunks; of 64 bytes, and of the three 64-byte parts of a token of 192, the four of a part.
#pragma once

#include <cstdint>

#include "svm/ring.h"

namespace svm::cuda {

constexpr int kChunkBytes = 16;
constexpr int kChunkNumbers = 8;
constexpr int kTileAlign = 128;
constexpr int kKeys = 16;  // that an mma takes at a time: lines of the column plane, columns of the row plane

// Places of a line.
SVM_HOST_DEVICE constexpr int pitch(int side) { return side | 1; }

template <int kDim>
struct TokenLayout {
  static_assert(kDim % 32 == 0, "whole parts of 64 bytes");
  static constexpr int kChunks = kDim / kChunkNumbers;
  static constexpr int kPart = kChunks % 8 == 0 ? 8 : 4;  // chunks that change places among each other
  static constexpr int kBytes = kDim * 2;

  SVM_HOST_DEVICE static constexpr int swizzle(int token) { return kPart == 8 ? token & 7 : token >> 1 & 3; }

  // Bytes from the start of a tile; the start is aligned to 128.
  SVM_HOST_DEVICE static constexpr int place(int token, int chunk) {
    return token * kBytes + (chunk ^ swizzle(token)) * kChunkBytes;
  }

  // From the place of chunk 0 or 1 to that of chunk 2 * step or 2 * step + 1 of the same token: what is added, and what
  // then changes by exclusive or. Neither depends on the token, so that both are constants in an unrolled loop.
  SVM_HOST_DEVICE static constexpr int step_added(int step) { return 2 * step / kPart * kPart * kChunkBytes; }
  SVM_HOST_DEVICE static constexpr int step_flipped(int step) { return 2 * step % kPart * kChunkBytes; }
  SVM_HOST_DEVICE static constexpr uint32_t step_from(uint32_t first, int step) {
    return (first ^ step_flipped(step)) + step_added(step);
  }
};

// The token that a lane names to ldmatrix, of 16 keys, and which of two neighbouring chunks; as the first factor's
// transpose (keys of q k^T) and as the second factor (values of p v, taken transposed).
SVM_HOST_DEVICE constexpr int key_of_lane(int lane) { return (lane >> 4 & 1) * 8 + (lane & 7); }
SVM_HOST_DEVICE constexpr int key_chunk_of_lane(int lane) { return lane >> 3 & 1; }
SVM_HOST_DEVICE constexpr int value_of_lane(int lane) { return (lane >> 3 & 1) * 8 + (lane & 7); }
SVM_HOST_DEVICE constexpr int value_chunk_of_lane(int lane) { return lane >> 4 & 1; }

// Bytes of one tensor's part of a tile.
SVM_HOST_DEVICE constexpr int64_t tile_bytes(int lines, int side, int dim) {
  return int64_t{2} * lines * pitch(side) * dim;
}

// Where sums of a unit's tokens are exchanged between warps, in fp32: as large as keys and values of as many lines.
// Numbers change places in pieces of eight, by the token's number: a lane writes two, four lanes a piece, and what
// eight lanes write of four tokens lies in different quarters of 128 bytes. First the place of number 2 t of a token, t
// < 4, then from there that of number 8 * piece + 2 t.
SVM_HOST_DEVICE constexpr int exchange_first(int token, int two, int dim) {
  return token * dim + (token & 3) * kChunkNumbers + two;
}
SVM_HOST_DEVICE constexpr int exchange_from(int first, int piece) {
  return (first ^ (piece & 3) * kChunkNumbers) + (piece & ~3) * kChunkNumbers;
}

namespace tile_checks {

constexpr int min(int a, int b) { return a < b ? a : b; }

// Whether eight tokens, `step` places apart and none beyond `last`, lie in different eighths of 128 bytes in all
// chunks.
template <int kDim>
constexpr bool free_of_conflicts(int first, int step, int last) {
  for (int chunk = 0; chunk < TokenLayout<kDim>::kChunks; ++chunk) {
    int taken = 0;
    for (int i = 0; i < 8; ++i) {
      const int token = min(first + i * step, last);
      const int bit = 1 << (TokenLayout<kDim>::place(token, chunk) / kChunkBytes % 8);
      if ((taken & bit) != 0 && first + i * step <= last) return false;
      taken |= bit;
    }
  }
  return true;
}

template <int kDim>
constexpr bool both_planes_are_free(int side) {
  const int line = pitch(side);
  for (int at = 0; at < side; ++at) {
    for (int first = 0; first < side; first += 8) {
      if (!free_of_conflicts<kDim>(at * line + first, 1, at * line + side - 1)) return false;
      if (!free_of_conflicts<kDim>(first * line + at, line, (side - 1) * line + at)) return false;
    }
  }
  return true;
}

static_assert(exchange_from(exchange_first(3, 2, 64), 5) == 3 * 64 + 4 * 8 + 2 * 8 + 2);
static_assert(both_planes_are_free<64>(14) && both_planes_are_free<64>(16) && both_planes_are_free<64>(7));
static_assert(both_planes_are_free<32>(14) && both_planes_are_free<96>(14) && both_planes_are_free<128>(14));

}  // namespace tile_checks

}  // namespace svm::cuda
