// Before lstm_unit_layer.cpp: it adds its loop's counter, an int, to another int inside a condition. g++ vectorises such
// a loop only where the sum needs no widening to address memory. So what is int in that file, its counters and sizes,
// is long; the headers that it reads come first and keep theirs.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "caffe/layer.hpp"
#include "caffe/layers/lstm_layer.hpp"

#define int long
