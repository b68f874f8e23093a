#!/usr/bin/env python3
"""The HTTP interface of ClickHouse in front of the engine that chdb-core brings: front.py FOLDER PORT [USER PASSWORD]

The engine is the real one; this is not the HTTP handler of a server. What differs: `async_insert` is accepted but not queued; there
is one user; no replicas, no Keeper, no `ON CLUSTER`, no native protocol.

CLICKHOUSE_CONFIG names a config.xml for the engine, which must have a system.query_log; CLICKHOUSE_HTTP_COMPRESSION=0 answers
uncompressed; CLICKHOUSE_HTTP_LOG=1 logs each request.

One process owns the folder. Each request gets a connection to the engine of its own (0.2 ms), so that settings, database and
parameters are per request and requests run in parallel, as on a server. Inserts stream into the engine, selects stream out.
"""

import base64, json, os, re, signal, socket, ssl, struct, sys, threading, time, uuid, zlib
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

os.environ.setdefault("TZ", "UTC")
import lz4.block, lz4.frame, zstandard
from clickhouse_cityhash.cityhash import CityHash128
from chdb.state.sqlitelike import Connection

# ---- errors ---------------------------------------------------------------------------------------------------

# HTTP status by error code, the rest is 500 (checked against the names in the engine)
STATUS = {
    code: status
    for status, codes in {
        400: (6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123, 167, 168, 223, 321, 376, 427, 441, 675, 676),
        401: (194,),
        403: (192, 193, 497, 512, 516),
        404: (46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511),
        408: (159,),
        411: (381,),
        413: (229,),
        415: (779,),
        501: (48,),
        503: (76, 209, 439),
    }.items()
    for code in codes
}


class ChError(Exception):
    def __init__(self, text):
        m = re.search(r"Code: (\d+)\. ", text)
        self.code = int(m[1]) if m else 1002
        text = text[m.start() :] if m else f"Code: 1002. DB::Exception: {text} (UNKNOWN_EXCEPTION)"
        self.text = re.sub(r"\s*\(version [^)]*\)\s*$", "", text.strip()) + f" (version {VERSION} (chdb))\n"
        self.status = STATUS.get(self.code, 500)


# ---- compression ----------------------------------------------------------------------------------------------
def checksum(b):  # CityHash128 v1.0.2: two little-endian words, high word first
    h = CityHash128(b)
    return struct.pack("<QQ", h >> 64, h & (2**64 - 1))


def native_encode(data):  # compress=1: frames of at most 1 MiB
    out = []
    for o in range(0, len(data), 1 << 20):
        raw = data[o : o + (1 << 20)]
        z = lz4.block.compress(raw, store_size=False)
        body = struct.pack("<BII", 0x82, len(z) + 9, len(raw)) + z
        out += [checksum(body), body]
    return b"".join(out)


def native_decode(chunks):  # decompress=1
    buf = bytearray()
    for chunk in chunks:
        buf += chunk
        while len(buf) >= 25:
            method, size, raw = struct.unpack_from("<BII", buf, 16)
            if size < 9 or size > 1 << 30:
                raise ChError("Code: 271. DB::Exception: Bad compressed frame (CANNOT_DECOMPRESS)")
            if len(buf) < 16 + size:
                break
            body = bytes(buf[16 : 16 + size])
            if checksum(body) != bytes(buf[:16]):
                raise ChError("Code: 40. DB::Exception: Checksum doesn't match: corrupted data (CHECKSUM_DOESNT_MATCH)")
            del buf[: 16 + size]
            z = memoryview(body)[9:]
            if method == 0x82:
                yield lz4.block.decompress(z, uncompressed_size=raw)
            elif method == 0x90:
                yield zstandard.ZstdDecompressor().decompress(z, max_output_size=raw)
            elif method == 0x02:
                yield bytes(z)
            else:
                raise ChError(f"Code: 89. DB::Exception: Unknown compression method {method} (UNKNOWN_COMPRESSION_METHOD)")
    if buf:
        raise ChError("Code: 33. DB::Exception: Cannot read all data: truncated compressed frame (CANNOT_READ_ALL_DATA)")


DECODERS = {
    "gzip": lambda: zlib.decompressobj(47),
    "deflate": lambda: zlib.decompressobj(47),
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": lambda: zstandard.ZstdDecompressor().decompressobj(),
}


