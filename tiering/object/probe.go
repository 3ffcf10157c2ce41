package object

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// MarkerKey is the object that says which cluster a prefix belongs to.
const MarkerKey = "varve.json"

// maxMarkerBytes bounds what is read of a marker, which anybody may have written.
const maxMarkerBytes = 4 << 10

// marker is the content of MarkerKey, JSON.
type marker struct {
	Format  int       `json:"format"` // 1
	Cluster string    `json:"cluster"`
	Created time.Time `json:"created"`
}

// ProbeReport is what Probe found out about a store.
type ProbeReport struct {
	Store        string
	Cluster      string
	FirstUse     bool // the prefix had no marker; this cluster owns it now
	ListAfterPut bool // a new object is in the next LIST
	GoneAfterDel bool // a deleted object is gone at once
	Conditional  bool // a PUT can be made to fail if the key exists
	Checksum     string
	Verified     bool // the store refuses bytes that do not fit their checksum
	Multipart    bool
	Versioned    bool // deleted bytes stay as old versions
	Warnings     []string
	Took         time.Duration
}

// LogValue is the report as log attributes.
func (r ProbeReport) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.String("store", r.Store), slog.String("cluster", r.Cluster), slog.Bool("first_use", r.FirstUse),
		slog.Bool("list_after_put", r.ListAfterPut), slog.Bool("gone_after_delete", r.GoneAfterDel),
		slog.Bool("conditional_put", r.Conditional), slog.String("checksum", r.Checksum),
		slog.Bool("checksum_verified", r.Verified), slog.Bool("multipart", r.Multipart),
		slog.Bool("versioned", r.Versioned), slog.Duration("took", r.Took),
	}
	if len(r.Warnings) > 0 {
		attrs = append(attrs, slog.String("warnings", strings.Join(r.Warnings, "; ")))
	}
	return slog.GroupValue(attrs...)
}

// bucketProber is a store with more to ask than the seam shows.
type bucketProber interface {
	// probeBucket checks the bucket itself: it exists (or is made), nothing in it
	// will expire our objects.
	probeBucket(ctx context.Context, r *ProbeReport) error
	// probeUpload finds out which checksums and which kinds of upload work, with
	// objects below the given key, and sets the store accordingly.
	probeUpload(ctx context.Context, key string, r *ProbeReport) error
}

// Probe checks that s keeps the promises Store makes, before anything depends on
// them: PUT, ranged GET, HEAD, LIST after PUT, conditional PUT, DELETE, and for a
// bucket checksums, multipart upload and lifecycle rules. It claims the prefix for
// clusterID; a prefix that another cluster has claimed is ErrForeign. It writes
// nothing but the marker and objects below <clusterID>/probe/, which it deletes.
//
// A retriable error says that the store is away, any other that it must not be
// used. What is merely worse than it could be is in the report's Warnings.
func Probe(ctx context.Context, s Store, clusterID string) (ProbeReport, error) {
	start := time.Now()
	ctx = WithPurpose(ctx, PurposeProbe)
	p := &probe{s: s, report: ProbeReport{Store: s.Name(), Cluster: clusterID, Checksum: "computed by the store"}}
	err := p.run(ctx)
	p.report.Took = time.Since(start)
	if err != nil {
		return p.report, fmt.Errorf("probe store: %w", err)
	}
	return p.report, nil
}

type probe struct {
	s      Store
	report ProbeReport
}

func (p *probe) warn(format string, args ...any) {
	p.report.Warnings = append(p.report.Warnings, fmt.Sprintf(format, args...))
}

func (p *probe) run(ctx context.Context) error {
	if err := CheckKey(p.report.Cluster); err != nil || strings.Contains(p.report.Cluster, "/") {
		return &Error{
			Op: "probe", Store: p.s.Name(), Kind: ErrMisconfigured,
			Detail: fmt.Sprintf("cluster id %q cannot be part of a key", p.report.Cluster),
		}
	}
	bucket, isBucket := find[bucketProber](p.s)
	if isBucket {
		if err := bucket.probeBucket(ctx, &p.report); err != nil {
			return err
		}
	}
	if err := p.claim(ctx); err != nil {
		return err
	}
	key := p.report.Cluster + "/probe/" + rand.Text()
	defer p.cleanUp(ctx, key)
	if isBucket {
		if err := bucket.probeUpload(ctx, key+"-upload", &p.report); err != nil {
			return err
		}
	} else {
		p.report.Verified, p.report.Multipart = true, true // nothing in between that could fail
	}
	body := []byte(rand.Text() + rand.Text() + rand.Text() + rand.Text())
	if _, err := p.s.Put(ctx, key, Bytes(body), PutOptions{}); err != nil {
		return err
	}
	if err := p.readBack(ctx, key, body); err != nil {
		return err
	}
	if err := p.conditional(ctx, key); err != nil {
		return err
	}
	return p.delete(ctx, key)
}

