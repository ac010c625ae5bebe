"A gallery shows what may be shown and nothing else, says whose it is, and is whole or not there."
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load, save

from archclf.classifier import MODELS, Classifier, ModelError, check_replaceable, read_model, save_model
from archclf.copies import content_hash
from archclf.embed import embed_photos
from archclf.gallery import FIELDS, LONGEST, Gallery, reason_against, write_gallery
from archclf.licenses import admits, credit_line, read_license
from archclf.sample import draw_facade

GOOD = {'title': 'A façade', 'creator': 'Jo Doe', 'license': 'CC BY-SA 4.0', 'license_url': '', 'page': 'https://example.org/wiki/1', 'url': 'https://example.org/1.jpg'}
NOT_SHOWN = {  # why: what its line in the manifest says
    'licence does not allow it': [{'license': 'All rights reserved'}, {'license': ''}, {'license': 'unknown'}, {'license': 'MIT'}, {'license': 'CC BY 4.0, not for resale'}],
    'text of the licence has to go along': [{'license': 'GFDL 1.2'}, {'license': 'GFDL, CC BY-SA 3.0'}],
    'version of the licence not stated': [{'license': 'CC BY-SA'}],
    'creator not stated': [{'creator': ''}, {'creator': ' \N{ZERO WIDTH SPACE}\t'}],
    'no address to link to': [{'page': '', 'url': ''}, {'page': 'javascript:alert(1)', 'url': 'data:image/png,'}, {'page': 'https://a b', 'url': 'ftp://example.org/1'}]}


@pytest.fixture(scope='module')
def classifier(): return Classifier.open()


@pytest.fixture
def model(tmp_path): return Path(shutil.copytree(MODELS/'styles8', tmp_path/'here'/'model'))


def photo(folder, label, seed, image=None, **changes):
    "A drawing in a photo folder, with its line in the manifest."
    path = folder/label/f'{seed}.jpg'
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or draw_facade(label, seed=seed)).save(path, quality=90)
    record = {**GOOD, 'title': f'{label} {seed}', 'url': f'https://example.org/{label}/{seed}.jpg', 'provider': 'commons', 'label': label, 'query': label,
              'status': 'saved', 'reason': '', 'path': f'{label}/{seed}.jpg', 'sha256': content_hash(path), **changes}
    with open(folder/'manifest.jsonl', 'a', encoding='utf-8') as file: file.write(json.dumps(record) + '\n')
    return path


@pytest.fixture
def photos(tmp_path):
    "Five drawings each of two styles."
    for label in 'gothic', 'modern':
        for seed in range(5): photo(tmp_path/'photos', label, seed)
    return tmp_path/'photos'


def titles(model, classifier): return {shown.title for shown in Gallery.open(model, classifier).photos}


def content(folder): return {path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob('*') if path.is_file()}


@pytest.mark.parametrize('why, changes', [(why, changes) for why, all_changes in NOT_SHOWN.items() for changes in all_changes])
def test_what_may_not_be_shown(why, changes):
    assert reason_against(GOOD) == '' and reason_against(GOOD | changes) == why


@given(st.text(max_size=30) | st.sampled_from(['CC BY 4.0', 'CC0', 'Public domain', 'CC BY-NC-ND 2.0', 'GFDL', 'FAL']), st.sampled_from(['', 'A']), st.sampled_from(['free', 'commercial']))
def test_nothing_is_shown_without_what_its_licence_asks_for(license, creator, gate):
    record = GOOD | {'license': license, 'creator': creator}
    if reason_against(record, gate): return
    read = read_license(license)
    assert admits(gate, read) and read.code not in ('other', 'unknown')
    assert read.code in ('pdm', 'cc0') or creator and read.url and 'author not stated' not in credit_line(record)