def http_decode(chunks, encoding):  # Content-Encoding of a request, concatenated frames allowed
    new = DECODERS.get(encoding)
    if not new:
        raise ChError(f"Code: 89. DB::Exception: Unknown Content-Encoding {encoding} (UNKNOWN_COMPRESSION_METHOD)")
    d = new()
    for chunk in chunks:
        while chunk:
            if d.eof:
                d = new()
            yield d.decompress(chunk)
            chunk = d.unused_data if d.eof else b""


class Encoder:  # Content-Encoding of a response, or compress=1
    def __init__(self, kind):
        self.kind, self.end = kind, lambda: b""
        if kind == "native":
            self.feed = native_encode
        elif kind == "lz4":
            z = lz4.frame.LZ4FrameCompressor(block_linked=False, auto_flush=True)
            head = [z.begin()]
            self.feed, self.end = (
                lambda b: (head.pop() if head else b"") + z.compress(b),
                lambda: (head.pop() if head else b"") + z.flush(),
            )
        elif kind in ("zstd", "gzip", "deflate"):
            z = (
                zstandard.ZstdCompressor(3).compressobj()
                if kind == "zstd"
                else zlib.compressobj(3, wbits=31 if kind == "gzip" else 15)
            )
            self.feed, self.end = z.compress, z.flush
        else:
            self.feed = lambda b: b


# ---- SQL ------------------------------------------------------------------------------------------------------
COMMENT = r"(?:\s|--[^\n]*\n|/\*.*?\*/)*"
INSERT = re.compile(COMMENT.encode() + rb"INSERT\s", re.I | re.S)
INSERT_DATA = re.compile(rb"(.*?)\s+(?:FORMAT\s+(\w+)|(VALUES))\s*?(?:;?\s*$|[ \t]*\r?\n|\s+(?=[\[{(]))", re.I | re.S)
READ = re.compile(COMMENT + r"(?:SELECT\b|WITH\b|\()", re.I | re.S)
FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*(?:SETTINGS\s[^)]*)?;?\s*$", re.I)
POISON = re.compile(rb"\s*(?:CREATE|ATTACH)\b.*\bENGINE\s*=?\s*(?:Kafka|RabbitMQ|NATS)\b", re.I | re.S)
STREAMABLE = {
    "rowbinary": 0,
    "rowbinarywithnames": 1,
    "rowbinarywithnamesandtypes": 2,
    "native": 0,
    "tabseparated": 0,
    "tsv": 0,
    "jsoneachrow": 0,
    "csv": 0,
    "tabseparatedraw": 0,
    "tsvraw": 0,
    "jsoncompacteachrow": 0,
    "jsonstringseachrow": 0,
}
RESERVED = {
    "query",
    "default_format",
    "compress",
    "decompress",
    "database",
    "user",
    "password",
    "session_id",
    "session_timeout",
    "session_check",
    "query_id",
    "role",
    "quota_key",
    "stacktrace",
    "buffer_size",
    "wait_end_of_query",
    "client_protocol_version",
}


def header_size(b, lists):  # the engine repeats the names/types header in every chunk
    def varint(p):
        n = shift = 0
        while True:
            n |= (b[p] & 127) << shift
            shift += 7
            p += 1
            if b[p - 1] < 128:
                return n, p

    n, p = varint(0)
    for _ in range(n * lists):
        size, p = varint(p)
        p += size
    return p


def quote(s):
    return "'" + s.replace("\\", "\\\\").replace("'", "\\'") + "'"


