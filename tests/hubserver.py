"""A small Hugging Face Hub on loopback, for the real client of `huggingface_hub`: `with Hub() as hub: HF_ENDPOINT=hub.address`.

It speaks what publishing and opening need: repositories (models and Spaces), commits, both ways in which large files travel (LFS and
Xet), downloads, the stages of a Space. What it holds: `hub.files('model', 'ada/styles')` is `{path: bytes}`; `hub.requests` are the
requests so far, such as 'POST /api/repos/create'.

Accounts are `hub.tokens`, `{token: (user, rights)}`, rights among 'write', 'read' and 'pro' (may create Gradio Spaces).
`hub.stages` are the stages that a Gradio Space goes through after a commit, one a question, the last for ever.
`hub.fail(r'POST /api/repos/create', 429, times=1, **headers)` answers with that status; 'cut' hangs up, 'stuck' says nothing.
"""
import base64
import hashlib
import json
import re
import struct
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import unquote, urlsplit

LARGE = 10 << 20  # larger files, and those that .gitattributes names, are no regular ones
ATTRIBUTES = ''.join(f'*.{kind} filter=lfs diff=lfs merge=lfs -text\n' for kind in ('onnx', 'safetensors', 'wasm', 'bin')).encode()
ERRORS = {400: 'Bad request', 401: 'Invalid credentials in Authorization header', 402: 'Payment required', 403: 'You have no write access here',
          404: 'Not found', 409: 'Conflict', 429: 'Too many requests', 500: 'Internal error', 503: 'Down for maintenance'}


def sha1(data): return hashlib.sha1(b'blob %d\0' % len(data) + data).hexdigest()
def sha256(data): return hashlib.sha256(data).hexdigest()


class Refusal(Exception):
    "An answer that is not 200: status, what is said, more of the same, headers."
    def __init__(self, status, message='', more={}, **headers):
        self.status, self.message, self.more, self.headers = status, message or ERRORS[status], more, headers


@dataclass
class Repository:
    kind: str  # model or space
    name: str  # user/name
    private: bool = False
    sdk: str = ''
    hardware: str = ''
    commits: list = field(default_factory=list)  # (id, {path: content}, title), the newest last
    asked: int = 0  # how often the stage was asked since the newest commit

    @property
    def files(self): return self.commits[-1][1]

    def commit(self, files, title):
        if self.commits and files == self.files: raise Refusal(400, 'Empty commit')
        self.commits.append((hashlib.sha1(f'{self.name} {len(self.commits)} {title}'.encode()).hexdigest(), files, title))
        self.asked = 0

    def at(self, revision):
        for commit, files, _ in reversed(self.commits):
            if revision in ('main', commit): return commit, files
        raise Refusal(404, f'Invalid rev id: {revision}', **{'X-Error-Code': 'RevisionNotFound'})


# Xet: files arrive as xorbs, chunks one after the other, and shards, which say which chunks make up which file (huggingface.co/docs/xet)


def unpack_lz4(data):
    "One LZ4 frame."
    flags, position, out = data[4], 7, bytearray()
    if flags & 8: position += 8
    while size := struct.unpack_from('<I', data, position)[0]:
        block = data[position + 4:position + 4 + (size & 0x7fffffff)]
        position += 4 + len(block) + (4 if flags & 16 else 0)
        out.extend(block) if size >> 31 else unpack_block(block, out)
    return bytes(out)


def unpack_block(block, out):
    at, end = 0, len(block)
    while at < end:
        token, at = block[at], at + 1
        literals, at = length(block, at, token >> 4)
        out += block[at:at + literals]
        at += literals
        if at >= end: return
        offset, at = block[at] | block[at + 1] << 8, at + 2
        match, at = length(block, at, token & 15)
        start, match = len(out) - offset, match + 4
        piece = out[start:start + match]
        while len(piece) < match: piece += piece[:match - len(piece)]
        out += piece


def length(block, at, value):
    if value < 15: return value, at
    while True:
        more, at = block[at], at + 1
        value += more
        if more < 255: return value, at


def ungroup(data):
    "Undo the grouping of every fourth byte."
    out, at = bytearray(len(data)), 0
    for lane in range(4):
        count = len(range(lane, len(data), 4))
        out[lane::4], at = data[at:at + count], at + count
    return bytes(out)


