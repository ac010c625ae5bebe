"""A web that misbehaves: `ImageWeb` is archclf.sampleweb.SampleWeb with troubles under `/trouble/<kind>/...`.

What follows the kind is free, so that there are as many addresses of a kind as a test needs; each has a good picture of its own,
`photo(path)`, which is sent in the end by the kinds marked with a star. Options go into the query.

    good *          the picture
    latency *       after `seconds` (.2)
    wrong-type *    as text/plain
    gzip *          compressed, though nobody asked for it; `encoding=br` only says so
    redirect *      after `hops` (1)
    <status> *      403, 404, 410, 429, 500, 503 and so on: the first `after` times, or always; `seconds` is put into Retry-After,
                    with `as=date` as a date
    redirect-loop, redirect-private, redirect-private6, redirect-file, redirect-ftp
    truncated       half of the picture, then the end
    endless         zeros for ever
    drip            the picture, a byte every `seconds` (.1)
    drip-headers    a header line, likewise
    stuck           accepts and says nothing
    reset           resets the connection
    hang-up         closes it without an answer
    malformed       something that is no HTTP
    html, text      as image/jpeg
    gzip-bomb       zeros for ever, compressed a thousandfold
    empty           no bytes at all
    huge            a Content-Length of a terabyte
    picture-bomb    a PNG of 20000 x 20000 pixels in 50 kB
    small           a picture of 16 x 12 pixels

`requests` (of SampleWeb) are the targets so far, `times` when they came, `busiest` how many late answers were under way at most.
"""
import gzip
import io
import os
import socket
import struct
import threading
import time
import zlib
from email.utils import formatdate
from functools import cache, lru_cache
from urllib.parse import parse_qsl, urlsplit

from PIL import Image

from archclf.sample import draw_facade
from archclf.sampleweb import SampleWeb, answer
from archclf.styles import STYLES

# Pictures


def encode(image, kind='JPEG'):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@lru_cache(maxsize=1024)
def photo(path):
    "A good picture for this address, the same every time; its style is the part of the path that names one."
    label = next((part for part in path.split('/') if part in STYLES), 'gothic')
    return encode(draw_facade(label, seed=path))


