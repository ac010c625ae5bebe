"Publishing and opening, by the real client of huggingface_hub against a Hub on loopback (hubserver.py)."
import json
import re
import shutil
import socket
import threading
from contextlib import nullcontext
from hashlib import sha256

import pytest
from hubserver import Hub

from archclf.classifier import FILES, MODELS, Classifier
from archclf.publish import PublishError, make_plan, plans
from archclf.sample import draw_facade

SHIPPED = MODELS/'styles8'
README = '---\ntitle: Which style?\nsdk: {sdk}\npython_version: 3.10\n{more}---\n\nNames the style of a building.\n'
QUICK = 'import archclf.publish, archclf.classifier; archclf.publish.PAUSE = .02; archclf.classifier.HUB_SECONDS = 1\n'
ONLY_LOOPBACK = '''
import socket
def connect(self, address, connect=socket.socket.connect):
    assert self.family not in (socket.AF_INET, socket.AF_INET6) or address[0] == '127.0.0.1', address
    return connect(self, address)
socket.socket.connect = connect
'''


@pytest.fixture
def hub():
    with Hub() as hub: yield hub


@pytest.fixture
def space(tmp_path):
    "A small Gradio Space with a drawing, a file above 10 MB, and a model."
    folder = tmp_path/'which-style'
    shutil.copytree(SHIPPED, folder/'model')
    (folder/'README.md').write_text(README.format(sdk='gradio', more=''), 'utf-8')
    (folder/'app.py').write_text('import gradio\n')
    (folder/'large.txt').write_bytes(b''.join(b'%d green bottles\n' % i for i in range(600_000)))
    add_picture(folder/'examples')
    return folder


def add_picture(folder, name='gothic.png', credits='credits.json', **changes):
    folder.mkdir(exist_ok=True, parents=True)
    draw_facade('gothic', seed=1).resize((60, 60)).save(folder/name)
    credit = {'file': name, 'license': 'CC0 1.0', 'sha256': sha256((folder/name).read_bytes()).hexdigest()} | changes
    (folder/credits).write_text(json.dumps({'photos': [credit]}))


@pytest.fixture
def at(run, hub, tmp_path):
    "Type an `archclf` command on a machine whose Hub is the one on loopback."
    def at(*arguments, **options):
        where = {'HF_ENDPOINT': hub.address, 'HF_TOKEN': hub.token, 'HF_HOME': str(tmp_path/'hf'), 'before': ONLY_LOOPBACK + QUICK}
        return run(*arguments, **where | options)
    return at


@pytest.fixture
def refused(at):
    "Type a command that fails; one line on standard error, which is returned."
    def refused(*arguments, **options):
        done = at(*arguments, **options)
        last = done.stderr.splitlines()[-1]
        assert done.returncode == 2 and last.startswith('archclf: ') and 'Traceback' not in done.stderr, done
        return last
    return refused


def contents(folder): return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob('*') if path.is_file()}

def published(hub, kind, name): return {path: content for path, content in hub.files(kind, name).items() if path != '.gitattributes'}

def commits(hub): return sum('/commit/' in request for request in hub.requests)


# What arrives


@pytest.mark.parametrize('xet', ['0', '1'])
def test_what_is_on_the_hub_equals_the_folder(at, hub, space, xet):
    done = at('publish', space, 'ada/which-style', HF_HUB_DISABLE_XET=xet)
    assert (done.returncode, done.stderr.replace("archclf: Use 'content=<...>' to upload raw bytes/text content.\n", '')) == (0, '')  # huggingface_hub's own
    assert done.stdout.splitlines()[1:] == [f'ada/which-style: {stage}' for stage in ('building', 'app starting', 'running')] + [f'{hub.address}/spaces/ada/which-style']
    assert published(hub, 'space', 'ada/which-style') == contents(space)
    assert commits(hub) == 1 and any('/v1/xorbs/' in request or '/lfs/put/' in request for request in hub.requests)
    assert sha256((space/'large.txt').read_bytes()).hexdigest() in hub.objects
    assert hub.repositories['space', 'ada/which-style'].sdk == 'gradio'


def test_a_changed_folder_replaces_what_was_there(at, hub, space):
    at('publish', space, 'ada/which-style')
    (space/'app.py').write_text('import gradio as gr\n')
    (space/'large.txt').unlink()
    (space/'new').mkdir()
    (space/'new'/'words.txt').write_text('ä ö ü', 'utf-8')
    assert at('publish', space, 'ada/which-style').returncode == 0
    assert published(hub, 'space', 'ada/which-style') == contents(space) and '.gitattributes' in hub.files('space', 'ada/which-style')
    again = at('publish', space, 'ada/which-style')
    assert again.returncode == 0 and commits(hub) == 2, 'nothing changed, so there is nothing to commit'


