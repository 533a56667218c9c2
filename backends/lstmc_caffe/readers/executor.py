"""Running a written net in a reader, as the compiler's differential check wants it run."""

from __future__ import annotations

from lstmc.backend import Artifact, Compiled, Execution, RunArrays
from lstmc.verify.differential import wanted_gradients
from lstmc.errors import Argument
from lstmc.ir import Ref
from lstmc.ops import Array
from lstmc_caffe.readers.reader import Reader
from lstmc_caffe.readers.session import ReaderError, ReaderSession
from lstmc_caffe.write.feeds import feed_blobs, given_arrays, host_values, read_blobs

FORWARD_ONLY = "the runtime has no backward pass"
OUTPUTS_ONLY = "the runtime exposes outputs only"


class ReaderExecutor:
    """A reader on the CPU. Its processes live from net to net, until it is closed."""

    def __init__(self, reader: Reader) -> None:
        self.name, self.target = reader.name, reader.target
        self._session = ReaderSession(reader)

    def unavailable(self) -> str | None:
        """Why it cannot be used here, with the command that installs it, or None."""
        try:
            self._session.version()
        except ReaderError as error:
            return "\n".join((error.message, *error.notes))
        return None

    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        """One forward pass of the artifact's own prototxt and caffemodel, the outputs' blobs read back by name.

        Raises :class:`ReaderError` with what the reader says where it does not take the net.
        """
        graph = compiled.expanded
        inputs = given_arrays(compiled.model, graph, arrays.inputs)
        wanted = {
            graph.value_name(ref): graph.type(ref).shape for o in graph.outputs for ref in read_blobs(graph, o.ref)
        }
        prototxt, caffemodel = (artifact.files[f"{compiled.name}.{suffix}"] for suffix in ("prototxt", "caffemodel"))
        try:
            blobs: dict[str, Array] = dict(
                self._session.run(prototxt, caffemodel, feed_blobs(graph, inputs), wanted),
            )
        except ReaderError as error:
            if compiled.target == self.target:
                raise
            argument = Argument("target", self.target)
            note = f"the net is for target {compiled.target}; the target for this program is {argument}"
            raise ReaderError(error.message, notes=[*error.notes, note], arguments=(argument,)) from None
        refs = (Ref(node.name, out) for node in graph for out in range(len(node.types)))
        untold = [*wanted_gradients(compiled, arrays.cotangents), *arrays.weights]
        return Execution(
            values=inputs | blobs | host_values(graph, blobs),
            input_gradients={},
            param_gradients={},
            absent={graph.value_name(ref): OUTPUTS_ONLY for ref in refs if graph.value_name(ref) not in wanted},
            untold=dict.fromkeys(untold, FORWARD_ONLY),
            tolerance=self._session.reader.tolerance,
        )

    def close(self) -> None:
        self._session.close()