@cache
def picture_bomb(side=20000):
    packer = zlib.compressobj(9)
    rows = b''.join(packer.compress(bytes((1 + side // 8) * 100)) for _ in range(side // 100)) + packer.flush()
    chunks = (b'IHDR', struct.pack('>IIBBBBB', side, side, 1, 0, 0, 0, 0)), (b'IDAT', rows), (b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + b''.join(struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data)) for name, data in chunks)


@cache
def zeros():
    "The beginning of a gzip file and a piece to repeat for ever, each a megabyte of zeros."
    packer = zlib.compressobj(9, wbits=31)
    return [packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2)]


# Means of misbehaving


def good(handler, kind='image/jpeg', **headers): answer(handler, photo(urlsplit(handler.path).path), kind, **headers)


def redirect(handler, location): answer(handler, '', status=302, Location=location)


def raw(handler, data=b''):
    "Write `data` instead of an answer, and hang up."
    handler.close_connection = True
    handler.wfile.write(data)


def begin(handler, *headers):
    raw(handler, '\r\n'.join(('HTTP/1.1 200 OK', 'Content-Type: image/jpeg', *headers, '\r\n')).encode())


def endless(handler, piece):
    while True: handler.wfile.write(piece)  # until the visitor hangs up


def drip(handler, data, seconds):
    for i in range(len(data)):
        handler.wfile.write(data[i:i + 1])
        time.sleep(seconds)


def hold(handler):
    "Say nothing until the visitor hangs up."
    handler.close_connection = True
    handler.connection.settimeout(60)
    handler.connection.recv(1)


# The troubles: each answers `handler`, with the options in `query`


def refuse(web, handler, query, status):
    if web.requests.count(handler.path) > float(query.get('after', 'inf')): return good(handler)
    wait, headers = query.get('seconds'), {}
    if wait: headers['Retry-After'] = formatdate(time.time() + float(wait), usegmt=True) if query.get('as') == 'date' else wait
    answer(handler, f'Status {status}.', 'text/plain', status, **headers)


def redirects(web, handler, query):
    path, hops = urlsplit(handler.path).path, int(query.get('hops', 1))
    redirect(handler, f'{path}?hops={hops - 1}') if hops else good(handler)


def latency(web, handler, query):
    with web.counting:
        web.busy += 1
        web.busiest = max(web.busiest, web.busy)
    time.sleep(float(query.get('seconds', .2)))
    with web.counting: web.busy -= 1  # before the answer: whoever has it may ask the next question at once
    good(handler)


def compressed(web, handler, query):
    body = gzip.compress(photo(urlsplit(handler.path).path))
    answer(handler, body, 'image/jpeg', **{'Content-Encoding': query.get('encoding', 'gzip')})


def truncated(web, handler, query):
    body = photo(urlsplit(handler.path).path)
    begin(handler, f'Content-Length: {len(body)}')
    handler.wfile.write(body[:len(body) // 2])


def zeros_for_ever(web, handler, query):
    begin(handler, 'Connection: close')
    endless(handler, bytes(1 << 16))


def gzip_bomb(web, handler, query):
    first, piece = zeros()
    begin(handler, 'Connection: close', 'Content-Encoding: gzip')
    handler.wfile.write(first)
    endless(handler, piece)


def drip_body(web, handler, query):
    body = photo(urlsplit(handler.path).path)
    begin(handler, f'Content-Length: {len(body)}')
    drip(handler, body, float(query.get('seconds', .1)))


def drip_headers(web, handler, query):
    handler.close_connection = True
    drip(handler, b'HTTP/1.1 200 OK\r\nX-Patience: ' + b'a virtue ' * 1000, float(query.get('seconds', .1)))


def reset(web, handler, query):
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    os.close(handler.connection.detach())


def huge(web, handler, query):
    begin(handler, f'Content-Length: {10**12}')
    hold(handler)


TROUBLES = {
    'good': lambda web, handler, query: good(handler),
    'latency': latency,
    'wrong-type': lambda web, handler, query: good(handler, 'text/plain'),
    'gzip': compressed,
    'redirect': redirects,
    'redirect-loop': lambda web, handler, query: redirect(handler, handler.path),
    'redirect-private': lambda web, handler, query: redirect(handler, 'http://169.254.169.254/latest/meta-data/'),
    'redirect-private6': lambda web, handler, query: redirect(handler, 'http://[::1]:80/'),
    'redirect-file': lambda web, handler, query: redirect(handler, 'file:///etc/passwd'),
    'redirect-ftp': lambda web, handler, query: redirect(handler, 'ftp://ftp.example.org/photo.jpg'),
    'truncated': truncated,
    'endless': zeros_for_ever,
    'drip': drip_body,
    'drip-headers': drip_headers,
    'stuck': lambda web, handler, query: hold(handler),
    'reset': reset,
    'hang-up': lambda web, handler, query: raw(handler),
    'malformed': lambda web, handler, query: raw(handler, b'ICY 200 OK\r\nicy-name: radio\r\n\r\n'),
    'html': lambda web, handler, query: answer(handler, '<!doctype html><title>Sorry</title><p>Please log in.', 'image/jpeg'),
    'text': lambda web, handler, query: answer(handler, 'No hotlinking, please.', 'image/jpeg'),
    'gzip-bomb': gzip_bomb,
    'empty': lambda web, handler, query: answer(handler, '', 'image/jpeg'),
    'huge': huge,
    'picture-bomb': lambda web, handler, query: answer(handler, picture_bomb(), 'image/png'),
    'small': lambda web, handler, query: answer(handler, encode(Image.new('RGB', (16, 12), 'tan')), 'image/jpeg'),
}


class ImageWeb(SampleWeb):
    "A small web with troubles, see the top of this file."

    def __init__(self, **options):
        super().__init__(**{'per_style': 2, **options})
        self.times, self.busy, self.busiest, self.counting = [], 0, 0, threading.Lock()

    def trouble(self, kind, name='1', **query):
        "The address of a trouble: `web.trouble('latency', 'gothic/1', seconds=.5)`."
        options = '&'.join(f'{key}={value}' for key, value in query.items())
        return f'{self.address}/trouble/{kind}/{name}' + (f'?{options}' if options else '')

    def respond(self, handler):
        with self.counting: self.times.append(time.monotonic())
        self.misbehave(handler)

    def misbehave(self, handler):
        target = urlsplit(handler.path)
        _, first, kind, *_ = *target.path.split('/'), '', ''
        query = dict(parse_qsl(target.query))
        if first != 'trouble': super().respond(handler)
        elif kind.isdigit(): refuse(self, handler, query, int(kind))
        else: TROUBLES[kind](self, handler, query)
