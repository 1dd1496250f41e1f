"""Images to features: the range and the resize, ONNX networks, Inception."""

import sys

import numpy as np
import pytest

from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.evaluation import features
from ddpm_jax.evaluation.images import Images

SCHEMA = PELVIS.select(("view",))


def images(pixels):
    cond = {"view": np.ones(len(pixels), np.int32)}
    return Images(SCHEMA, cond, pixels.shape[1], lambda i: pixels[i], "these")


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 65536, (5, 16, 16)).astype(np.uint16)


def advance(count):
    pass


def test_bytes_span_the_range_and_keep_the_size():
    x = np.array([[0, 65535], [257 * 7, 257 * 200]], np.uint16)
    assert features.to_bytes(x, 2).tolist() == [[0, 255], [7, 200]]


def test_shrinking_is_antialiased():
    """A board of single pixels has no detail that a quarter of the size can show."""
    board = np.uint16(65535 * (np.indices((64, 64)).sum(0) % 2))
    small = features.to_bytes(board, 16)
    assert abs(small[4:-4, 4:-4].astype(int) - 127.5).max() < 4


def test_three_equal_channels(pixels):
    found = features.to_colour(pixels, 16)
    assert found.shape == (5, 3, 16, 16) and found.dtype == np.uint8
    assert (found[:, 0] == found[:, 1]).all() and (found[:, 0] == found[:, 2]).all()


@pytest.fixture
def network(tmp_path):
    """An ONNX file whose outputs are its input's mean over pixels, and its input."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])
    mean = helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["n", 3, 1, 1])
    same = helper.make_tensor_value_info("same", TensorProto.FLOAT, ["n", 3, 8, 8])
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Identity", ["x"], ["same"]),
    ]
    graph = helper.make_graph(nodes, "means", [x], [mean, same])
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    path = tmp_path / "means.onnx"
    onnx.save(model, path)
    return str(path)


def test_onnx_features_are_those_of_its_output(network, pixels):
    expected = features.to_colour(pixels, 8) / 255
    found = features.of_onnx(network, None).features(images(pixels), advance)
    np.testing.assert_allclose(found, expected.mean((2, 3)), 1e-5)
    other = features.of_onnx(network, "same", "imagenet")
    found = other.features(images(pixels), advance)
    mean, std = (np.array(v)[:, None, None] for v in features.IMAGENET)
    flat = ((expected - mean) / std).reshape(5, -1)
    np.testing.assert_allclose(found, flat, 1e-4, 1e-5)


def test_identity_of_onnx_features_says_layer_and_scale(network):
    found = {
        features.of_onnx(network, *how).identity
        for how in ((None,), ("same",), (None, "imagenet"))
    }
    assert len(found) == 3


def test_what_is_no_network_is_one_line(network, tmp_path):
    with pytest.raises(ValueError, match="--layer pool: not an output.*mean, same"):
        features.of_onnx(network, "pool")
    with pytest.raises(ValueError, match="no such file"):
        features.of_onnx(str(tmp_path / "none.onnx"), None)
    (tmp_path / "text.onnx").write_text("text")
    with pytest.raises(ValueError, match="no readable ONNX network"):
        features.of_onnx(str(tmp_path / "text.onnx"), None)


def save(path, inputs, nodes, outputs, dtype="FLOAT"):
    """An ONNX file of these (name, shape) inputs and outputs."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    kind = getattr(TensorProto, dtype)
    named = [
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in part]
        for part in (inputs, outputs)
    ]
    graph = helper.make_graph(
        [helper.make_node(*node[:3], **node[3]) for node in nodes], "net", *named
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return str(path)


POOL = [("GlobalAveragePool", ["x"], ["y"], {})]


def test_a_fixed_batch_is_filled_up_and_an_open_shape_is_theirs(tmp_path, pixels):
    """As DINOv2's files have them: one image at a time, or any number of any size."""
    expected = features.to_colour(pixels, 16).mean((2, 3)) / 255
    shapes = [2, 3, 16, 16], ["n", "c", "h", "w"]
    for i, shape in enumerate(shapes):
        out = [*shape[:2], 1, 1]
        path = save(tmp_path / f"{i}.onnx", [("x", shape)], POOL, [("y", out)])
        found = features.of_onnx(path, None).features(images(pixels), advance)
        np.testing.assert_allclose(found, expected, 1e-5)
    sized = features.of_onnx(path, None, "none", 32)
    found = sized.features(images(pixels), advance)
    larger = features.to_colour(pixels, 32).mean((2, 3)) / 255
    np.testing.assert_allclose(found, larger, 1e-5)
    assert sized.identity != features.of_onnx(path, None).identity


@pytest.mark.parametrize("dtype", ["FLOAT16", "DOUBLE"])
def test_other_floats_are_taken(tmp_path, pixels, dtype):
    shape = ["n", 1, "h", "w"]
    nodes = [("Identity", ["x"], ["y"], {})]
    path = save(tmp_path / "a.onnx", [("x", shape)], nodes, [("y", shape)], dtype)
    found = features.of_onnx(path, None).features(images(pixels), advance)
    expected = features.to_colour(pixels, 16)[:, 0].reshape(5, -1) / 255
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, 2e-3, 1e-3)