def test_a_static_space_is_there_at_once(at, hub, space):
    hub.tokens[hub.token] = 'ada', {'write'}  # a free account
    (space/'README.md').write_text(README.format(sdk='static', more='app_file: page.html\n'))
    (space/'page.html').write_text('<p>Which style?')
    done = at('publish', space, 'ada/which-style')
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, '', 2)
    assert published(hub, 'space', 'ada/which-style') == contents(space) and not any('runtime' in request for request in hub.requests)


def test_a_space_on_zero_gpu_is_created_with_it(at, hub, space):
    hub.tokens[hub.token] = 'ada', {'write'}
    (space/'README.md').write_text(README.format(sdk='gradio', more='suggested_hardware: zero-a10g\n'))
    assert at('publish', space, 'ada/which-style').returncode == 0
    assert hub.repositories['space', 'ada/which-style'].hardware == 'zero-a10g'
    (space/'README.md').write_text(README.format(sdk='gradio', more='suggested_hardware: a100-large\n'))
    assert make_plan(space, 'ada/which-style').hardware is None, 'nothing that costs money'


@pytest.mark.parametrize('more', ['', 'models:\n- bob/other\n', 'models:\n  - bob/other\nlicense: mit\n', 'models: [bob/other]\nlicense: mit\n'])
def test_the_model_of_a_space_gets_its_own_repository(at, hub, space, more):
    (space/'README.md').write_text(README.format(sdk='gradio', more=more))
    for _ in range(2): assert at('publish', space, 'ada/which-style', '--push-model', 'ada/styles').returncode == 0
    assert published(hub, 'model', 'ada/styles') == contents(SHIPPED)
    assert published(hub, 'space', 'ada/which-style') == contents(space)
    named = 'models:\n' + ('- bob/other\n' if more else '') + '- ada/styles\n'
    assert (space/'README.md').read_text() == README.format(sdk='gradio', more=('license: mit\n' if 'mit' in more else '') + named)
    order = [request for request in hub.requests if '/commit/' in request]
    assert order == ['POST /api/models/ada/styles/commit/main', 'POST /api/spaces/ada/which-style/commit/main']


def test_private(at, refused, hub):
    assert at('publish', SHIPPED, 'ada/secret', '--private').returncode == 0
    assert hub.repositories['model', 'ada/secret'].private
    at('publish', SHIPPED, 'ada/open')
    hub.requests.clear()
    assert 'is there already, and public' in refused('publish', SHIPPED, 'ada/open', '--private') and not commits(hub)
    assert 'a private one' in refused('predict', 'x.jpg', '--model', 'hf://ada/secret', HF_TOKEN='')


def test_dry_run_sends_nothing(at, hub, space):
    done = at('publish', space, 'ada/which-style', '--push-model', 'ada/styles', '--dry-run')
    assert (done.returncode, done.stderr) == (0, '') and hub.requests == []
    for file, content in contents(space).items(): assert re.search(rf'^ *{len(content):,}  {re.escape(file)}$', done.stdout, re.M), file
    assert 'to ada/which-style, a gradio Space' in done.stdout and 'to ada/styles, a model' in done.stdout
    assert f'{sum(map(len, contents(space).values())):,}  bytes in {len(contents(space))} files' in done.stdout
    assert 'models:' not in (space/'README.md').read_text()


# What is refused, before anything is sent


SECRETS = {'Hugging Face token': 'hf_' + 'x' * 34, 'GitHub token': 'ghp_' + 'A1' * 18, 'AWS key': 'AKIA' + 'Q7' * 8, 'key of the OpenAI kind': 'sk-' + 'k3y' * 15,
           'Google key': 'AIza' + 'Q-4_x' * 7, 'private key': '-----BEGIN OPENSSH PRIVATE KEY-----', 'GitHub token (fine-grained)': 'github_pat_' + 'A1_b' * 16}


@pytest.mark.parametrize('kind', SECRETS)
def test_secrets_in_files(refused, hub, space, kind):
    (space/'examples'/'settings.bin').write_bytes(b'\0\xff\n\nkey=' + SECRETS[kind].encode() + b'\n')
    line = refused('publish', space, 'ada/which-style')
    assert f'examples/settings.bin: line 3 holds what looks like a {kind}' in line and 'Take it out' in line
    assert SECRETS[kind][:12] not in line.replace('PRIVATE', '') and hub.requests == []


