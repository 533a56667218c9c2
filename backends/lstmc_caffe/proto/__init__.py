"""Caffe's messages, made from tables of their fields: no caffe.proto is shipped. Fields are read and set by path."""
