// Where the weights lie and how they come into memory.
//
// Manifest, one piece a line, fields separated by TAB:  target  first_row  rows  cols  dtype  file  offset
// A piece fills the rows first_row ... first_row + rows of the target tensor with rows*cols numbers of `dtype` (F32, BF16, F16) that
// start at byte `offset` of `file`. Pieces cover a target exactly. A vector is a target of n rows and one column.
// A file "seed:N" stands for seeded pseudo-random weights of the size that a trained model would have (benchmarks).
//
// Targets (shapes: see the model's spec; h vision hidden, H decoder hidden):
//   vision.patch.weight (h, 3*p*p)  vision.patch.bias  vision.class  vision.positions (tokens, h)
//   vision.N.norm1.weight|bias  vision.N.attn.qkv.weight|bias (3h, h)  vision.N.attn.out.weight|bias (h, h)  vision.N.scale1
//   vision.N.norm2.weight|bias  vision.N.mlp.up.weight|bias (mlp, h)  vision.N.mlp.down.weight|bias (h, mlp)  vision.N.scale2
//   connector.norm.weight|bias (4h)  connector.up.weight|bias (H, 4h)  connector.down.weight|bias (H, H)
//   decoder.embed.weight (V, H)
//   decoder.N.attn_norm.weight  decoder.N.attn.qkv.weight ((heads + 2 kv_heads) * head_size, H)  decoder.N.attn.out.weight
//   decoder.N.mlp_norm.weight  decoder.N.mlp.gate_up.weight (2 mlp, H: gate, then up)  decoder.N.mlp.down.weight (H, mlp)
//   decoder.norm.weight  decoder.head.weight (V, H)
// Biases and scales that a family lacks are absent from the manifest and not applied.
#pragma once