# ---- server ---------------------------------------------------------------------------------------------------
class Handler(BaseHTTPRequestHandler):
    protocol_version, server_version = "HTTP/1.1", "chdb-http"
    disable_nagle_algorithm, rbufsize, wbufsize = True, 1 << 18, 1 << 18

    def log_message(self, *a):
        if os.environ.get("CLICKHOUSE_HTTP_LOG"):
            super().log_message(*a)

    def do_GET(self):
        self.handle_request()

    do_POST = do_HEAD = do_PUT = do_GET

    def raw_body(self):  # undo chunked or Content-Length framing
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while True:
                self.connection.setsockopt(
                    socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1
                )  # else Nagle at the client + delayed ACK: 40 ms
                line = self.rfile.readline(256)
                if not line.endswith(b"\n"):
                    raise ConnectionAbortedError("client went away")
                left = int(line.split(b";")[0], 16)
                if left == 0:
                    while self.rfile.readline(65536).strip():
                        pass
                    return
                data = self.rfile.read(left + 2)
                if len(data) < left + 2:
                    raise ConnectionAbortedError("client went away")
                yield data[:-2]
        else:
            left = int(self.headers.get("Content-Length") or 0)
            while left:
                data = self.rfile.read(min(left, 1 << 20))
                if not data:
                    raise ConnectionAbortedError("client went away")
                left -= len(data)
                yield data

    def handle_request(self):
        self.started, self.encoder, self.query_id = False, Encoder(None), str(uuid.uuid4())
        url = urlsplit(self.path)
        self.args = dict(pairs := parse_qsl(url.query, keep_blank_values=True))
        self.args_list, self.body = pairs, self.raw_body()
        try:
            if url.path in ("/ping", "/replicas_status") or (
                self.command != "POST" and url.path == "/" and "query" not in self.args
            ):
                self.drain()
                return self.reply(200, b"Ok.\n", "text/plain")
            if url.path != "/":
                self.drain()
                return self.reply(404, f"There is no handle {url.path}\n".encode(), "text/plain")
            self.query_id = self.args.get("query_id") or self.query_id
            kind = next(
                (
                    e
                    for e in ("lz4", "zstd", "gzip", "deflate")
                    if e in re.split(r"[,;\s]+", self.headers.get("Accept-Encoding", ""))
                ),
                None,
            )
            if self.args.get("enable_http_compression", HTTP_COMPRESSION) not in ("1", "true"):
                kind = None
            self.encoder = Encoder("native" if self.args.get("compress") in ("1", "true") else kind)
            self.authenticate()
            self.run()
        except (ConnectionError, TimeoutError, socket.timeout):
            self.close_connection = True
        except Exception as e:
            self.fail(e if isinstance(e, ChError) else ChError(str(e)))

    def authenticate(self):
        user, key = self.headers.get("X-ClickHouse-User"), self.headers.get("X-ClickHouse-Key")
        auth = self.headers.get("Authorization", "")
        if auth.startswith("Basic "):
            user, _, key = base64.b64decode(auth[6:]).decode().partition(":")
        user, key = user or self.args.get("user") or "default", key or self.args.get("password") or ""
        if (user, key) != USER:
            raise ChError(
                f"Code: 516. DB::Exception: {user}: Authentication failed: password is incorrect, or there is no user with such name. (AUTHENTICATION_FAILED)"
            )

    def run(self):
        a, body, params = self.args, self.body, {}
        if enc := self.headers.get("Content-Encoding"):
            body = http_decode(body, enc.strip().lower())
        if a.get("decompress") in ("1", "true"):
            body = native_decode(body)
        text = a.get("query", "").encode()
        ctype = self.headers.get("Content-Type", "")
        if ctype.startswith("multipart/form-data"):  # the Rust crate sends query and param_* this way
            msg = BytesParser().parsebytes(b"Content-Type: " + ctype.encode() + b"\r\n\r\n" + b"".join(body))
            for part in msg.get_payload():
                name, value = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
                if name == "query":
                    text += value
                elif name.startswith("param_"):
                    params[name[6:]] = value.decode()
                else:
                    raise ChError(f"Code: 48. DB::Exception: External table {name} is not supported here (NOT_IMPLEMENTED)")
            body = iter(())
        first = b""
        if not INSERT.match(text):  # the statement, or the rest of it, is in the body
            body = iter([first := b"".join(body)])
            if INSERT.match(text + first):
                text, first = text + first, b""
                body = iter(())
            else:
                text = (text + b"\n" + first).strip() if text else first
        if POISON.match(text):
            raise ChError(
                "Code: 48. DB::Exception: This table engine is not supported under chdb: it would keep the data folder from opening again (NOT_IMPLEMENTED)"
            )
        if not text.strip():
            raise ChError("Code: 62. DB::Exception: Empty query (SYNTAX_ERROR)")

        sid, lock = a.get("session_id"), None
        if sid:
            with SESSIONS_LOCK:
                conn, lock = SESSIONS.setdefault(sid, (Connection(DIR), threading.Lock()))
            if not lock.acquire(blocking=False):
                raise ChError(f"Code: 373. DB::Exception: Session {sid} is locked by a concurrent client (SESSION_IS_LOCKED)")
        else:
            conn = Connection(DIR)
        try:
            db = a.get("database") or self.headers.get("X-ClickHouse-Database")
            if db:
                conn.query(f"USE `{db}`")
            for k, v in self.args_list:
                if k.startswith("param_"):
                    params[k[6:]] = v
                elif k not in RESERVED and k != "readonly":
                    conn.query(f"SET `{k}` = {quote(v)}")
            if self.command == "GET" or "readonly" in a:
                conn.query(f"SET readonly = {int(a.get('readonly') or 2)}")
            if INSERT.match(text):
                self.insert(conn, text, body, params)
            else:
                self.select(conn, text.decode(), params)
        finally:
            conn.close() if not lock else lock.release()

    def insert(self, conn, text, body, params):
        m = INSERT_DATA.match(text)
        if (
            not m
            or re.search(rb"\)\s*SELECT\s|\sSELECT\s|\sWITH\s|\sFROM\s+INFILE\s", m[1], re.I)
            or (m[3] and text[m.end() :].strip())
        ):
            r = conn.query(text.decode(), "TabSeparated", params=params)  # INSERT SELECT, or VALUES with the rows in the text
            for _ in body:
                pass
            return self.reply(200, b"", summary={"written_rows": r.rows_written(), "written_bytes": r.bytes_written()})
        t, sql, fmt, rest = time.monotonic_ns(), m[1].decode(), (m[2] or b"Values").decode(), text[m.end() :]
        refused_before = self.refused(conn)
        # The comment is how the engine's list of queries shows this one.
        ins = conn.send_insert(f"/* {self.query_id} */ {sql}", fmt)
        try:
            if rest:
                ins.append(rest)
            for chunk in body:
                if chunk:
                    ins.append(chunk)
            own = self.own_id()
            r = ins.finish()
        except BaseException:
            ins.cancel()
            raise
        # The library's streamed insert passes over what the engine refuses at its end: for want of space, or by a constraint. The
        # engine counts that, and names the query that failed last. An insert beside it that was refused may make this one be sent
        # again, which its token makes harmless.
        if own and (error := self.rows(conn, f"SELECT code, name, last_error_message FROM system.errors WHERE query_id = '{own}'")):
            code, name, message = error[0]
            raise ChError(self.logged(conn, own) or f"Code: {code}. DB::Exception: {message} ({name})")
        if self.refused(conn) > refused_before:
            raise ChError("Code: 243. DB::Exception: Cannot reserve space for the rows of an insert (NOT_ENOUGH_SPACE)")
        self.reply(
            200,
            b"",
            summary={"written_rows": r.rows_written, "written_bytes": r.bytes_written, "elapsed_ns": time.monotonic_ns() - t},
        )

    @staticmethod
    def rows(conn, sql):
        return json.loads(conn.query(sql, "JSONCompact").bytes())["data"]

    def refused(self, conn):
        return int(self.rows(conn, "SELECT sum(value) FROM system.errors WHERE code IN (243, 469)")[0][0])

    def logged(self, conn, query_id):
        """All that the engine says of a query that failed, if it keeps a log: what it counts lacks where, as in which view, it happened."""
        if not os.environ.get("CLICKHOUSE_CONFIG"):
            return None
        conn.query("SYSTEM FLUSH LOGS query_log")
        found = self.rows(conn, f"SELECT exception FROM system.query_log WHERE query_id = '{query_id}' AND exception != ''")
        return found[0][0] if found else None

    def own_id(self):
        """The engine's own name of the insert under way, whose connection takes no query meanwhile."""
        look = Connection(DIR)
        try:
            like = f"SELECT query_id FROM system.processes WHERE startsWith(query, '/* {self.query_id} */')"
            return next((row[0] for row in self.rows(look, like)), None)
        finally:
            look.close()

    def select(self, conn, sql, params):
        m = FORMAT.search(sql)
        fmt = m[1] if m else self.args.get("default_format") or self.headers.get("X-ClickHouse-Format") or "TabSeparated"
        ctype = (
            "application/json"
            if "json" in fmt.lower()
            else (
                "application/octet-stream"
                if "binary" in fmt.lower() or fmt.lower() == "native"
                else "text/csv; charset=UTF-8" if fmt.lower().startswith("csv") else "text/tab-separated-values; charset=UTF-8"
            )
        )
        lists = STREAMABLE.get(fmt.lower())
        if not READ.match(sql) or lists is None or self.args.get("wait_end_of_query") in ("1", "true"):
            r = conn.query(sql, fmt, params=params)
            return self.reply(
                200,
                r.bytes(),
                ctype,
                fmt,
                {
                    "read_rows": r.storage_rows_read(),
                    "read_bytes": r.storage_bytes_read(),
                    "result_rows": r.rows_read(),
                    "elapsed_ns": int(r.elapsed() * 1e9),
                },
            )
        raw, stream, n = conn._conn, conn._conn.send_query(sql, fmt, params=params), 0
        try:
            while True:
                r = raw.streaming_fetch_result(stream)
                if r.has_error():
                    raise ChError(r.error_message())
                data, rows = r.bytes(), r.rows_read()
                if n and lists and data:
                    data = memoryview(data)[header_size(data, lists) :]
                if not self.started:
                    self.start(200, ctype, fmt)
                if len(data):
                    self.chunk(self.encoder.feed(bytes(data)))
                if not rows:
                    break
                n += rows
        except (ConnectionError, TimeoutError):
            raw.streaming_cancel_query(stream)
            raise
        self.chunk(self.encoder.end())
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    # -- responses
    def start(self, status, ctype="text/plain; charset=UTF-8", fmt=None, size=None, summary=None, code=None):
        self.started, self.tag = True, uuid.uuid4().hex[:16]
        self.send_response(status)
        for k, v in (
            ("Content-Type", ctype),
            ("X-ClickHouse-Server-Display-Name", "chdb"),
            ("X-ClickHouse-Query-Id", self.query_id),
            ("X-ClickHouse-Format", fmt),
            ("X-ClickHouse-Timezone", "UTC"),
            ("X-ClickHouse-Exception-Code", code),
            ("X-ClickHouse-Exception-Tag", self.tag),
            ("X-ClickHouse-Summary", json.dumps({k: str(v) for k, v in (summary or {}).items()})),
            ("Content-Encoding", self.encoder.kind if self.encoder.kind != "native" else None),
            ("Transfer-Encoding", "chunked" if size is None else None),
            ("Content-Length", size),
        ):
            if v is not None:
                self.send_header(k, str(v))
        self.end_headers()

    def chunk(self, data):
        if data:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()

    def reply(self, status, data, ctype="text/plain; charset=UTF-8", fmt=None, summary=None, code=None):
        if not data:
            self.encoder = Encoder(None)
        data = self.encoder.feed(data) + self.encoder.end() if data else b""
        self.start(status, ctype, fmt, len(data), summary, code)
        if self.command != "HEAD":
            self.wfile.write(data)
        self.wfile.flush()

    def drain(self):
        for _ in self.body:
            pass

    def fail(self, e):
        try:
            if not self.started:
                self.drain()
                return self.reply(e.status, e.text.encode(), code=e.code)
            msg = e.text.encode()  # too late for a status: the tagged trailer of 25.11+
            self.chunk(
                self.encoder.feed(
                    b"\r\n__exception__\r\n%s\r\n%s%d %s\r\n__exception__\r\n"
                    % (self.tag.encode(), msg, len(msg), self.tag.encode())
                )
                + self.encoder.end()
            )
        except (OSError, ValueError, ChError):
            pass
        self.close_connection = True