// claim makes sure that the prefix is this cluster's.
func (p *probe) claim(ctx context.Context) error {
	owner, err := ReadMarker(ctx, p.s)
	if errors.Is(err, ErrNotFound) {
		p.report.FirstUse = true
		text, err := json.Marshal(marker{Format: 1, Cluster: p.report.Cluster, Created: time.Now().UTC().Truncate(time.Second)})
		if err != nil {
			return fmt.Errorf("encode marker: %w", err)
		}
		body := Bytes(append(text, '\n'))
		_, err = p.s.Put(ctx, MarkerKey, body, PutOptions{ContentType: "application/json", IfAbsent: true})
		if errors.Is(err, ErrNotSupported) {
			_, err = p.s.Put(ctx, MarkerKey, body, PutOptions{ContentType: "application/json", Once: true})
		}
		if err != nil && !errors.Is(err, ErrExists) {
			return err
		}
		owner, err = ReadMarker(ctx, p.s) // of two that claim at once, both must see the same winner
		if err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if owner != p.report.Cluster {
		return &Error{
			Op: "probe", Store: p.s.Name(), Key: MarkerKey, Kind: ErrForeign,
			Detail: fmt.Sprintf("it is cluster %q's, this one is %q", owner, p.report.Cluster),
			Hint:   "give each cluster a prefix of its own in the store URL; if this machine's data directory was lost, restore from the bucket instead",
		}
	}
	return nil
}

// ReadMarker returns the id of the cluster that owns s's prefix, ErrNotFound if
// none does.
func ReadMarker(ctx context.Context, s Store) (clusterID string, err error) {
	text, err := ReadAll(ctx, s, MarkerKey, maxMarkerBytes)
	if err != nil {
		return "", err
	}
	var m marker
	if err := json.Unmarshal(text, &m); err != nil || m.Format != 1 || m.Cluster == "" {
		return "", &Error{
			Op: OpGet, Store: s.Name(), Key: MarkerKey, Kind: ErrForeign,
			Detail: "it is not a marker of Varve, format 1",
			Hint:   "the prefix holds something else, or data of a newer Varve",
		}
	}
	return m.Cluster, nil
}

// readBack is the read half: range, end of object, HEAD, LIST.
func (p *probe) readBack(ctx context.Context, key string, body []byte) error {
	const off = 7
	dst := make([]byte, len(body)-2*off)
	if _, err := p.s.GetRange(ctx, key, off, dst); err != nil {
		return err
	}
	if !bytes.Equal(dst, body[off:off+len(dst)]) {
		return p.broken(OpGet, key, "a ranged GET returned other bytes than were PUT")
	}
	over := make([]byte, len(body))
	n, err := p.s.GetRange(ctx, key, off, over)
	if !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.Equal(over[:n], body[off:]) {
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		return p.broken(OpGet, key, "a ranged GET over the object's end did not return the rest of it")
	}
	info, err := p.s.Head(ctx, key)
	if err != nil {
		return err
	}
	if info.Size != int64(len(body)) {
		return p.broken(OpHead, key, fmt.Sprintf("HEAD says %d bytes, %d were PUT", info.Size, len(body)))
	}
	if p.report.ListAfterPut, err = p.listed(ctx, key); err != nil {
		return err
	}
	if !p.report.ListAfterPut {
		p.warn("a new object is not in the next LIST: the store is eventually consistent, verification and orphan removal wait for their grace period")
	}
	return nil
}

func (p *probe) listed(ctx context.Context, key string) (bool, error) {
	page, err := p.s.List(ctx, key, "", 10)
	return slices.ContainsFunc(page.Objects, func(i Info) bool { return i.Key == key }), err
}

// conditional asks whether a PUT can be refused because the key exists.
func (p *probe) conditional(ctx context.Context, key string) error {
	_, err := p.s.Put(ctx, key, Bytes([]byte("second")), PutOptions{IfAbsent: true})
	switch {
	case errors.Is(err, ErrExists):
		p.report.Conditional = true
	case err == nil, errors.Is(err, ErrNotSupported):
		p.warn("the store has no conditional PUT: fresh names and the metadata log alone keep writers apart, which suffices")
	case IsRetriable(err) || ctx.Err() != nil:
		return err
	default:
		p.warn("conditional PUT: %v", err)
	}
	return nil
}

func (p *probe) delete(ctx context.Context, key string) error {
	for range 2 { // the second one finds nothing, which must be no error
		if err := p.s.Delete(ctx, key); err != nil {
			return err
		}
	}
	_, err := p.s.Head(ctx, key)
	switch {
	case errors.Is(err, ErrNotFound):
		p.report.GoneAfterDel = true
	case err == nil:
		p.warn("a deleted object is still there: the store is eventually consistent")
	default:
		return err
	}
	return nil
}

// cleanUp removes what a probe that broke off left, also when ctx has ended.
func (p *probe) cleanUp(ctx context.Context, key string) {
	ctx, cancel := tidyContext(ctx)
	defer cancel()
	if p.report.GoneAfterDel {
		return
	}
	_ = p.s.Delete(ctx, key) // the probe's own error says more
}

func (p *probe) broken(op Op, key, detail string) error {
	return &Error{
		Op: op, Store: p.s.Name(), Key: key, Kind: errUnexpected, Detail: detail,
		Hint: "this store does not keep the contract that Varve needs",
	}
}
