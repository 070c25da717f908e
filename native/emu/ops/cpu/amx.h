// AMX without AMX: the instructions of native/ops/cpu/amx.h by the same names, on arrays (emu/amx.cc). What the processor would refuse ends
// the process with a sentence. It cannot tell whether memory was written before a tile was loaded: the compiler sees these read.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace jvlm::emu {

void tile_config(const void* config);
void tile_release();
void tile_zero(int tile);
void tile_load(int tile, const void* base, int64_t stride);
void tile_store(int tile, void* base, int64_t stride);
void tile_dpbf16ps(int sum, int left, int right);

}  // namespace jvlm::emu

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#define _tile_release jvlm::emu::tile_release
#define _tile_loadd jvlm::emu::tile_load
#define _tile_stored jvlm::emu::tile_store
#define _tile_zero jvlm::emu::tile_zero
#define _tile_dpbf16ps jvlm::emu::tile_dpbf16ps

namespace jvlm::cpu {

static inline void load_tile_config(const void* config) { emu::tile_config(config); }
static inline bool amx_there() { return true; }

}  // namespace jvlm::cpu