def chunks_of(xorb):
    at, found = 0, []
    while at + 8 <= len(xorb) and xorb[at:at + 7] != b'XETBLOB':
        packed, scheme, size = int.from_bytes(xorb[at + 1:at + 4], 'little'), xorb[at + 4], int.from_bytes(xorb[at + 5:at + 8], 'little')
        data = xorb[at + 8:at + 8 + packed]
        found.append(data if scheme == 0 else unpack_lz4(data) if scheme == 1 else ungroup(unpack_lz4(data)))
        if len(found[-1]) != size: raise Refusal(400, 'a chunk of the wrong size')
        at += 8 + packed
    return found


def files_of(shard, xorbs):
    "The contents of the files of a shard."
    at = 48
    while shard[at:at + 32] != b'\xff' * 32:
        flags, count = struct.unpack_from('<II', shard, at + 32)
        terms = [struct.unpack_from('<32sIIII', shard, at + 48 * (i + 1)) for i in range(count)]
        at += 48 * (1 + count + (count if flags >> 31 & 1 else 0))
        content = b''.join(b''.join(xorbs[term[0]][term[3]:term[4]]) for term in terms)
        if flags >> 30 & 1:
            if hash_name(shard[at:at + 32]) != sha256(content): raise Refusal(400, 'a file with another SHA-256')
            at += 48
        yield content


def hash_name(data):
    "How Xet writes a hash: each eight bytes backwards."
    return b''.join(data[i:i + 8][::-1] for i in range(0, 32, 8)).hex()


# The server


