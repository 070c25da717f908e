#include "model/connector.h"

namespace jvlm {

std::unique_ptr<Connector> make_connector(const Spec& spec, Weights& weights, Dtype act) {
  if (spec.connector.kind == ConnectorKind::perceiver) return std::make_unique<Perceiver>(spec, weights, act);
  return std::make_unique<PixelShuffle>(spec, weights, act);
}

PixelShuffle::PixelShuffle(const Spec& spec, Weights& weights, Dtype act) : spec_(spec), act_(act) {
  const int64_t wide = 4LL * spec.vision.hidden, h = spec.decoder.hidden;
  norm_ = {NormKind::layer, weights.vector("connector.norm.weight", wide), weights.vector("connector.norm.bias", wide), spec.connector.eps};
  up_ = weights.matrix("connector.up.weight", h, wide);
  up_bias_ = weights.vector("connector.up.bias", h);
  down_ = weights.matrix("connector.down.weight", h, h);
  down_bias_ = weights.vector("connector.down.bias", h);
}

void PixelShuffle::forward(Ops& ops, Arena& ws, Tensor out, Tensor x, const VisionInput& in, Taps& tap) const {
  const int64_t rows = static_cast<int64_t>(in.rows.count) * spec_.rows_per_tile();
  const int64_t mark = ws.mark();
  Tensor shuffled = ws.spread(act_, rows, 4LL * spec_.vision.hidden);
  Tensor mid = ws.spread(act_, rows, spec_.decoder.hidden);
  if (shuffled.data) {
    ops.pixel_shuffle_norm(shuffled, x, in.rows.count, spec_.vision.grid(), norm_);
    ops.matmul(mid, shuffled, up_, up_bias_, Act::gelu);
    ops.matmul(out, mid, down_, down_bias_, Act::none);
    tap("connector", out);
  }
  ws.rewind(mark);
}

}  // namespace jvlm