def test_only_licensed_photos_with_a_line_get_in(model, photos, classifier):
    for seed, changes in enumerate((changes for all_changes in NOT_SHOWN.values() for changes in all_changes), 100): photo(photos, 'gothic', seed, **changes)
    draw_facade('gothic', seed=200).save(photos/'gothic'/'mine.jpg')
    draw_facade('gothic', seed=201).save(photos/'gothic'/'4.jpg')  # another picture under the name of one that may be shown
    photo(photos, 'castle', 300, draw_facade('gothic', seed=300))
    (photos/'gothic'/'page.jpg').write_text('<html>404</html>')
    shown = write_gallery(model, photos)
    assert titles(model, classifier) == {f'gothic {seed}' for seed in range(4)} | {f'modern {seed}' for seed in range(5)}
    assert shown.left_out == {why: len(all_changes) for why, all_changes in NOT_SHOWN.items()} | {
        'no line in the manifest': 1, 'changed since it was collected': 1, 'not a class of the model': 1, 'cannot be read': 1}
    assert (shown.classes['gothic'], shown.classes['modern'], sum(shown.classes.values())) == (4, 5, 9)
    assert '9 photos' in str(shown) and 'left out, creator not stated: 2' in str(shown)


@pytest.mark.parametrize('status, reason', [('duplicate', 'near copy'), ('rejected', 'licence not admitted'), ('failed', 'not found')])
def test_a_line_that_is_not_saved_is_no_licence(model, photos, classifier, status, reason):
    photo(photos, 'gothic', 50, status=status, reason=reason)
    assert write_gallery(model, photos).left_out == {'no line in the manifest': 1}


def test_money(model, photos, classifier):
    photo(photos, 'gothic', 50, license='CC BY-NC 4.0')
    write_gallery(model, photos)
    assert 'gothic 50' in titles(model, classifier)
    write_gallery(model, photos, license='commercial')
    assert 'gothic 50' not in titles(model, classifier)


