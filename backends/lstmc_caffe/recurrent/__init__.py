"""Recurrent layers of Caffe found in the graph: LSTMUnit, LSTM and RNN."""
