"""Caffe's messages for solvers, as tables like those of ``schema.py``, which makes classes of them."""

from __future__ import annotations

# MESSAGE -> (field, number, type): * repeated, = default
SOLVER_MESSAGES: dict[str, tuple[tuple[str, int, str], ...]] = {
    "SolverParameter": (
        ("test_iter", 3, "int32*"),
        ("test_interval", 4, "int32=0"),
        ("base_lr", 5, "float"),
        ("display", 6, "int32"),
        ("max_iter", 7, "int32"),
        ("lr_policy", 8, "string"),
        ("gamma", 9, "float"),
        ("power", 10, "float"),
        ("momentum", 11, "float"),
        ("weight_decay", 12, "float"),
        ("stepsize", 13, "int32"),
        ("snapshot", 14, "int32=0"),
        ("snapshot_prefix", 15, "string"),
        ("solver_mode", 17, "SolverMode=GPU"),
        ("random_seed", 20, "int64=-1"),
        ("net", 24, "string"),
        ("regularization_type", 29, "string=L2"),
        ("delta", 31, "float=1e-08"),
        ("test_initialization", 32, "bool=true"),
        ("average_loss", 33, "int32=1"),
        ("stepvalue", 34, "int32*"),
        ("clip_gradients", 35, "float=-1"),
        ("iter_size", 36, "int32=1"),
        ("rms_decay", 38, "float=0.99"),
        ("momentum2", 39, "float=0.999"),
        ("type", 40, "string=SGD"),
    ),
}

SOLVER_ENUMS: dict[str, tuple[str, tuple[str, ...], int]] = {"SolverMode": ("SolverParameter", ("CPU", "GPU"), 0)}

# As in schema.py: floats as bytes. A snapshot of a solver: history has one or two blobs a parameter.
RAW_STATE: dict[str, tuple[tuple[str, int, str], ...]] = {
    "RawState": (
        ("iter", 1, "int32"),
        ("learned_net", 2, "bytes"),
        ("history", 3, "RawBlob*"),
        ("current_step", 4, "int32=0"),
    ),
}