def test_what_only_contains_the_shape_of_a_secret_is_none(space):
    for kind in set(SECRETS) - {'private key'}: (space/'examples'/f'{kind}.txt').write_text(f'data:image/png;base64,QUJD{SECRETS[kind]}')
    (space/'examples'/'code.py').write_text('token = os.environ["HF_TOKEN"]\nhf_tokens = dict(hf_a=1)\n.sk-toggleable__content-with-a-rather-long-name {}')
    assert len(make_plan(space, 'ada/which-style').files) == len(contents(space))


@pytest.mark.parametrize('name, words', [
    ('.env', 'secrets'), ('id_rsa', 'secrets'), ('server.PEM', 'secrets'), ('private.key', 'secrets'), ('.netrc', 'secrets'), ('kaggle.json', 'secrets'), ('token', 'secrets'),
    ('.DS_Store', 'hidden'), ('.git/config', 'hidden'), ('learner.pkl', 'pickle'), ('model.pth', 'pickle'), ('model.pt', 'pickle'), ('model.joblib', 'pickle')])
def test_files_that_are_not_for_others(space, name, words):
    (space/'examples'/name).parent.mkdir(exist_ok=True)
    (space/'examples'/name).write_text('x')
    with pytest.raises(PublishError, match=rf'examples/{name.split("/")[0]}: .*{words}'): make_plan(space, 'ada/which-style')


def test_symbolic_links(space):
    for target in 'app.py', 'model':
        (space/'link').symlink_to(space/target)
        with pytest.raises(PublishError, match='^link: a symbolic link; expected plain files'): make_plan(space, 'ada/which-style')
        (space/'link').unlink()
    (space/'.gitattributes').write_text('')
    assert '.gitattributes' in make_plan(space, 'ada/which-style').files


@pytest.mark.parametrize('changes, words', [
    ({'file': 'other.png'}, 'without a licence'), ({'license': ''}, 'its licence is unknown'), ({'license': 'all rights reserved'}, 'allows sharing'),
    ({'license': 'by-nc-nd 2.0'}, None), ({'sha256': '0' * 64}, 'another SHA-256'), ({'file': 3}, 'credits.json: cannot be read')])
@pytest.mark.parametrize('name', ['gothic.png', 'photo.jpg', 'no-suffix', 'notes.txt'])
def test_pictures_need_a_licence(space, changes, words, name):
    draw_facade('gothic', seed=1).save(space/'examples'/'gothic.png')
    add_picture(space/'examples')
    picture = (space/'examples'/'gothic.png').rename(space/'examples'/name)
    credit = {'file': name, 'license': 'CC0 1.0', 'sha256': sha256(picture.read_bytes()).hexdigest()} | changes
    (space/'examples'/'credits.json').write_text(json.dumps({'photos': [credit]}))
    with pytest.raises(PublishError, match=rf'^examples/.*{words}') if words else nullcontext(): make_plan(space, 'ada/which-style')


def test_a_gallery_in_a_model_brings_its_licences(space):
    add_picture(space/'model'/'gallery', '0001.jpg', 'gallery.json', license='CC BY-SA 4.0')
    assert 'model/gallery/0001.jpg' in make_plan(space, 'ada/which-style').files
    (space/'model'/'gallery'/'gallery.json').unlink()
    with pytest.raises(PublishError, match='model/gallery/0001.jpg: a picture without a licence'): make_plan(space, 'ada/which-style')


def test_folders_that_are_none(space, tmp_path):
    def refuses(folder, words):
        with pytest.raises(PublishError, match=words): make_plan(folder, 'ada/which-style')
    refuses(tmp_path/'nowhere', 'no such folder; expected one written by')
    refuses(tmp_path, 'neither an app nor a model')
    (space/'app.py').unlink()
    refuses(space, r'^app\.py: is what the Space starts with')
    for text, words in ('---\nsdk: docker\n---\n', "sdk 'docker'; expected gradio or static"), ('---\nsdk: [\n---\n', 'README.md: its front matter cannot be read'):
        (space/'README.md').write_text(text)
        refuses(space, words)
    with pytest.raises(PublishError, match='leave out --push-model ada/other'): plans(SHIPPED, 'ada/styles', 'ada/other')
    for name in 'styles', 'ada/a b', 'ada/x/y', 'ada/-x', 'ada/' + 'x' * 100, '../x', 'https://huggingface.co/ada/styles', '':
        with pytest.raises(PublishError, match='expected USER/NAME'): make_plan(SHIPPED, name)


