// The boundary between Java and native code: everything that Java can call. Java decides (names, prompts, pages, schedules), native
// computes. Plain pointers and an opaque handle; every entry throws jvlm::Error and nothing else (base/error.h).
//
// Threads: one thread at a time may use an engine (Java's engine thread). `resize`, `info`, `devices` and `live_engines` hold no state
// and may be called from any thread.
#pragma once
#include <cstdint>

namespace jvlm {

struct Engine;
struct SampleRow;                      // ops/ops.h

// Opens a model on a device and loads its weights.
//   device    "cpu", "cuda:N", "emu" and "reference" (both for tests): engine/backend.h
//   spec      the model's shape, one "key value..." a line (model/spec.h)
//   manifest  where each tensor's bytes lie, one piece a line (model/weights.h)
//   limits    precision and capacities, one "key value" a line (engine/limits.h)
// progress, where not null, is an array of two counters that the call keeps current: bytes loaded, bytes in all.
Engine* open(const char* device, const char* spec, const char* manifest, const char* limits, int64_t* progress);

// What `open` would take, before it takes anything: one "part<TAB>bytes" a line into out, NUL-terminated. Returns the bytes needed for
// the text; nothing is written when that exceeds capacity. The part `sampling` is 0 where the device does not sample (submit).
int64_t info(const char* device, const char* spec, const char* limits, char* out, int64_t capacity);

// The devices of this machine and what they are, one "name<TAB>description" a line; as `info`.
int64_t devices(char* out, int64_t capacity);

// Pillow-exact resize of 8-bit RGB (image/resize.h). `sizes` holds `count` pairs (height, width); the results follow each other in out.
void resize(const uint8_t* rgb, int32_t height, int32_t width, int32_t filter, const int32_t* sizes, int32_t count, uint8_t* out);

// Pictures to vision rows: `count` pictures (or tiles) through the vision tower and the connector into the vision buffer, rows first_row ...
// first_row + count * rows of one. `shape` holds four numbers a picture: pixel height and width, then the rows and columns of patches that the
// tower sees; the last of them may reach beyond the pixels, where it sees 0 after normalisation. The pictures' (height, width, 3) bytes follow each other.
// Returns when the bytes have been read; the rows are there for the next submit.
void encode(Engine* engine, const uint8_t* rgb, int32_t count, const int32_t* shape, int32_t first_row);

// Queues one step over a ragged batch and returns. Sequence s holds the tokens seq_start[s] ... seq_start[s+1] (S+1 offsets); `past[s]` of its tokens are already
// in the cache; page[page_start[s] ...] are its pages in order. token[i] is an id, or -1-r for "the id chosen in row r
// of the step submitted before". vision_row[i] >= 0 takes that row of the vision buffer in place of the token's embedding.
// rope_length[s] is the length that scaled rope goes by: that of the whole prompt for every chunk of it, then past[s] + 1.
// Logits are computed for the tokens logits_row[0..logits_rows). `sample` says how the token after each of them is chosen; null: the
// likeliest, which is all that a device can do whose plan (`info`) has nothing for sampling. The slot of a row, and of its bias, is below the
// limits' `sequences`. Before the step, the biases of slot bias_slot[b], for b below `biases`, become bias[b * V] ... bias[(b + 1) * V - 1].
// At most two steps may be in flight. All arrays are read before the call returns.
void submit(Engine* engine, int32_t tokens, const int32_t* token, const int32_t* vision_row, int32_t sequences, const int32_t* seq_start,
            const int32_t* past, const int32_t* rope_length, const int32_t* page_start, const int32_t* page, int32_t logits_rows,
            const int32_t* logits_row, const SampleRow* sample = nullptr, int32_t biases = 0, const int32_t* bias_slot = nullptr,
            const float* bias = nullptr);

// Waits for the oldest step in flight; ids[r] becomes what was chosen in its row r: the id with the highest logit (lowest id on ties), or
// what was sampled; -1 where a logit is no number (sampled: nor infinite), -2 where biases leave nothing to choose from.
void collect(Engine* engine, int32_t* ids);

// The logits (rows, vocabulary) of the step collected last, float32, valid until the next collect. Only now do they leave the device.
const float* logits(Engine* engine);

// Taps (base/trace.h). With out null: forgets what was recorded and starts recording every tap whose name starts with `name` ("*": all; "": none).
// Otherwise copies what tap `name` recorded, float32 in the order of computation. Returns the number of values.
int64_t trace(Engine* engine, const char* name, float* out, int64_t capacity);

// Stops, waits for what runs, frees everything.
void close(Engine* engine);

int32_t live_engines();

}  // namespace jvlm