@pytest.mark.parametrize(
    "inputs, nodes, outputs, said",
    [
        ([("x", ["n", 4, 8, 8])], POOL, [("y", ["n", 4, 1, 1])], "expected one input"),
        ([("x", ["n", 3, 8, 9])], POOL, [("y", ["n", 3, 1, 1])], "expected one input"),
        ([("x", ["n", 3])], [("Identity", ["x"], ["y"], {})], [("y", ["n", 3])], "one"),
        (
            [("x", ["n", 3, 8, 8]), ("z", ["n", 3, 8, 8])],
            [("Add", ["x", "z"], ["y"], {})],
            [("y", ["n", 3, 8, 8])],
            "of 2; expected one input",
        ),
        (
            [("x", ["n", 3, 8, 8])],
            [("ReduceMean", ["x"], ["y"], {"axes": [0]})],
            [("y", [1, 3, 8, 8])],
            r"of shape \[1, 3, 8, 8\] for 5 images",
        ),
        (
            [("x", ["n", 3, 64, 64])],
            [("Identity", ["x"], ["y"], {})],
            [("y", ["n", 3, 64, 64])],
            "at most 8192 numbers",
        ),
        (
            [("x", ["n", 3, 8, 8])],
            [("Log", ["x"], ["l"], {}), ("Neg", ["l"], ["y"], {})],
            [("y", ["n", 3, 8, 8])],
            "not finite",
        ),
        (
            [("x", ["n", 3, "h", "w"])],
            [("SpaceToDepth", ["x"], ["y"], {"blocksize": 14})],
            [("y", ["n", "c", "a", "b"])],
            "fails on 5 images of 16 px.*--feature_size",
        ),
    ],
    ids=["channels", "oblong", "flat", "two", "batch", "large", "infinite", "patches"],
)
def test_networks_that_do_not_fit_are_one_line(
    tmp_path, pixels, inputs, nodes, outputs, said
):
    path = save(tmp_path / "net.onnx", inputs, nodes, outputs)
    dark = pixels.copy()
    dark[0] = 0
    with pytest.raises(ValueError, match=said):
        features.of_onnx(path, None).features(images(dark), advance)


def test_inception_says_where_its_weights_come_from(tmp_path):
    with pytest.raises(ValueError, match="--weights not given.*https://github.com"):
        features.of_inception(None)


def test_inception_needs_its_extra(tmp_path, monkeypatch):
    (tmp_path / "weights.pth").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ValueError, match=r"torch is not installed.*ddpm_jax\[eval\]"):
        features.of_inception(str(tmp_path / "weights.pth"))


def test_inception_is_torch_fidelitys(tmp_path, pixels, monkeypatch):
    """With random weights: the file's network on the same bytes."""
    torch = pytest.importorskip("torch")
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    net = module.FeatureExtractorInceptionV3
    with monkeypatch.context() as patch:  # weights that nobody has downloaded
        patch.setattr(module, "load_state_dict_from_url", lambda *a, **k: {})
        patch.setattr(net, "load_state_dict", lambda self, state: None)
        random = net("inception-v3-compat", ["2048"])
    path = tmp_path / "weights.pth"
    torch.save(random.state_dict(), path)
    found = features.of_inception(str(path)).features(images(pixels[:2]), advance)
    with torch.no_grad():
        batch = torch.from_numpy(features.to_colour(pixels[:2], 299))
        (expected,) = random.eval()(batch)
    assert found.shape == (2, 2048)
    np.testing.assert_allclose(found, expected.numpy(), 1e-4, 1e-6)


def test_a_file_that_is_no_weights_is_one_line_and_is_not_run(tmp_path):
    pytest.importorskip("torch_fidelity")
    import pickle

    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(ValueError, match="no weights of this network"):
        features.of_inception(str(path))
    assert not (tmp_path / "ran").exists()