def test_a_damaged_model_stays_here(refused, hub, space):
    (space/'model'/'head.safetensors').write_bytes(b'x')
    assert 'head.safetensors was changed since the model was saved' in refused('publish', space, 'ada/which-style')
    assert hub.requests == []


# What the Hub refuses


def test_without_a_token(refused, hub):
    line = refused('publish', SHIPPED, 'ada/styles', HF_TOKEN='')
    assert 'no token' in line and 'hf auth login' in line and hub.requests == []


@pytest.mark.parametrize('status, words', [(401, 'the Hub does not know your token'), (402, '--kind static'), (403, 'no right to write'), (404, 'no such repository'),
    (429, 'wait 7 s'), (400, 'does not take this'), (500, 'the Hub is in trouble (500)'), (503, 'run the same command again later'), ('cut', 'hung up'), ('stuck', 'did not answer in time')])
def test_each_refusal_is_one_line_without_the_token(at, refused, hub, status, words):
    hub.fail('POST /api/repos/create', status, message='sent {token},\nrefused', Retry_After=7)
    line = refused('publish', SHIPPED, 'ada/styles')
    assert line.startswith('archclf: ada/styles: ') and words in line
    if isinstance(status, int): assert 'sent Bearer [token], refused' in line
    done = at('publish', SHIPPED, 'ada/styles')
    assert hub.token not in done.stdout + done.stderr and hub.token[3:20] not in done.stdout + done.stderr


def test_a_traceback_does_not_show_the_token_either(at, hub):
    hub.fail('POST /api/repos/create', 500, message='sent {token}')
    publish = f"""
import traceback
try: archclf.publish.publish({str(SHIPPED)!r}, 'ada/styles')
except ValueError: traceback.print_exc()
"""
    done = at('--version', before=QUICK + publish)
    assert 'PublishError: ada/styles: the Hub is in trouble' in done.stderr and hub.token not in done.stderr


def test_the_token_of_a_login_is_found(at, hub, tmp_path):
    (tmp_path/'hf').mkdir()
    (tmp_path/'hf'/'token').write_text(hub.token)
    assert at('publish', SHIPPED, 'ada/styles', HF_TOKEN='').returncode == 0


def test_real_refusals(refused, hub, space):
    assert 'the Hub does not know your token' in refused('publish', SHIPPED, 'ada/styles', HF_TOKEN='hf_' + 'w' * 34)
    assert 'no right to write there' in refused('publish', SHIPPED, 'bob/styles')
    hub.tokens[hub.token] = 'ada', {'write'}
    assert 'Since July 2026 free accounts' in refused('publish', space, 'ada/which-style') and not hub.repositories


def test_the_hub_is_away(refused, hub):
    hub.__exit__()
    assert 'cannot be reached' in refused('publish', SHIPPED, 'ada/styles')


@pytest.mark.parametrize('xet, where', [('0', r'POST /v1/shards'), ('1', r'PUT /lfs/put'), ('1', 'POST .*/commit/')])
def test_an_interrupted_upload_goes_on(at, refused, hub, space, xet, where):
    hub.fail(where, 403, times=1, message='{token}')
    line = refused('publish', space, 'ada/which-style', HF_HUB_DISABLE_XET=xet)
    assert hub.token not in line and not commits(hub) or 'commit' in where
    assert at('publish', space, 'ada/which-style', HF_HUB_DISABLE_XET=xet).returncode == 0
    assert published(hub, 'space', 'ada/which-style') == contents(space)


def test_a_space_that_does_not_start(refused, hub, space):
    hub.stages, hub.fault = ['BUILDING', 'RUNTIME_ERROR'], 'no module named gradio'
    line = refused('publish', space, 'ada/which-style')
    assert 'does not run (RUNTIME_ERROR: no module named gradio)' in line and f'{hub.address}/spaces/ada/which-style?logs=container' in line
    hub.stages = ['BUILDING']
    assert 'after 0 s the Space is still at BUILDING' in refused('publish', space, 'ada/which-style', before=QUICK + 'archclf.publish.PATIENCE = 0\n')


