"""Other programs that read Caffe nets: what each is, where it is installed, and nets run in it."""