class Hub:
    "See the top of this file."

    def __init__(self, token='hf_' + 'a' * 34, user='ada'):
        self.tokens, self.token = {token: (user, {'write', 'pro'})}, token
        self.repositories, self.objects, self.xorbs, self.failures, self.requests, self.agents = {}, {}, {}, [], [], set()
        self.stages, self.lock, self.fault = ['BUILDING', 'APP_STARTING', 'RUNNING'], Lock(), None

    def __enter__(self):
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'
            def log_message(self, *_): pass
            def handle_any(self): hub.handle(self)
            do_GET = do_POST = do_PUT = do_HEAD = handle_any

        ThreadingHTTPServer.daemon_threads = True
        self.server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.address = f'http://127.0.0.1:{self.server.server_address[1]}'
        Thread(target=self.server.serve_forever, args=(.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def files(self, kind, name): return self.repositories[kind, name].files

    def fail(self, pattern, status, times=10**6, message='', **headers):
        self.failures.append([re.compile(pattern), status, times, message, {name.replace('_', '-'): str(value) for name, value in headers.items()}])

    def handle(self, handler):
        body = handler.rfile.read(int(handler.headers.get('Content-Length') or 0))
        path = unquote(urlsplit(handler.path).path)
        line = f'{handler.command} {path}'
        with self.lock:
            self.requests.append(line)
            self.agents.add(handler.headers.get('User-Agent'))
        try: status, answer, headers = 200, *self.respond(handler, line, path, body)
        except Refusal as refusal:
            headers = {'Content-Type': 'application/json', 'X-Error-Message': ' '.join(refusal.message.split()), **refusal.headers}
            status, answer = refusal.status, json.dumps({'error': refusal.message, **refusal.more}).encode()
        except ConnectionAbortedError:
            handler.close_connection = True
            return
        send(handler, status, answer, headers)

    def respond(self, handler, line, path, body):
        self.misbehave(line, handler)
        token = (handler.headers.get('Authorization') or '').removeprefix('Bearer ')
        if token and token not in self.tokens and not token.startswith('xet-'): raise Refusal(401)
        for pattern, action in ROUTES:
            if match := re.fullmatch(pattern, line):
                found = action(self, token, body, **match.groupdict())
                return found if isinstance(found, tuple) else (json.dumps(found).encode(), {'Content-Type': 'application/json'})
        raise Refusal(404, f'no such address: {line}')

    def misbehave(self, line, handler):
        for failure in self.failures:
            pattern, status, times, message, headers = failure
            if not pattern.search(line) or not times: continue
            failure[2] -= 1
            if status == 'stuck': time.sleep(20)
            if status in ('cut', 'stuck'): raise ConnectionAbortedError
            raise Refusal(status, (message or ERRORS[status]).replace('{token}', handler.headers.get('Authorization') or ''), **headers)

    def rights(self, token): return self.tokens.get(token, ('', set()))

    def find(self, token, kind, name):
        found = self.repositories.get((kind, name))
        if not found or found.private and self.rights(token)[0] != name.split('/')[0]:
            raise Refusal(404 if token else 401, 'Repository not found' if token else 'Invalid username or password.', **{'X-Error-Code': 'RepoNotFound'})
        return found

    def writable(self, token, kind, name):
        found = self.find(token, kind, name)
        self.check_rights(token, name.split('/')[0])
        return found

    def check_rights(self, token, owner):
        if not token: raise Refusal(401)
        user, rights = self.rights(token)
        if user != owner or 'write' not in rights: raise Refusal(403, f"You don't have the rights to create or change things under the namespace \"{owner}\"")


def send(handler, status, answer, headers):
    handler.send_response(status)
    for name, value in {'Content-Length': str(len(answer)), **headers}.items(): handler.send_header(name, value)
    handler.end_headers()
    if handler.command != 'HEAD': handler.wfile.write(answer)


def whoami(hub, token, body):
    if not token: raise Refusal(401)
    user, rights = hub.rights(token)
    return {'type': 'user', 'name': user, 'isPro': 'pro' in rights, 'auth': {'type': 'access_token', 'accessToken': {'displayName': 'test', 'role': 'write'}}}

def create(hub, token, body):
    wish = json.loads(body)
    kind, name = wish.get('type', 'model'), f"{wish['organization'] or hub.rights(token)[0]}/{wish['name']}"
    hub.check_rights(token, name.split('/')[0])
    url = f"{hub.address}/{'spaces/' if kind == 'space' else ''}{name}"
    if (kind, name) in hub.repositories: raise Refusal(409, 'You already created this repo', {'url': url})
    if kind == 'space' and wish['sdk'] != 'static' and wish.get('hardware') != 'zero-a10g' and 'pro' not in hub.rights(token)[1]:
        raise Refusal(402, 'A paid plan is needed to create a Gradio Space on CPU')
    private = wish.get('private') or wish.get('visibility') == 'private'
    made = hub.repositories[kind, name] = Repository(kind, name, bool(private), wish.get('sdk', ''), wish.get('hardware', ''))
    made.commit({'.gitattributes': ATTRIBUTES, **({'README.md': b'---\nsdk: static\n---\n', 'style.css': b'body {}'} if kind == 'space' else {})}, 'initial commit')
    return {'url': url, 'name': name}

def validate(hub, token, body): return {'errors': [], 'warnings': []}

def info(hub, token, body, kind, name, revision='main'):
    found = hub.find(token, kind, name)
    commit, files = found.at(revision)
    return {'id': name, 'sha': commit, 'private': found.private, 'gated': False, 'disabled': False, 'sdk': found.sdk or None, 'tags': [],
            'siblings': [{'rfilename': path} for path in files]}

def large(path, size): return size > LARGE or path.endswith(('.onnx', '.safetensors', '.wasm', '.bin'))

def preupload(hub, token, body, kind, name, revision):
    files = hub.writable(token, kind, name).at(revision)[1]
    def look(file):
        path, content = file['path'], files.get(file['path'])
        mode = 'lfs' if large(path, file['size']) else 'regular'
        oid = {} if content is None else {'oid': sha256(content) if mode == 'lfs' else sha1(content)}
        return {'path': path, 'uploadMode': mode, 'shouldIgnore': False, **oid}
    return {'files': [look(file) for file in json.loads(body)['files']]}

def batch(hub, token, body, kind, name):
    hub.writable(token, repo_kind(kind), name)
    def plan(thing):
        if thing['oid'] in hub.objects: return thing
        return {**thing, 'actions': {'upload': {'href': f"{hub.address}/lfs/put/{thing['oid']}"}, 'verify': {'href': f"{hub.address}/lfs/verify"}}}
    wish = json.loads(body)
    return {'transfer': 'xet' if 'xet' in wish['transfers'] else 'basic', 'objects': [plan(thing) for thing in wish['objects']]}

def put(hub, token, body, oid):
    if sha256(body) != oid: raise Refusal(400, 'another SHA-256')
    hub.objects[oid] = body
    return {}

def verify(hub, token, body):
    if json.loads(body)['oid'] not in hub.objects: raise Refusal(404)
    return {}

def commit(hub, token, body, kind, name, revision):
    found = hub.writable(token, kind, name)
    lines = [json.loads(line) for line in body.splitlines()]
    files = dict(found.at(revision)[1])
    for line in lines:
        value = line['value']
        if line['key'] == 'file': files[value['path']] = base64.b64decode(value['content'])
        if line['key'] == 'deletedFile': del files[value['path']]
        if line['key'] == 'lfsFile':
            if value['oid'] not in hub.objects: raise Refusal(400, f"{value['path']}: the content never arrived")
            files[value['path']] = hub.objects[value['oid']]
    found.commit(files, lines[0]['value']['summary'])
    return {'commitUrl': f"{hub.address}/{name}/commit/{found.commits[-1][0]}", 'commitOid': found.commits[-1][0], 'success': True}

def tree(hub, token, body, kind, name, revision):
    _, files = hub.find(token, kind, name).at(revision)
    def entry(path, content):
        lfs = {'lfs': {'oid': sha256(content), 'size': len(content), 'pointerSize': 130}} if large(path, len(content)) else {}
        return {'type': 'file', 'path': path, 'size': len(content), 'oid': sha1(content), **lfs}
    return [entry(path, content) for path, content in sorted(files.items())]

def resolve(hub, token, body, kind, name, revision, path):
    commit, files = hub.find(token, repo_kind(kind), name).at(revision)
    if path not in files: raise Refusal(404, 'Entry not found', **{'X-Error-Code': 'EntryNotFound', 'X-Repo-Commit': commit})
    content = files[path]
    etag = sha256(content) if large(path, len(content)) else sha1(content)
    return content, {'X-Repo-Commit': commit, 'ETag': f'"{etag}"', 'X-Linked-Etag': f'"{etag}"', 'X-Linked-Size': str(len(content)),
                     'Content-Type': 'application/octet-stream', 'Accept-Ranges': 'bytes'}

def runtime(hub, token, body, name):
    found = hub.find(token, 'space', name)
    if found.sdk == 'static': stage = 'RUNNING'
    else: stage, found.asked = hub.stages[min(found.asked, len(hub.stages) - 1)], found.asked + 1
    fault = {'errorMessage': hub.fault} if hub.fault and stage.endswith('ERROR') else {}
    return {'stage': stage, 'hardware': {'current': None, 'requested': 'cpu-basic'}, 'gcTimeout': 172800, 'storage': None, 'replicas': {'requested': 1},
            'sha': found.commits[-1][0], **fault}

def xet_token(hub, token, body, kind, name, revision):
    hub.writable(token, kind, name)
    found = {'casUrl': hub.address, 'accessToken': f'xet-{name}', 'exp': int(time.time()) + 3600}
    names = 'X-Xet-Cas-Url', 'X-Xet-Access-Token', 'X-Xet-Token-Expiration'  # where older clients look
    return json.dumps(found).encode(), {'Content-Type': 'application/json', **dict(zip(names, map(str, found.values())))}

def xorb(hub, token, body, key):
    hub.xorbs[bytes.fromhex(hash_name(bytes.fromhex(key)))] = chunks_of(body)
    return {'was_inserted': True}

def shard(hub, token, body):
    for content in files_of(body, hub.xorbs): hub.objects[sha256(content)] = content
    return {'result': 1}

def repo_kind(prefix): return 'space' if prefix == 'spaces/' else 'model'


API, LINK = r'/api/(?P<kind>model|space)s/(?P<name>[^/]+/[^/]+)', r'/(?P<kind>spaces/)?(?P<name>[^/]+/[^/]+)'
ROUTES = [
    ('GET /api/agent-harnesses', lambda hub, token, body: {'standardEnvVars': [], 'harnesses': {}}),
    ('GET /api/whoami-v2', whoami),
    ('POST /api/repos/create', create),
    ('POST /api/validate-yaml', validate),
    ('GET /api/spaces/(?P<name>[^/]+/[^/]+)/runtime', runtime),
    (f'GET {API}', info),
    (f'GET {API}/revision/(?P<revision>.+)', info),
    (f'GET {API}/tree/(?P<revision>.+)', tree),
    (f'GET {API}/xet-write-token/(?P<revision>.+)', xet_token),
    (f'POST {API}/preupload/(?P<revision>.+)', preupload),
    (f'POST {API}/commit/(?P<revision>.+)', commit),
    (rf'POST {LINK}\.git/info/lfs/objects/batch', batch),
    (f'(GET|HEAD) {LINK}/resolve/(?P<revision>[^/]+)/(?P<path>.+)', resolve),
    ('PUT /lfs/put/(?P<oid>[0-9a-f]{64})', put),
    ('POST /lfs/verify', verify),
    ('POST /v1/xorbs/default/(?P<key>[0-9a-f]{64})', xorb),
    ('POST /v1/shards', shard),
]
