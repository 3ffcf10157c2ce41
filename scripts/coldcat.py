#!/usr/bin/env python3
"""coldcat.py BUCKET_DIR TOPIC [PARTITION]: print a cold topic with no Varve running.

One line a record, partition after partition: offset, time (UTC), key, value, separated by tabs.
Needs Python 3 and the `lz4` program. Null is \\N; a backslash, a control character or a byte that
is not UTF-8 is escaped. Transaction markers are left out, aborted records are not. TOPIC may be
NAME.ID where a bucket holds two topics of one name. Exit code 1: something could not be read.
"""
import glob, gzip, json, os, re, shutil, signal, struct, subprocess, sys, zlib
from datetime import datetime, timedelta

HEADER = struct.Struct(">qiibIhiqqqhii")  # a v2 batch up to its records: 61 bytes
UNSAFE = re.compile(r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029\udc80-\udcff]")
skipped = {}  # codec: records not shown

def fail(why):
    sys.stdout.flush()
    sys.exit(f"coldcat: {why}")

def text(b):
    escape = lambda c: f"\\x{ord(c[0]) & 0xff:02x}" if c[0] >= "\udc80" else c[0].encode("unicode_escape").decode()
    return "\\N" if b is None else UNSAFE.sub(escape, str(b, "utf-8", "surrogateescape"))

def when(ms):
    if not 0 <= ms < 253402300800000:  # no timestamp, or not of this calendar
        return "-" if ms == -1 else str(ms)
    return (datetime(1970, 1, 1) + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds") + "Z"

def varint(b, at):
    value = shift = 0
    while b[at] >= 0x80:
        value, shift, at = value | (b[at] & 0x7F) << shift, shift + 7, at + 1
    value |= b[at] << shift
    return (value >> 1) ^ -(value & 1), at + 1

def field(b, at):
    size, at = varint(b, at)
    return (None, at) if size < 0 else (b[at : at + size], at + size)

def unpack(codec, b, first, last, count):
    """The records of one batch, decompressed; None if this Python cannot."""
    if codec == 0:
        return b
    if codec == 1:
        return gzip.decompress(b)
    if codec == 3:
        return subprocess.run(["lz4", "-dc"], input=b, stdout=subprocess.PIPE, check=True).stdout
    name = {2: "snappy", 4: "zstd"}.get(codec, f"codec {codec}")
    if name not in skipped:
        print(f"coldcat: offsets {first} to {last}: the value is compressed with {name}, a codec that Python's "
              f"standard library lacks; not shown, like all {name} batches after it", file=sys.stderr)
    skipped[name] = skipped.get(name, 0) + count

def cat(log, start, end):
    """Print the records of one unpacked segment that lie in [start, end)."""
    while head := log.read(HEADER.size):
        base, size, _, magic, _, attrs, delta, t0, latest, _, _, _, count = HEADER.unpack(head)
        body = log.read(size - 49)
        if magic != 2 or len(body) != size - 49:
            fail(f"offset {base}: not a whole record batch")
        if attrs & 0x20 or base >= end or base + delta < start:  # a control batch, or out of range
            continue
        b, at = unpack(attrs & 7, body, base, base + delta, count), 0
        for _ in range(count if b is not None else 0):
            size, at = varint(b, at)
            after = at + size
            ms, at = varint(b, at + 1)  # 1: the attributes of a record, unused
            offset, at = varint(b, at)
            key, at = field(b, at)
            value, _ = field(b, at)
            at = after  # over the headers
            if start <= base + offset < end:
                print(base + offset, when(latest if attrs & 8 else t0 + ms), text(key), text(value), sep="\t")

def partition(root, path):
    """Follow the newest manifest whose objects are all there, as a restore does."""
    where = lambda key: os.path.join(root if "/topics/" in key else path, key)
    load = lambda file: json.load(open(file, "rb"))
    for name in sorted(glob.glob(glob.escape(path) + "/manifest/*.json"), reverse=True):
        m = load(name)
        pages = [e for p in m.get("pages") or [] for e in load(where(p["key"]))["entries"]]
        live = [e for e in pages + (m.get("entries") or []) if e["last"] >= m["logStart"]]
        whole = lambda path, size: os.path.exists(path) and os.path.getsize(path) == size
        if all(whole(where(e["key"]), e["storedBytes"]) for e in live):
            break
        print(f"coldcat: an object of {name} is not there; trying the manifest before", file=sys.stderr)
    else:
        fail(f"{path}: no readable manifest")
    for e in live:
        if e.get("encryptionKeyId"):
            fail(f"{e['key']} is encrypted")
        with subprocess.Popen(["lz4", "-dc", where(e["key"])], stdout=subprocess.PIPE) as lz4:
            cat(lz4.stdout, m["logStart"], m["tieredEnd"])
        if lz4.returncode:
            fail(f"lz4 could not read {where(e['key'])}")

def main():
    if len(sys.argv) not in (3, 4):
        fail(__doc__.splitlines()[0])
    if not shutil.which("lz4"):
        fail("needs the lz4 program (package lz4)")
    bucket, topic = sys.argv[1:3]
    below = (f"{glob.escape(bucket)}/{'*/' * depth}topics/{glob.escape(topic)}*" for depth in range(1, 5))
    found = [d for pattern in below for d in glob.glob(pattern)  # NAME.ID, and an id has 22 characters
             if topic in (os.path.basename(d), os.path.basename(d)[:-23])]
    if len(found) != 1:
        fail("\n  ".join([f"{len(found)} cold topics named {topic} in {bucket}", *found]))
    numbers = [p for p in os.listdir(found[0]) if p.isdigit() and (len(sys.argv) == 3 or p == sys.argv[3])]
    for p in sorted(numbers, key=int) or fail(f"{found[0]}: no such partition"):
        partition(found[0].rsplit("/", 3)[0], f"{found[0]}/{p}")
    if skipped:
        fail(", ".join(f"{n} records in {codec} not shown" for codec, n in skipped.items()))

if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # quiet under `| head`
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        main()
    except (OSError, ValueError, LookupError, struct.error, EOFError, zlib.error, subprocess.CalledProcessError) as e:
        fail(f"{type(e).__name__}: {e}")
