// As much of Thrust as Caffe uses, on arrays of the host.
#pragma once
#include <algorithm>
#include <functional>
#include <numeric>
#include <vector>

namespace thrust {
using std::greater;
using std::plus;

template <typename Key, typename Value, typename Before>
void sort_by_key(Key* begin, Key* end, Value* values, Before before) {
  std::vector<int> order(end - begin);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return before(begin[a], begin[b]); });
  const std::vector<Key> keys(begin, end);
  const std::vector<Value> unsorted(values, values + order.size());
  for (size_t i = 0; i < order.size(); ++i) begin[i] = keys[order[i]], values[i] = unsorted[order[i]];
}
}  // namespace thrust
