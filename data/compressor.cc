#include "data/compressor.h"

#include <lzma.h>

#include <algorithm>
#include <vector>

#include "data/dataset.h"

namespace plumb::data {
namespace {

// Feeds `input`, then `action` to its end; returns the bytes that came out.
uint64_t Feed(lzma_stream* stream, std::string_view input, lzma_action action) {
  std::vector<uint8_t> out(1 << 16);
  const uint64_t before = stream->total_out;
  stream->next_in = reinterpret_cast<const uint8_t*>(input.data());
  stream->avail_in = input.size();
  for (;;) {
    stream->next_out = out.data();
    stream->avail_out = out.size();
    const lzma_ret result = lzma_code(stream, action);
    if (result == LZMA_STREAM_END) return stream->total_out - before;
    if (result != LZMA_OK)
      throw DataError("the compressor failed (liblzma error " + std::to_string(result) + ")");
  }
}

}  // namespace

double CompressorBitsPerByte(std::string_view primer, std::string_view text) {
  if (text.empty()) return 0;
  lzma_options_lzma options;
  if (lzma_lzma_preset(&options, 9 | LZMA_PRESET_EXTREME))
    throw DataError("liblzma lacks its preset 9e");
  // -9's 64 MiB would cost 674 MB of memory for any input; a window of the input's size finds the
  // same matches.
  const uint64_t size = primer.size() + text.size();
  options.dict_size =
      static_cast<uint32_t>(std::clamp<uint64_t>(size, LZMA_DICT_SIZE_MIN, uint64_t{64} << 20));
  const lzma_filter filters[] = {{LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, nullptr}};
  lzma_stream stream = LZMA_STREAM_INIT;
  struct End {
    lzma_stream* stream;
    ~End() { lzma_end(stream); }
  } end{&stream};
  if (lzma_raw_encoder(&stream, filters) != LZMA_OK)
    throw DataError("too little memory to compress the test text");
  if (!primer.empty()) Feed(&stream, primer, LZMA_SYNC_FLUSH);
  const uint64_t added = Feed(&stream, text, LZMA_FINISH);
  return 8.0 * static_cast<double>(added) / static_cast<double>(text.size());
}

}  // namespace plumb::data
