// The boundary between Java and native code: everything that Java can call. Java decides (names, prompts, pages, schedules), native
// computes. Plain pointers and an opaque handle; every entry throws jvlm::Error and nothing else (base/error.h).
//
// Threads: one thread at a time may use an engine (Java's engine thread). `resize`, `info`, `devices` and `live_engines` hold no state
// and may be called from any thread.
#pragma once
#include <cstdint>

namespace jvlm {

struct Engine;

// Opens a model on a device and loads its weights.
//   device    "cpu", "cuda:N", "emu" and "reference" (both for tests): engine/backend.h
//   spec      the model's shape, one "key value..." a line (model/spec.h)
//   manifest  where each tensor's bytes lie, one piece a line (model/weights.h)
//   limits    precision and capacities, one "key value" a line (engine/limits.h)
// progress, where not null, is an array of two counters that the call keeps current: bytes loaded, bytes in all.
Engine* open(const char* device, const char* spec, const char* manifest, const char* limits, int64_t* progress);

// What `open` would take, before it takes anything: one "part<TAB>bytes" a line into out, NUL-terminated. Returns the bytes needed for
// the text; nothing is written when that exceeds capacity.
int64_t info(const char* device, const char* spec, const char* limits, char* out, int64_t capacity);

// The devices of this machine and what they are, one "name<TAB>description" a line; as `info`.
int64_t devices(char* out, int64_t capacity);

// Pillow-exact resize of 8-bit RGB (image/resize.h). `sizes` holds `count` pairs (height, width); the results follow each other in out.
void resize(const uint8_t* rgb, int32_t height, int32_t width, int32_t filter, const int32_t* sizes, int32_t count, uint8_t* out);

// Pictures to vision rows: `count` pictures of (height, width, 3) bytes, one behind the other, through the vision tower and the connector into
// the vision buffer, rows first_row ... first_row + count * rows_per_tile. `shape` holds four numbers a picture: its height and width in
// pixels, and its rows and columns of patches; where a patch reaches beyond the picture, it sees 0.0 there after normalisation. Returns when
// the bytes have been read; the rows are there for the next submit.
void encode(Engine* engine, const uint8_t* rgb, int32_t count, const int32_t* shape, int32_t first_row);

// Queues one step over a ragged batch and returns. Sequence s holds the tokens seq_start[s] ... seq_start[s+1] (S+1 offsets); `past[s]` of its tokens are already
// in the cache; page[page_start[s] ...] are its pages in order. token[i] is an id, or -1-r for "the id with the highest logit in row r
// of the step submitted before". vision_row[i] >= 0 takes that row of the vision buffer in place of the token's embedding.
// rope_length[s] is the length that scaled rope goes by. Logits are computed for the tokens logits_row[0..logits_rows).
// At most two steps may be in flight. All arrays are read before the call returns.
void submit(Engine* engine, int32_t tokens, const int32_t* token, const int32_t* vision_row, int32_t sequences, const int32_t* seq_start,
            const int32_t* past, const int32_t* rope_length, const int32_t* page_start, const int32_t* page, int32_t logits_rows,
            const int32_t* logits_row);

// Waits for the oldest step in flight; ids[r] becomes the id with the highest logit of its row r (lowest id on ties).
void collect(Engine* engine, int32_t* ids);

// The logits (rows, vocabulary) of the step collected last, float32, valid until the next collect.
const float* logits(Engine* engine);

// Taps (base/trace.h). With out null: forgets what was recorded and starts recording every tap whose name starts with `name` ("*": all; "": none).
// Otherwise copies what tap `name` recorded, float32 in the order of computation. Returns the number of values.
int64_t trace(Engine* engine, const char* name, float* out, int64_t capacity);

// Stops, waits for what runs, frees everything.
void close(Engine* engine);

int32_t live_engines();

}  // namespace jvlm
