#include "model/powers.h"

#include <cmath>

// Numbers of two floats, high + low with |low| at most half a unit in the last place of high. Which product or sum is rounded and which goes into a
// fused multiply-add decides the last bit of a power, so each is written out, and the compiler is told to fuse none (CMakeLists.txt). Order of
// operations and coefficients are SLEEF's (github.com/shibatch/sleef: single-precision pow with an error of 1.0, with FMA).
namespace jvlm {
namespace {

struct Pair {
  float high, low;
};

// For |x| >= |y|.
Pair add_smaller(Pair x, Pair y) {
  const float high = x.high + y.high;
  return {high, x.high - high + y.high + x.low + y.low};
}

Pair add(Pair x, Pair y) {
  const float high = x.high + y.high, of_y = high - x.high, of_x = high - of_y;
  return {high, (x.high - of_x) + (y.high - of_y) + (x.low + y.low)};
}

Pair multiply(Pair x, float y) {
  const float high = x.high * y;
  return {high, std::fma(x.low, y, std::fma(x.high, y, -high))};
}

Pair multiply(Pair x, Pair y) {
  const float high = x.high * y.high;
  return {high, std::fma(x.high, y.low, std::fma(x.low, y.high, std::fma(x.high, y.high, -high)))};
}

Pair square(Pair x) {
  const float high = x.high * x.high;
  return {high, std::fma(2 * x.high, x.low, std::fma(x.high, x.high, -high))};
}

Pair divide(float x, Pair y) {
  const float reciprocal = 1 / y.high, high = x * reciprocal;
  const float lacking = std::fma(-y.low, reciprocal, std::fma(-y.high, reciprocal, 1.f));      // how far y * reciprocal is from 1
  return {high, std::fma(high, lacking, std::fma(reciprocal, x, -high))};
}

// x = m 2^e with m in [0.75, 1.5); log m = 2 artanh r, r = (m - 1) / (m + 1).
Pair logarithm(float x) {
  int e;
  float m = std::frexp(x, &e);
  if (m < 0.75f) m *= 2, --e;
  const Pair r = divide(m - 1, add({1, 0}, {m, 0})), r2 = square(r);
  float p = 0.240320354700088500976562f;
  p = std::fma(p, r2.high, 0.285112679004669189453125f);
  p = std::fma(p, r2.high, 0.400007992982864379882812f);
  const Pair series = add(multiply(r2, p), {0.66666662693023681640625f, 3.69183861259614332084311e-09f});
  const Pair whole = multiply({0.69314718246459960938f, -1.904654323148236017e-09f}, static_cast<float>(e));
  return add_smaller(add_smaller(whole, {2 * r.high, 2 * r.low}), multiply(multiply(r2, r), series));
}

// e^x = 2^q e^(x - q log 2)
float exponential(Pair x) {
  const float q = std::nearbyint((x.high + x.low) * 1.44269504088896340736f);
  Pair rest = add(add(x, {q * -0.693145751953125f, 0}), {q * -1.428606765330187045e-06f, 0});
  rest = add_smaller({rest.high, 0}, {rest.low, 0});
  float p = 0.00136324646882712841033936f;
  p = std::fma(p, rest.high, 0.00836596917361021041870117f);
  p = std::fma(p, rest.high, 0.0416710823774337768554688f);
  p = std::fma(p, rest.high, 0.166665524244308471679688f);
  p = std::fma(p, rest.high, 0.499999850988388061523438f);
  const Pair sum = add_smaller({1, 0}, add_smaller(rest, multiply(square(rest), p)));
  return std::ldexp(sum.high + sum.low, static_cast<int>(q));
}

}  // namespace

std::vector<float> powers(float base, const std::vector<float>& exponents) {
  std::vector<float> out(exponents.size());
  const Pair log = logarithm(base);
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = i < out.size() / 32 * 32 ? exponential(multiply(log, exponents[i])) : std::pow(base, exponents[i]);
  return out;
}

}  // namespace jvlm
