"A stand-in for duckduckgo.com, behind a proxy on the loopback address that opens its own end of every TLS connection."
import json
import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlencode, urlsplit

import trustme

TOKEN = '4-318926475230912364109562438970124365'
PAGE = f'<!DOCTYPE html><html><head><title>DuckDuckGo</title></head><body><script>DDG.ready(nrj("/d.js?q=x&vqd={TOKEN}&p_ent="));vqd="{TOKEN}";</script></body></html>'


def row(number):
    "One picture as i.js describes it."
    return {'height': 800 + number, 'image': f'https://photos.example.org/{number}.jpg', 'image_token': f'{number:064x}', 'source': 'Bing',
            'thumbnail': f'https://tse1.example.net/th?id=OIP.{number}&pid=Api', 'thumbnail_token': f'{number + 1:064x}',
            'title': f'Gothic cathedral {number}', 'url': f'https://blog.example.org/{number}', 'width': 1200}


class _Handler(BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm, timeout = 'HTTP/1.1', True, 20
    def log_message(self, format, *args): pass

    def do_CONNECT(self):
        self.server.web.connections.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.connection = self.server.web.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile('rb'), self.connection.makefile('wb', 0)
        self.close_connection = False

    def do_GET(self):
        self.server.web.requests.append(self.path)
        status, body, *kind = self.server.web.answer(self.path)
        body = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        self.send_header('Content-Type', kind[0] if kind else 'application/x-javascript')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address): pass  # a client that distrusts the certificate hangs up


class DuckDuckGoWeb:
    "For the time of a `with` block, `proxy` leads to a duckduckgo.com that has `count` pictures for every phrase."
    def __init__(self, folder, count=250):
        authority = trustme.CA()
        self.authority, self.tls = folder/'authority.pem', ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.cert_pem.write_to_path(str(self.authority))
        authority.issue_cert('duckduckgo.com').configure_cert(self.tls)
        self.count, self.requests, self.connections, self.server = count, [], [], _Server(('127.0.0.1', 0), _Handler)
        self.server.web, self.proxy = self, f'http://127.0.0.1:{self.server.server_address[1]}'
        self.instead = {}  # {'/' or '/i.js', or '/i.js 100' for the rows from 100 on: (status, body), or a function from the query to that or None}

    def answer(self, target):
        path, query = urlsplit(target).path, {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
        start = int(query.get('s', 0))
        for name in (f'{path} {start}', path):
            instead = self.instead.get(name)
            if callable(instead): instead = instead(query)
            if instead: return instead
        if path == '/': return 200, PAGE, 'text/html'
        if path != '/i.js' or query.get('vqd') != TOKEN: return 403, 'If this error persists, please let us know: ops@duckduckgo.com'
        found = {'ads': None, 'query': query['q'], 'response_type': 'places', 'results': [row(i) for i in range(start, min(start + 100, self.count))]}
        if start + 100 < self.count: found['next'] = 'i.js?' + urlencode({'q': query['q'], 'o': 'json', 'p': 1, 's': start + 100, 'u': 'bing', 'l': 'us-en'})
        return 200, json.dumps(found)

    def __enter__(self):
        Thread(target=self.server.serve_forever, kwargs={'poll_interval': .05}, daemon=True).start()
        return self

    def __exit__(self, *failure):
        self.server.shutdown()
        self.server.server_close()
