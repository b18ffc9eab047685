"""Peers that come as Python wheels: a worker that speaks the protocol of src/protocol.rs.

    python wheels.py NAME N K THREADS DIRECTORY

A graph holds all copies of the weights and multiplies the activations by each of them, as a model multiplies by one
layer after the other: the overhead of a call is shared by all. Where the weights do not rotate it holds one copy.
"""

import ctypes
import json
import os
import sys
import time
import warnings

import numpy

TURN = 1009  # as in src/operands.rs
SHOWN = 256  # as in src/protocol.rs


def copies(rows, count):
    """Row n of copy c is row (n + c * TURN) mod N."""
    return (numpy.roll(rows, -c * TURN % len(rows), axis=0) for c in range(count))


def quantize(w, bits, group):
    """Codes [N, G, group], scales and integer zero points [N, G] of w [N, K]."""
    w = w.reshape(len(w), -1, group)
    low, high = w.min(-1), w.max(-1)
    scale = (high - low) / (2**bits - 1)
    zero = numpy.clip(numpy.round(-low / scale), 0, 2**bits - 1)
    codes = numpy.clip(numpy.round(w / scale[..., None]) + zero[..., None], 0, 2**bits - 1)
    return codes.astype(numpy.uint8), scale.astype(numpy.float32), zero.astype(numpy.uint8)


def pack(codes, bits):
    """Codes along the last axis into bytes, the first one in the lowest bits."""
    per_byte = 8 // bits
    codes = codes.reshape(*codes.shape[:-1], -1, per_byte)
    return sum(codes[..., i] << (bits * i) for i in range(per_byte)).astype(numpy.uint8)


class OnnxRuntime:
    """MatMulNBits with integer zero points; activations in blocks of int8 or as they are."""

    how = "pip install numpy onnx onnxruntime"
    # Bits, group, accuracy level: 1 is f32 arithmetic, 4 is int8.
    variants = {
        "q4 g128 asym int8": (4, 128, 4, 0.15, "w4 g128 asym a8"),
        "q4 g128 asym f32": (4, 128, 1, 0.15, "w4 g128 asym a16"),
        "q4 g32 asym int8": (4, 32, 4, 0.12, "w4 g32 asym a8"),
        "q8 g128 asym int8": (8, 128, 4, 0.02, "w8 g128 a8"),
        "q2 g128 asym int8": (2, 128, 4, 0.7, "w2 g128 asym a8"),
    }

    def __init__(self, threads):
        import onnx
        import onnxruntime

        self.onnx, self.library, self.version = onnx, onnxruntime, onnxruntime.__version__
        onnxruntime.set_global_thread_pool_sizes(threads, 1)

    def bits(self, variant):
        bits, group = self.variants[variant][:2]
        return bits + (32 + bits) / group

    def build(self, variant, w, count):
        bits, group, level = self.variants[variant][:3]
        n, k = w.shape
        codes, scales, zeros = quantize(w, bits, group)
        helper, onnx = self.onnx.helper, self.onnx
        tensors, nodes = [], []
        parts = zip(copies(pack(codes, bits), count), copies(scales, count), copies(pack(zeros, bits), count))
        for c, arrays in enumerate(parts):
            names = [f"{part}{c}" for part in ("codes", "scales", "zeros")]
            tensors += [onnx.numpy_helper.from_array(a, name) for a, name in zip(arrays, names)]
            attributes = {"K": k, "N": n, "bits": bits, "block_size": group, "accuracy_level": level}
            nodes.append(
                helper.make_node("MatMulNBits", ["x", *names], [f"y{c}"], domain="com.microsoft", **attributes)
            )
        info = helper.make_tensor_value_info
        outputs = [info(f"y{c}", onnx.TensorProto.FLOAT, ["m", n]) for c in range(count)]
        graph = helper.make_graph(nodes, "g", [info("x", onnx.TensorProto.FLOAT, ["m", k])], outputs, tensors)
        domains = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=domains, ir_version=10)
        options = self.library.SessionOptions()
        options.use_per_session_threads = False  # pools that spin would disturb each other
        session = self.library.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        return self.Graph(self.library, session, n)

    class Graph:
        def __init__(self, library, session, n):
            self.library, self.session, self.n = library, session, n

        def bind(self, x):
            value = self.library.OrtValue
            self.binding = self.session.io_binding()
            self.binding.bind_ortvalue_input("x", value.ortvalue_from_numpy(x))
            self.outputs = []
            for y in self.session.get_outputs():
                self.outputs.append(value.ortvalue_from_shape_and_type([len(x), self.n], numpy.float32))
                self.binding.bind_ortvalue_output(y.name, self.outputs[-1])

        def run(self):
            self.session.run_with_iobinding(self.binding)

        def output(self, copy):
            return self.outputs[copy].numpy()


