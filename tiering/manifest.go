package tiering

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"varve/tiering/object"
)

const (
	// maxManifestBytes bounds what a manifest or page may make a reader allocate:
	// 1024 entries, as many pages, and the keys that may wait (Config.MaxDeleted) are
	// below 4 MiB together.
	maxManifestBytes = 64 << 20
	// minObjectBytes is less than {"epoch":0,"start":0} takes.
	minObjectBytes = 16
	// defaultPageEntries is where the oldest entries move to a page. Half would
	// double the pages that a long history names in every manifest, twice would
	// double what every upload writes again.
	defaultPageEntries = 1024
)

// Manifest is the truth about a partition's cold range while the pointer in raft
// names it. It is immutable.
//
//	LogStart <= TieredEnd; live entries (those that end at or after LogStart) are
//	gapless from the one that holds LogStart to TieredEnd, pages before entries.
type Manifest struct {
	Version     int               `json:"version"`
	Name        string            `json:"name"` // its own, so that a copy under another name is noticed
	Prev        string            `json:"prev,omitempty"`
	Cluster     string            `json:"cluster"`
	Topic       string            `json:"topic"`
	TopicID     string            `json:"topicId"`
	Partition   int32             `json:"partition"`
	LeaderEpoch int32             `json:"leaderEpoch"`
	Seq         int64             `json:"seq"`
	CreatedMS   int64             `json:"createdMs"`
	Config      map[string]string `json:"config,omitempty"`
	LogStart    int64             `json:"logStart"`
	TieredEnd   int64             `json:"tieredEnd"`
	// Totals over the live entries, those in pages included.
	Count       int64     `json:"count"`
	RawBytes    int64     `json:"rawBytes"`
	StoredBytes int64     `json:"storedBytes"`
	Records     int64     `json:"records"`
	Epochs      []Epoch   `json:"epochs"` // of [LogStart, TieredEnd); the first may start below it
	Pages       []PageRef `json:"pages,omitempty"`
	Entries     []Entry   `json:"entries"`
	Deleted     []Deleted `json:"deleted,omitempty"`
}

// Entry describes one object. Offsets are inclusive.
type Entry struct {
	// Key is a name in the partition's directory, or the full key of a foreign
	// object (another topic's, referenced after a restore).
	Key                string  `json:"key"`
	First              int64   `json:"first"`
	Last               int64   `json:"last"`
	Epochs             []Epoch `json:"epochs"`
	RawBytes           int64   `json:"rawBytes"`
	StoredBytes        int64   `json:"storedBytes"` // the object's size
	BaseTimestamp      int64   `json:"baseTimestamp"`
	MaxTimestamp       int64   `json:"maxTimestamp"`
	MaxTimestampOffset int64   `json:"maxTimestampOffset"`
	Records            int64   `json:"records"`
	Aborted            int     `json:"aborted,omitempty"`
	IndexLen           int64   `json:"indexLen"` // of index and footer: the object's last bytes
	CRC                uint32  `json:"crc32c"`   // of the whole object
	StorageClass       string  `json:"storageClass,omitempty"`
	EncryptionKeyID    string  `json:"encryptionKeyId,omitempty"`
	CreatedMS          int64   `json:"createdMs"`
}

// PageRef names an immutable page of older entries and sums it up, so that a
// lookup reads at most one page.
type PageRef struct {
	Key                string `json:"key"`
	Size               int64  `json:"size"`
	CRC                uint32 `json:"crc32c"`
	Count              int    `json:"count"`
	First              int64  `json:"first"`
	Last               int64  `json:"last"`
	BaseTimestamp      int64  `json:"baseTimestamp"`
	MaxTimestamp       int64  `json:"maxTimestamp"`
	MaxTimestampOffset int64  `json:"maxTimestampOffset"`
	RawBytes           int64  `json:"rawBytes"`
	StoredBytes        int64  `json:"storedBytes"`
	Records            int64  `json:"records"`
}

// Deleted is a key that no live entry names any more and that waits for its
// physical deletion. All its offsets lie below LogStart. Their number is bounded:
// see Partition.room.
type Deleted struct {
	Key         string `json:"key"`
	Last        int64  `json:"last"`
	StoredBytes int64  `json:"storedBytes"`
	// SinceMS is when the first manifest was written that found the dropping one
	// committed: a time at or after that commit, whoever led then. 0: this manifest
	// is the one that drops it.
	SinceMS int64 `json:"sinceMs,omitempty"`
}

