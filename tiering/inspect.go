package tiering

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
)

// Page is the content of a page object: older entries of a manifest.
type Page = page

// DecodeDocument reads any of the JSON objects of a bucket with nothing else at hand:
// a *Manifest, *Page, *TopicDescriptor or *Tombstone, told apart by their fields.
// name appears in errors.
func DecodeDocument(name string, b []byte) (any, error) {
	fields := map[string]json.RawMessage{}
	if err := decodeJSON(name, b, &fields); err != nil {
		return nil, err
	}
	has := func(names ...string) bool {
		for _, n := range names {
			if _, ok := fields[n]; !ok {
				return false
			}
		}
		return true
	}
	checked := func(doc any, v int) (any, error) {
		if v != formatVersion {
			return nil, corruptf(name, 0, "version %d is unknown to this program", v)
		}
		return doc, nil
	}
	switch {
	case has("name", "leaderEpoch", "logStart"):
		m, err := DecodeManifest(name, b)
		if err != nil {
			return nil, err // and not a nil *Manifest
		}
		return m, nil
	case has("entries", "topicId"):
		p, err := decodeLonePage(name, b)
		if err != nil {
			return nil, err
		}
		return p, nil
	case has("deletedMs", "topicId"):
		s := &Tombstone{}
		if err := decodeJSON(name, b, s); err != nil {
			return nil, err
		}
		return checked(s, s.Version)
	case has("partitions", "topicId"):
		d := &TopicDescriptor{}
		if err := decodeJSON(name, b, d); err != nil {
			return nil, err
		}
		return checked(d, d.Version)
	}
	return nil, corruptf(name, 0, "is no manifest, page, topic.json or tombstone")
}

// decodeLonePage checks a page without the manifest that names it.
func decodeLonePage(name string, b []byte) (*Page, error) {
	p := &Page{}
	if err := decodeJSON(name, b, p); err != nil {
		return nil, err
	}
	if len(p.Entries) == 0 {
		return nil, corruptf(name, 0, "is a page without entries")
	}
	ref := refOf(p.Entries)
	return decodePage(name, b, &ref)
}

// ReadIndex reads the index of a cold object of size bytes with nothing else at
// hand: its last bytes say where it is. name appears in errors.
func ReadIndex(name string, r io.ReaderAt, size int64) (*Index, error) {
	if size < footerBytes+indexHeadBytes {
		return nil, corruptf(name, 0, "%d bytes are too few for a cold object", size)
	}
	foot := make([]byte, footerBytes)
	if _, err := r.ReadAt(foot, size-footerBytes); err != nil {
		return nil, fmt.Errorf("read footer of %s: %w", name, err)
	}
	pos, n, _, err := decodeFooter(name, size, foot)
	if err != nil {
		return nil, err
	}
	tail := make([]byte, n+footerBytes) // decodeFooter bounds n by size and maxIndexBytes
	if _, err := r.ReadAt(tail, pos); err != nil {
		return nil, fmt.Errorf("read index of %s: %w", name, err)
	}
	return DecodeIndex(name, size, tail)
}

// RawChunks iterates over the record batches of a cold object, chunk by chunk,
// each checked against the index. The bytes are valid until the next turn. An
// error ends it.
func RawChunks(name string, r io.ReaderAt, x *Index) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		var frame, raw []byte
		for i := range x.Chunks {
			c := &x.Chunks[i]
			frame, raw = grow(frame, int(c.Stored)), grow(raw, int(c.Raw))
			if err := readChunk(name, r, c, frame, raw); err != nil {
				yield(nil, err)
				return
			}
			if !yield(raw, nil) {
				return
			}
		}
	}
}

func readChunk(name string, r io.ReaderAt, c *Chunk, frame, raw []byte) error {
	if _, err := r.ReadAt(frame, c.Pos); err != nil {
		return fmt.Errorf("read chunk of %s at %d: %w", name, c.Pos, err)
	}
	return decodeChunk(name, c, frame, raw)
}

// decodeChunk checks a frame against its index entry and unpacks it into raw.
func decodeChunk(name string, c *Chunk, frame, raw []byte) error {
	if got := crc32.Checksum(frame, castagnoli); got != c.CRC {
		return corruptf(name, c.Pos, "chunk CRC32C %08x, index says %08x", got, c.CRC)
	}
	if err := unpackFrame(frame, raw); err != nil {
		return corruptf(name, c.Pos, "%v", err)
	}
	return nil
}

// ReadProducers returns the producer snapshot of a cold object.
func ReadProducers(name string, r io.ReaderAt, x *Index) ([]byte, error) {
	b := make([]byte, x.ProducersLen)
	if _, err := r.ReadAt(b, x.ProducersPos); err != nil && len(b) > 0 {
		return nil, fmt.Errorf("read producer snapshot of %s: %w", name, err)
	}
	if got := crc32.Checksum(b, castagnoli); got != x.ProducersCRC {
		return nil, corruptf(name, x.ProducersPos, "producer snapshot CRC32C %08x, index says %08x", got, x.ProducersCRC)
	}
	return b, nil
}

func grow(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}