def test_nobody_else_is_asked(at, hub, space):
    "The Rust part of the client goes around Python's sockets, but not around proxies."
    trap, calls = socket.create_server(('127.0.0.1', 0)), []
    def answer():
        while True:
            try: connection, _ = trap.accept()
            except OSError: return
            calls.append(connection.recv(200))
            connection.close()
    threading.Thread(target=answer, daemon=True).start()
    proxy = f'http://127.0.0.1:{trap.getsockname()[1]}'
    done = at('publish', space, 'ada/which-style', HTTP_PROXY=proxy, HTTPS_PROXY=proxy, ALL_PROXY=proxy, NO_PROXY='127.0.0.1', http_proxy=proxy, https_proxy=proxy, no_proxy='127.0.0.1')
    trap.close()
    assert done.returncode == 0 and calls == []
    assert not [agent for agent in hub.agents if 'torch' in agent] and 'GET /api/agent-harnesses' not in hub.requests, 'nor told what is installed here'


# Models from the Hub


@pytest.fixture
def drawing(tmp_path):
    draw_facade('byzantine', seed=1).save(tmp_path/'drawing.png')
    return tmp_path/'drawing.png'


def test_a_published_model_gives_the_same_answers(at, refused, hub, drawing, tmp_path):
    shutil.copytree(SHIPPED, tmp_path/'model')
    (tmp_path/'model'/'extra.txt').write_text('not part of a model')
    at('publish', tmp_path/'model', 'ada/styles')
    expected = at('predict', '--json', drawing).stdout
    done = at('predict', '--json', drawing, '--model', 'hf://ada/styles', HF_TOKEN='')
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, '')
    fetched = {request.split('/main/')[-1].split('/')[-1] for request in hub.requests if '/resolve/' in request}
    assert fetched == {'model.json', *FILES}
    commit = hub.repositories['model', 'ada/styles'].commits[-1][0]
    assert at('predict', '--json', drawing, '--model', f'hf://ada/styles@{commit}').stdout == expected
    assert 'has no such revision' in refused('predict', drawing, '--model', 'hf://ada/styles@v9')
    hub.__exit__()
    assert at('predict', '--json', drawing, '--model', 'hf://ada/styles').stdout == expected, 'from the cache, without a Hub'


def test_models_that_cannot_be_opened(at, refused, hub, drawing, tmp_path):
    def open_model(address, **options): return refused('predict', drawing, '--model', address, **options)
    for address in 'hf://styles', 'hf://ada/styles/model', 'hf://', 'hf://ada/st yles': assert 'expected hf://USER/NAME' in open_model(address)
    assert 'hf://ada/styles: no such model on the Hub, or a private one' in open_model('hf://ada/styles')
    assert 'no such model on the Hub' in open_model('hf://ada/styles', HF_TOKEN='')
    assert 'check your network and your token' in open_model('hf://ada/styles', HF_TOKEN='hf_' + 'w' * 34)
    hub.repositories['model', 'ada/styles'] = hub.repositories.pop(('space', 'ada/x'), None) or make_empty(at, hub, tmp_path)
    assert 'hf://ada/styles: no model.json here' in open_model('hf://ada/styles')
    assert 'the Hub cannot be reached' in open_model('hf://ada/other', HF_ENDPOINT='http://127.0.0.1:9')


def make_empty(at, hub, tmp_path):
    at('publish', SHIPPED, 'ada/empty')
    found = hub.repositories['model', 'ada/empty']
    found.commit({'README.md': b'nothing here'}, 'empty')
    return found


def test_a_tampered_download_is_refused(at, refused, hub, drawing):
    at('publish', SHIPPED, 'ada/styles')
    found = hub.repositories['model', 'ada/styles']
    found.commit(found.files | {'head.safetensors': found.files['head.safetensors'][:-1] + b'!'}, 'tampered')
    line = refused('predict', drawing, '--model', 'hf://ada/styles')
    assert 'hf://ada/styles: head.safetensors was changed since the model was saved; delete ' in line and 'publish it again' in line
    assert str(Classifier.open().info['name']) not in line


def test_a_backbone_from_the_hub(at, hub, drawings, tmp_path):
    at('publish', SHIPPED, 'ada/styles')
    done = at('train', drawings, '--out', tmp_path/'new', '--backbone', 'hf://ada/styles')
    assert done.returncode == 0 and (tmp_path/'new'/'backbone.onnx').read_bytes() == (SHIPPED/'backbone.onnx').read_bytes()


def test_a_private_model_opens_with_the_token(at, hub, drawing):
    at('publish', SHIPPED, 'ada/secret', '--private')
    assert at('predict', drawing, '--model', 'hf://ada/secret').returncode == 0