def test_copies_do_not_get_in(model, photos, classifier):
    with Image.open(photos/'gothic'/'0.jpg') as image:
        photo(photos, 'gothic', 60, image.resize((image.width * 3 // 4, image.height * 3 // 4)))
        photo(photos, 'gothic', 61, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    shown = write_gallery(model, photos)
    assert shown.left_out == {'copy of another photo': 2} and shown.classes['gothic'] == 5
    assert len({'gothic 0', 'gothic 60', 'gothic 61'} & titles(model, classifier)) == 1


def test_a_copy_that_may_not_be_shown_does_not_keep_the_other_out(model, photos, classifier):
    with Image.open(photos/'gothic'/'0.jpg') as image: photo(photos, 'gothic', 60, image.resize((image.width * 3 // 4, image.height * 3 // 4)), license='unknown')
    write_gallery(model, photos)
    assert {'gothic 0', 'gothic 60'} & titles(model, classifier) == {'gothic 0'}


def test_choice_is_seeded(model, photos, tmp_path, classifier):
    shown = write_gallery(model, photos, per_class=3)
    assert shown.left_out == {'enough of its class': 4} and set(shown.classes.values()) == {0, 3}
    first = content(model/'gallery')
    moved = shutil.copytree(photos, tmp_path/'moved')
    write_gallery(model, moved, per_class=3)
    assert content(model/'gallery') == first
    write_gallery(model, photos, per_class=3, seed=1)
    assert content(model/'gallery') != first


def test_what_is_in_a_gallery(model, photos, classifier):
    photo(photos, 'gothic', 70, draw_facade('gothic', seed=70).convert('RGB').resize((900, 300)), title='<b>bold</b>\n', license='CC0', creator='', page='')
    before = content(model)
    write_gallery(model, photos)
    after = content(model)
    info = json.loads(after['gallery/gallery.json'])
    assert {name: after[name] for name in before} == before, 'the model itself is as it was'
    assert set(after) - set(before) == {'gallery/gallery.json', 'gallery/embeddings.safetensors', *(f'gallery/{n:04}.jpg' for n in range(1, 12))}
    assert info['backbone'] == content_hash(model/'backbone.onnx') and info['version'] == 1
    assert all(tuple(record) == FIELDS and record['sha256'] == content_hash(model/'gallery'/record['file']) for record in info['photos'])
    odd = next(record for record in info['photos'] if record['license'] == 'CC0 1.0')
    assert (odd['title'], odd['creator'], odd['page']) == ('<b>bold</b>', '', 'https://example.org/gothic/70.jpg')
    vectors = load(after['gallery/embeddings.safetensors'])['embeddings']
    assert vectors.dtype == np.float16 and vectors.shape == (11, classifier.info['dimensions'])
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(float), axis=1), 1, atol=2e-3)
    for name, data in after.items():
        if not name.endswith('.jpg'): continue
        with Image.open(io.BytesIO(data)) as image: assert max(image.size) == LONGEST and not image.getexif() and image.format == 'JPEG'
    with Image.open(model/'gallery'/odd['file']) as image: assert image.size == (240, 80)
    for record in info['photos']: assert admits('free', read_license(record['license'], record['license_url']))


def test_a_photo_finds_itself_first(model, photos, classifier):
    import pandas as pd
    write_gallery(model, photos)
    gallery, paths = Gallery.open(model, classifier), sorted(photos.glob('*/*.jpg'))
    for path, embedding in zip(paths, embed_photos(pd.DataFrame({'path': map(str, paths), 'sha256': map(content_hash, paths)}), classifier.backbone)):
        found = gallery.similar(embedding)
        assert found[0].title == f'{path.parent.name} {path.stem}' and .999 < found[0].similarity <= 1
        assert [photo.similarity for photo in found] == sorted((photo.similarity for photo in found), reverse=True) and len(found) == 4
        assert found[0].picture == (model/'gallery'/found[0].file).read_bytes()
    assert len(gallery.similar(embedding, 99)) == 10


def test_the_older_gallery_is_replaced_as_a_whole(model, photos, classifier):
    write_gallery(model, photos)
    write_gallery(model, photos, per_class=1)
    assert set(content(model/'gallery')) == {'gallery.json', 'embeddings.safetensors', '0001.jpg', '0002.jpg'}
    assert os.listdir(model.parent) == ['model']


KILLED = '''
import os, signal, sys
from pathlib import Path
write, left = Path.write_bytes, [int(sys.argv[3])]
def killing(path, data):
    left[0] -= 1
    if left[0] < 0:
        write(path, data[:len(data)//2])
        os.kill(os.getpid(), signal.SIGKILL)
    return write(path, data)
Path.write_bytes = killing
from archclf.gallery import write_gallery
write_gallery(sys.argv[1], sys.argv[2], per_class=2)
'''


@pytest.mark.skipif(not hasattr(signal, 'SIGKILL'), reason='needs SIGKILL')
@pytest.mark.parametrize('files', [0, 1, 5])
def test_killed_half_way_leaves_the_older_one(model, photos, classifier, files):
    write_gallery(model, photos)
    before = content(model)
    done = subprocess.run([sys.executable, '-c', KILLED, model, photos, str(files)], capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert content(model) == before and len(Gallery.open(model, classifier).photos) == 10
    check_replaceable(model)
    assert sum(write_gallery(model, photos, per_class=1).classes.values()) == 2


def refused(model, classifier, *words):
    with pytest.raises(ModelError) as caught: Gallery.open(model, classifier)
    message = str(caught.value)
    assert '\n' not in message and str(model/'gallery') in message and all(word in message for word in words), message


def test_no_gallery(model, classifier):
    assert Gallery.open(model, classifier) is None and Gallery.open(None, classifier) is None


@pytest.fixture
def written(model, photos):
    write_gallery(model, photos)
    return model


@pytest.mark.parametrize('name', ['gallery.json', 'embeddings.safetensors', '0003.jpg'])
def test_missing_and_changed_files_are_named(written, classifier, name):
    path, data = written/'gallery'/name, (written/'gallery'/name).read_bytes()
    path.write_bytes(data[:len(data)//2])
    refused(written, classifier, name, 'is damaged' if name == 'gallery.json' else 'was changed', 'archclf gallery')
    path.unlink()
    refused(written, classifier, name, 'cannot be read', 'archclf gallery')


def edit(model, change):
    path = model/'gallery'/'gallery.json'
    info = json.loads(path.read_text('utf-8'))
    path.write_text(json.dumps(change(info)), encoding='utf-8')


@pytest.mark.parametrize('change, words', [
    ({'version': 2}, ['gallery format 2', 'pip install -U']), ({'format': 'x'}, ['not from archclf']), ({'backbone': '0'}, ['another backbone']), ({'size': 320}, ['another size']),
    ({'transform': 'none'}, ['another transform']), ({'photos': []}, ['expected [0, 1280]']), ({'photos': None}, ['expected [0, 1280]']), ({'photos': [1]}, ['a photo without file, label']),
    ({'embeddings': None}, ['embeddings.safetensors: was changed'])])
def test_some_other_gallery_json(written, classifier, change, words):
    edit(written, lambda info: info | change)
    refused(written, classifier, *words)


@pytest.mark.parametrize('text', ['', '[]', '1', '"x"', '[' * 100_000, '{"format": "archclf gallery"'])
def test_a_gallery_json_that_is_none(written, classifier, text):
    (written/'gallery'/'gallery.json').write_text(text)
    refused(written, classifier, 'gallery.json')


@pytest.mark.parametrize('field, value', [('file', '../model.json'), ('file', '/etc/passwd'), ('file', '1.jpg/../../x'), ('page', 'javascript:alert(1)'), ('page', 'https://a"\nb'),
                                          ('license_url', 'data:text/html,'), ('title', 5), ('creator', None), ('label', ['gothic'])])
def test_entries_that_could_do_harm(written, classifier, field, value):
    def change(info):
        info['photos'][2][field] = value
        return info
    edit(written, change)
    refused(written, classifier, f'{field} of a photo is')


@pytest.mark.parametrize('tensors', [{'embeddings': np.ones((10, 8), np.float16)}, {'embeddings': np.ones((10, 1280), np.float16)}, {'embeddings': np.full((10, 1280), np.nan, np.float16)}, {'weight': np.ones(3)}])
def test_other_embeddings(written, classifier, tensors):
    data = save(tensors)
    (written/'gallery'/'embeddings.safetensors').write_bytes(data)
    edit(written, lambda info: info | {'embeddings': content_hash(written/'gallery'/'embeddings.safetensors')})
    refused(written, classifier, 'embeddings.safetensors')


def test_wishes(model, photos):
    for gate in 'any', 'known', 'mine':
        with pytest.raises(ValueError, match=f"license '{gate}': expected free or commercial"): write_gallery(model, photos, license=gate)
    with pytest.raises(ValueError, match='per_class is 0'): write_gallery(model, photos, per_class=0)
    with pytest.raises(ModelError, match='no such folder'): write_gallery(model.parent/'nothing', photos)
    assert not (model/'gallery').exists()


def test_without_a_photo_to_show_the_older_gallery_stays(written, tmp_path):
    before = content(written)
    for seed in range(3): photo(tmp_path/'other', 'gothic', seed, license='unknown')
    with pytest.raises(ValueError, match=r'no photo may be shown \(licence does not allow it: 3\)'): write_gallery(written, tmp_path/'other')
    assert content(written) == before


def test_a_folder_of_ours_named_gallery_is_not_touched(model, photos):
    (model/'gallery').mkdir()
    (model/'gallery'/'holiday.jpg').write_bytes(b'mine')
    with pytest.raises(ModelError, match='exists and is not a gallery'): write_gallery(model, photos)
    with pytest.raises(ModelError, match='it holds gallery'): check_replaceable(model)
    assert (model/'gallery'/'holiday.jpg').read_bytes() == b'mine'


def again(model):
    info, files = read_model(MODELS/'styles8')
    head = Classifier(info, files).head
    return save_model(model, files['backbone.onnx'], head.weight, head.bias, info)


def test_training_again_removes_the_gallery_and_says_so(written, classifier):
    with pytest.warns(UserWarning, match='the gallery of the older model went with it'): again(written)
    assert Gallery.open(written, classifier) is None and 'gallery' not in os.listdir(written)
    again(written)  # without a warning, which would be an error here


def test_a_file_of_ours_in_a_gallery_is_not_deleted(written):
    (written/'gallery'/'notes.txt').write_text('mine')
    with pytest.raises(ModelError, match='it holds gallery'): again(written)
    assert (written/'gallery'/'notes.txt').read_text() == 'mine'


def test_reading_needs_the_classifier_only(written, tmp_path):
    package = tmp_path/'space'/'archclf'
    package.mkdir(parents=True)
    for name in 'gallery.py', 'classifier.py', 'image.py': shutil.copy(Path(sys.modules['archclf.gallery'].__file__).parent/name, package)
    code = ("import sys; from archclf.classifier import Classifier; from archclf.gallery import Gallery; model = Classifier.open(sys.argv[1])\n"
            "print(len(Gallery.open(sys.argv[1], model).similar(model.backbone.run(model.backbone.square(sys.argv[2])[None])[0])), 'pandas' in sys.modules)")
    done = subprocess.run([sys.executable, '-c', code, written, written/'gallery'/'0001.jpg'], cwd=package.parent, env={**os.environ, 'PYTHONPATH': ''}, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ['4', 'False'], done.stderr