// page is the content of a page object.
type page struct {
	Version   int     `json:"version"`
	TopicID   string  `json:"topicId"`
	Partition int32   `json:"partition"`
	Entries   []Entry `json:"entries"`
}

// encode returns the bytes to store and their CRC32C, which goes into raft.
func (m *Manifest) encode() ([]byte, uint32, error) { return encodeJSON(m) }

func (p *page) encode() ([]byte, uint32, error) { return encodeJSON(p) }

func encodeJSON(v any) ([]byte, uint32, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, 0, fmt.Errorf("encode manifest: %w", err)
	}
	b = append(b, '\n')
	if len(b) > maxManifestBytes {
		return nil, 0, fmt.Errorf("encode manifest: %d bytes, at most %d", len(b), maxManifestBytes)
	}
	return b, crc32.Checksum(b, castagnoli), nil
}

// DecodeManifest reads and checks a manifest. A reader compares the CRC32C of b
// with the one in raft first.
func DecodeManifest(key string, b []byte) (*Manifest, error) {
	m := &Manifest{}
	if err := decodeJSON(key, b, m); err != nil {
		return nil, err
	}
	if err := m.validate(); err != nil {
		return nil, corruptf(key, 0, "%v", err)
	}
	return m, nil
}

func decodePage(key string, b []byte, ref *PageRef) (*page, error) {
	p := &page{}
	if err := decodeJSON(key, b, p); err != nil {
		return nil, err
	}
	if p.Version != formatVersion {
		return nil, corruptf(key, 0, "page version %d is unknown to this program", p.Version)
	}
	if err := checkEntries(p.Entries, ref.First); err != nil {
		return nil, corruptf(key, 0, "%v", err)
	}
	if got := refOf(p.Entries); len(p.Entries) == 0 || got.Last != ref.Last || got.Count != ref.Count ||
		got.RawBytes != ref.RawBytes || got.StoredBytes != ref.StoredBytes || got.MaxTimestamp != ref.MaxTimestamp {
		return nil, corruptf(key, 0, "page does not hold what the manifest says")
	}
	return p, nil
}

func decodeJSON(key string, b []byte, v any) error {
	if len(b) > maxManifestBytes {
		return corruptf(key, 0, "%d bytes, at most %d", len(b), maxManifestBytes)
	}
	// An entry takes 200 bytes in memory and "{}," three here: what is denser than the
	// smallest object that is written, an epoch, would grow many times over.
	if n := bytes.Count(b, []byte("{")) + bytes.Count(b, []byte("null")); n > 16+len(b)/minObjectBytes {
		return corruptf(key, 0, "%d objects in %d bytes", n, len(b))
	}
	if err := json.Unmarshal(b, v); err != nil {
		return corruptf(key, 0, "%v", err)
	}
	return nil
}

func (m *Manifest) validate() error {
	if m.Version != formatVersion {
		return fmt.Errorf("manifest version %d is unknown to this program", m.Version)
	}
	epoch, seq, err := parseManifestName(m.Name)
	if err != nil {
		return err
	}
	if epoch != m.LeaderEpoch || seq != m.Seq {
		return fmt.Errorf("manifest %s says epoch %d, sequence %d", m.Name, m.LeaderEpoch, m.Seq)
	}
	if m.LogStart < 0 || m.TieredEnd < m.LogStart {
		return fmt.Errorf("log start %d, tiered end %d", m.LogStart, m.TieredEnd)
	}
	if m.Partition < 0 || m.Count < 0 || m.RawBytes < 0 || m.StoredBytes < 0 || m.Records < 0 {
		return errors.New("negative totals")
	}
	if err := m.validateRange(); err != nil {
		return err
	}
	for i := range m.Deleted {
		d := &m.Deleted[i]
		if err := object.CheckKey(d.Key); err != nil {
			return err
		}
		if d.Last >= m.LogStart || d.StoredBytes < 0 {
			return fmt.Errorf("key %s waits for deletion with offsets up to %d, log start %d", d.Key, d.Last, m.LogStart)
		}
	}
	return nil
}

