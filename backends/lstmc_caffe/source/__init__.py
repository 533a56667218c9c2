"""Nets of Caffe as sources of trained models: their recurrent layers are imported, all other layers stay."""