class Server(ThreadingHTTPServer):
    daemon_threads, allow_reuse_address, request_queue_size = True, True, 128

    def handle_error(self, *a):
        pass


if __name__ == "__main__":
    DIR, PORT = os.path.abspath(sys.argv[1]), int(sys.argv[2])
    USER = tuple(sys.argv[3:5]) if len(sys.argv) > 4 else ("default", "")
    SESSIONS, SESSIONS_LOCK = {}, threading.Lock()
    os.makedirs(DIR, exist_ok=True)
    if os.environ.get("CLICKHOUSE_CONFIG"):
        DIR += "?config-file=" + os.path.abspath(os.environ["CLICKHOUSE_CONFIG"])
    base = Connection(DIR)  # keeps the engine open between requests
    VERSION = str(base.query("SELECT version()", "TSV")).strip()
    HTTP_COMPRESSION = os.environ.get("CLICKHOUSE_HTTP_COMPRESSION", "1")
    server = Server(("127.0.0.1", PORT), Handler)
    if os.environ.get("CLICKHOUSE_TLS"):
        over_tls = Server(("127.0.0.1", int(os.environ["CLICKHOUSE_TLS_PORT"])), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.environ["CLICKHOUSE_TLS"])
        # The handshake is made by the connection's own thread, at its first read.
        over_tls.socket = context.wrap_socket(over_tls.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=over_tls.serve_forever, daemon=True).start()

    def stop(*_):
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(f"pid={os.getpid()} url=http://127.0.0.1:{server.server_address[1]} engine={VERSION} dir={DIR}", flush=True)
    server.serve_forever(0.1)
    for c, _ in SESSIONS.values():
        c.close()
    base.close()
    os._exit(0)