class OpenVino:
    """Compressed weights with integer zero points; activations quantised per group or as they are."""

    how = "pip install numpy openvino"
    # Bits, group, activations in int8.
    variants = {
        "u4 g128 asym int8": (4, 128, True, 0.15, "w4 g128 asym a8"),
        "u4 g128 asym f32": (4, 128, False, 0.15, "w4 g128 asym a16"),
        "u4 g32 asym int8": (4, 32, True, 0.12, "w4 g32 asym a8"),
        "u8 g128 asym int8": (8, 128, True, 0.02, "w8 g128 a8"),
        "u2 g128 asym int8": (2, 128, True, 0.7, "w2 g128 asym a8"),
    }

    def __init__(self, threads):
        import openvino

        self.library, self.version, self.threads = openvino, openvino.__version__.split("-")[0], threads

    def bits(self, variant):
        bits, group = self.variants[variant][:2]
        return bits + (16 + bits) / group

    def build(self, variant, w, count):
        ov = self.library
        ops = ov.opset13
        bits, group, int8 = self.variants[variant][:3]
        n, k = w.shape
        codes, scales, zeros = quantize(w, bits, group)
        kind = {2: ov.Type.u2, 4: ov.Type.u4, 8: ov.Type.u8}[bits]
        kept = []  # a tensor borrows its array

        def constant(array, shape, kind):
            kept.append(numpy.ascontiguousarray(array).reshape(-1))
            return ops.constant(ov.Tensor(kept[-1], ov.Shape(shape), kind))

        half = ov.Type.f16
        x = ops.parameter([-1, k], ov.Type.f32, name="x")
        products = []
        parts = zip(copies(pack(codes, bits), count), copies(scales, count), copies(zeros, count))
        for codes, scales, zeros in parts:
            groups = scales.shape[1]
            q = ops.convert(constant(codes, [n, groups, group], kind), half)
            z = ops.convert(constant(pack(zeros.reshape(-1), bits), [n, groups, 1], kind), half)
            s = constant(scales.astype(numpy.float16), [n, groups, 1], half)
            matrix = ops.reshape(ops.multiply(ops.subtract(q, z), s), [n, k], False)
            products.append(ops.matmul(x, ops.convert(matrix, ov.Type.f32), False, True))
        model = ov.Model([ops.result(y) for y in products], [x])
        settings = {
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": group if int8 else 0,
        }
        return self.Graph(ov, ov.Core().compile_model(model, "CPU", settings), kept)

    class Graph:
        def __init__(self, library, compiled, kept):
            self.library, self.kept, self.request = library, kept, compiled.create_infer_request()

        def bind(self, x):
            self.x = x
            self.request.set_input_tensor(self.library.Tensor(x, shared_memory=True))

        def run(self):
            self.request.infer()

        def output(self, copy):
            return self.request.get_output_tensor(copy).data


class Torch:
    """Dynamic int8: a scale for each output channel, one scale and zero point for all activations of a call."""

    how = "pip install numpy torch"
    variants = {"qint8 channel dynamic": (0.03, "w8 channel a8row")}

    def __init__(self, threads):
        import torch

        self.library, self.version = torch, torch.__version__.split("+")[0]
        torch.set_num_threads(threads)
        torch.backends.quantized.engine = "onednn"
        warnings.filterwarnings("ignore", "torch.quantize_per")  # deprecated, with nothing in its place here

    def bits(self, variant):
        return 8.0

    def build(self, variant, w, count):
        torch = self.library
        packed = []
        for w in copies(w, count):
            w = torch.from_numpy(w)
            scales = w.abs().amax(1).double() / 127
            q = torch.quantize_per_channel(w, scales, torch.zeros(len(w), dtype=torch.int64), 0, torch.qint8)
            packed.append(torch.ops.quantized.linear_prepack(q, None))
        return self.Graph(torch, packed)

    class Graph:
        def __init__(self, library, packed):
            self.library, self.packed = library, packed

        def bind(self, x):
            self.x = self.library.from_numpy(x)

        def run(self):
            product = self.library.ops.quantized.linear_dynamic
            self.outputs = [product(self.x, w) for w in self.packed]

        def output(self, copy):
            return self.outputs[copy].numpy()


PEERS = {"onnxruntime": OnnxRuntime, "openvino": OpenVino, "torch": Torch}


class Worker:
    """Answers the driver's requests about one peer."""

    def __init__(self, peer, w, x):
        self.peer, self.w, self.x = peer, w, x
        self.counts, self.graphs, self.bound = {}, {}, {}

    def graph(self, variant, m, rotate):
        """The graph of all copies, or of one, with m rows of activations."""
        key = variant, rotate
        if key not in self.graphs:
            self.graphs[key] = self.peer.build(variant, self.w, self.counts[variant] if rotate else 1)
        if self.bound.get(key) != m:
            self.graphs[key].bind(self.x[:m])
            self.bound[key] = m
        return self.graphs[key]

    def prepare(self, variant, bytes):
        bits = self.peer.bits(variant)
        self.counts[variant] = 1 + int(bytes / (self.w.size * bits / 8))
        return {"prepared": {"copies": self.counts[variant], "bits": bits}}

    def check(self, variant, m, copy, rotate):
        graph = self.graph(variant, m, rotate)
        graph.run()
        return {"outputs": graph.output(copy)[m - 1, :SHOWN].tolist()}

    def sample(self, variant, m, rotate, slice):
        graph = self.graph(variant, m, rotate)
        count = self.counts[variant] if rotate else 1
        graph.run()
        times, begin = [], time.perf_counter()
        while not times or time.perf_counter() - begin < slice:
            start = time.perf_counter()
            graph.run()
            times.append((time.perf_counter() - start) / count)
        return {"seconds": float(numpy.median(times))}


def main():
    name, n, k, threads, directory = sys.argv[1:]
    ctypes.CDLL(None).prctl(1, 9)  # the driver's end is this worker's too, even while it is stopped
    talk = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no reply

    def say(message):
        talk.write(json.dumps(message) + "\n")
        talk.flush()

    try:
        peer = PEERS[name](int(threads))
    except ImportError:
        return say({"missing": PEERS[name].how})
    variants = [{"name": v, "tolerance": p[-2], "rival": p[-1]} for v, p in PEERS[name].variants.items()]
    say({"peer": {"version": peer.version, "variants": variants}})
    w, x = (numpy.fromfile(f"{directory}/{part}.f32", numpy.float32).reshape(-1, int(k)) for part in "wx")
    worker = Worker(peer, w, x)
    for line in sys.stdin:
        ((request, arguments),) = json.loads(line).items()
        try:
            reply = getattr(worker, request)(**arguments)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        say(reply)


main()