// validateRange checks the gapless line of pages and entries.
func (m *Manifest) validateRange() error {
	if len(m.Pages) == 0 && len(m.Entries) == 0 {
		if m.LogStart != m.TieredEnd || m.Count != 0 || m.RawBytes != 0 {
			return fmt.Errorf("no entries for [%d, %d)", m.LogStart, m.TieredEnd)
		}
		return nil
	}
	next := int64(-1)
	for i := range m.Pages {
		p := &m.Pages[i]
		if next >= 0 && p.First != next || p.First < 0 || p.Last < p.First || p.Count < 1 {
			return fmt.Errorf("page %d holds [%d, %d], expected from %d", i, p.First, p.Last, next)
		}
		if err := object.CheckKey(p.Key); err != nil {
			return err
		}
		if p.Size < 1 || p.Size > maxManifestBytes || p.RawBytes < 0 || p.StoredBytes < 0 {
			return fmt.Errorf("page %d of %d bytes", i, p.Size)
		}
		next = p.Last + 1
	}
	if len(m.Entries) > 0 {
		if next < 0 {
			next = m.Entries[0].First
		}
		if err := checkEntries(m.Entries, next); err != nil {
			return err
		}
		next = m.Entries[len(m.Entries)-1].Last + 1
	}
	first, firstLast := m.firstLive()
	if next != m.TieredEnd || first > m.LogStart || firstLast < m.LogStart {
		return fmt.Errorf("entries [%d, %d) do not cover [%d, %d)", first, next, m.LogStart, m.TieredEnd)
	}
	return checkEpochs(m.Epochs, m.LogStart, m.TieredEnd-1)
}

// firstLive is the range of the first page, or of the first entry without pages.
func (m *Manifest) firstLive() (first, last int64) {
	if len(m.Pages) > 0 {
		return m.Pages[0].First, m.Pages[0].Last
	}
	return m.Entries[0].First, m.Entries[0].Last
}

// checkEntries: gapless in offsets from next on, and each consistent in itself.
func checkEntries(entries []Entry, next int64) error {
	for i := range entries {
		e := &entries[i]
		if e.First != next || e.First < 0 || e.Last < e.First {
			return fmt.Errorf("entry %d holds [%d, %d], expected from %d", i, e.First, e.Last, next)
		}
		if err := object.CheckKey(e.Key); err != nil {
			return err
		}
		if e.IndexLen < indexHeadBytes+footerBytes || e.IndexLen > maxIndexBytes+footerBytes || e.IndexLen > e.StoredBytes {
			return fmt.Errorf("entry %d has an index of %d bytes in an object of %d", i, e.IndexLen, e.StoredBytes)
		}
		if e.RawBytes < 1 || e.Records < 0 || e.Aborted < 0 {
			return fmt.Errorf("entry %d has %d bytes, %d records", i, e.RawBytes, e.Records)
		}
		if err := checkEpochs(e.Epochs, e.First, e.Last); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		next = e.Last + 1
	}
	return nil
}

// refOf sums entries up; Key, Size and CRC are the caller's.
func refOf(entries []Entry) PageRef {
	if len(entries) == 0 {
		return PageRef{}
	}
	r := PageRef{
		Count: len(entries), First: entries[0].First, Last: entries[len(entries)-1].Last,
		BaseTimestamp: entries[0].BaseTimestamp, MaxTimestamp: entries[0].MaxTimestamp,
		MaxTimestampOffset: entries[0].MaxTimestampOffset,
	}
	for i := range entries {
		e := &entries[i]
		r.BaseTimestamp = min(r.BaseTimestamp, e.BaseTimestamp)
		if e.MaxTimestamp > r.MaxTimestamp {
			r.MaxTimestamp, r.MaxTimestampOffset = e.MaxTimestamp, e.MaxTimestampOffset
		}
		r.RawBytes += e.RawBytes
		r.StoredBytes += e.StoredBytes
		r.Records += e.Records
	}
	return r
}

// appendEpochs adds what is new of next to epochs.
func appendEpochs(epochs, next []Epoch) []Epoch {
	for _, e := range next {
		if n := len(epochs); n == 0 || e.Epoch > epochs[n-1].Epoch {
			epochs = append(epochs, e)
		}
	}
	return epochs
}

// epochsFrom drops the epochs that ended at or below start.
func epochsFrom(epochs []Epoch, start int64) []Epoch {
	i := 0
	for i+1 < len(epochs) && epochs[i+1].Start <= start {
		i++
	}
	return slices.Clone(epochs[i:])
}
