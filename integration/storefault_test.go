package integration

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"varve/integration/harness"
)

// TestStoreThatNeverAnswersHurtsNothingButTheColdTier stops the S3 server with SIGSTOP: it takes
// connections and says nothing, which is worse than being away. Hot data goes in and out, a stop is
// as quick as ever, a start needs no store, and when the store wakes up everything goes there.
func TestStoreThatNeverAnswersHurtsNothingButTheColdTier(t *testing.T) {
	m := harness.StartMinIO(t)
	b := harness.Start(t, harness.Options{
		Store: m.Store("varve", "p"), Env: harness.Credentials, Settings: map[string]string{"varve.tier.cache.bytes": "0"},
	})
	const topic = "silent-store"
	b.CreateTopic(t, topic, 1, harness.Cold)
	payload := func(i int) []byte { return harness.Payload(uint64(i), 400<<10) }
	expect := func(from, end int64) {
		t.Helper()
		for i, r := range b.Consume(t, topic, 0, from, end) {
			if string(r.Value) != string(payload(int(from)+i)) {
				t.Errorf("offset %d holds something else", r.Offset)
			}
		}
	}
	for i := range 4 {
		b.Produce(t, topic, 0, payload(i))
	}
	b.GoCold(t, topic, 0)
	b.Stop(t)
	b.Restart(t) // nothing of the tier is in memory
	m.Signal(syscall.SIGSTOP)
	defer m.Signal(syscall.SIGCONT)

	// A cold reader waits on the store while hot data goes in and out beside it.
	cold := make(chan error, 1)
	reader := b.Dial(t)
	go func() { cold <- fetchNothing(reader, topic) }()
	for i := range 8 {
		began := time.Now()
		b.Produce(t, topic, 0, payload(4+i))
		if took := time.Since(began); took > harness.Soon/2 {
			t.Errorf("a write took %s beside a store that does not answer", took)
		}
	}
	expect(4, 12)
	if err := <-cold; err != nil {
		t.Error(err)
	}
	b.Stop(t) // with an upload under way that gets no answer
	b.Restart(t)
	expect(4, 12)
	if p := b.Tier(t, topic).Partitions[0]; p.TieredEnd.Offset != 4 || p.LogEnd != 12 {
		t.Errorf("tiered to %d of %d without a store, want 4 of 12", p.TieredEnd.Offset, p.LogEnd)
	}
	m.Signal(syscall.SIGCONT)
	b.GoCold(t, topic, 0)
	expect(0, 12)
}

// fetchNothing asks for cold data that the store does not give: the answer is no data or a
// retriable error, never one that makes a client reset its position.
func fetchNothing(r *harness.Raw, topic string) error {
	got, err := harness.TryFetch(r, topic, 0, 0)
	if err != nil {
		return err
	}
	if len(got.RecordBatches) > 0 {
		return fmt.Errorf("%d bytes of cold data without a store", len(got.RecordBatches))
	}
	if err := kerr.ErrorForCode(got.ErrorCode); err != nil && !kerr.IsRetriable(err) {
		return fmt.Errorf("a cold read without a store: %w, which is not retriable", err)
	}
	return nil
}

// TestFullDiskRefusesWritesAndLosesNothing fills the disk of a broker, to its reserve and then to
// the last byte. Writes are refused with a retriable error, reads go on, and once there is space so
// do writes; every acknowledged record is there.
func TestFullDiskRefusesWritesAndLosesNothing(t *testing.T) {
	dir := smallDisk(t, "192m")
	b := harness.Start(t, harness.Options{
		Dir: dir, Store: harness.NoStore, Settings: map[string]string{"varve.disk.reserve.bytes": "48MiB"},
	})
	const topic = "full"
	b.CreateTopic(t, topic, 1, map[string]string{"segment.bytes": "4194304"})
	f := &fullDisk{t: t, b: b, topic: topic, ballast: filepath.Join(dir, "ballast")}

	f.fill(40 << 20)
	f.untilRefused()
	f.verify()
	b.CreateTopic(t, "more", 1, nil) // metadata may use the reserve
	f.free()
	f.untilAccepted()

	f.fill(1 << 40) // what there is, the reserve too
	f.untilRefused()
	f.free()
	f.restartIfEnded() // metadata that cannot be written ends a broker, with a clear line
	f.untilAccepted()
	f.verify()
	b.Kill(t)
	b.Restart(t)
	f.untilAccepted()
	f.verify()
}

// smallDisk mounts a file system in memory for the time of the test.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		harness.Skip(t, "a small disk can be mounted by root only")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "varve-test", dir).CombinedOutput(); err != nil {
		harness.Skip(t, fmt.Sprintf("mount tmpfs: %v: %s", err, out))
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount %s: %v: %s", dir, err, out)
		}
	})
	return dir
}

// fullDisk is the state of the test: what was acknowledged, in order.
type fullDisk struct {
	t       *testing.T
	b       *harness.Broker
	topic   string
	ballast string
	sent    int
	acked   map[int64]int // by offset: which record
	conn    *harness.Raw
}

func (f *fullDisk) record(i int) []byte { return harness.Payload(uint64(i), 256<<10) }

// fill takes n bytes of the disk, or all that are left.
func (f *fullDisk) fill(n int64) {
	f.t.Helper()
	out, err := os.Create(f.ballast)
	if err != nil {
		f.t.Fatal(err)
	}
	defer out.Close()
	block := make([]byte, 64<<10)
	for ; n > 0 && err == nil; n -= int64(len(block)) {
		_, err = out.Write(block)
	}
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		f.t.Fatal(err)
	}
}

func (f *fullDisk) free() {
	if err := os.Remove(f.ballast); err != nil {
		f.t.Fatal(err)
	}
}

// try writes one record, acks=all; what is neither acknowledged nor refused is an error.
func (f *fullDisk) try() (*kerr.Error, error) {
	if f.conn == nil {
		var err error
		if f.conn, err = harness.DialRaw(f.b.Addr); err != nil {
			f.conn = nil
			return nil, err
		}
		conn := f.conn
		f.t.Cleanup(conn.Close)
	}
	i := f.sent
	f.sent++
	got, err := harness.TryProduce(f.conn, f.topic, 0, harness.Batch(f.record(i)))
	if err != nil {
		f.conn.Close()
		f.conn = nil
		return nil, err
	}
	if code := kerr.TypedErrorForCode(got.ErrorCode); code != nil {
		return code, nil
	}
	if f.acked == nil {
		f.acked = map[int64]int{}
	}
	f.acked[got.BaseOffset] = i
	return nil, nil
}

// untilRefused writes until that is refused, or the broker has ended.
func (f *fullDisk) untilRefused() {
	f.t.Helper()
	harness.Eventually(f.t, harness.Late, "a write is refused", func() error {
		code, err := f.try()
		switch {
		case err != nil && f.ended():
			return nil
		case err != nil:
			return err
		case code == nil:
			return fmt.Errorf("%d records of 256 KiB are acknowledged", len(f.acked))
		case !code.Retriable:
			f.t.Fatalf("a write to a full disk is answered %v, which is not retriable", code)
		}
		return nil
	})
}

func (f *fullDisk) untilAccepted() {
	f.t.Helper()
	harness.Eventually(f.t, harness.Late, "a write is accepted after there is space", func() error {
		code, err := f.try()
		if code != nil {
			return code
		}
		return err
	})
}

func (f *fullDisk) ended() bool {
	select {
	case <-f.b.Exited():
		return true
	default:
		return false
	}
}

func (f *fullDisk) restartIfEnded() {
	f.t.Helper()
	if !f.ended() {
		return
	}
	if _, killed := f.b.DiedOf(); killed || !strings.Contains(f.b.Log(), "no space left") {
		f.t.Fatalf("the broker ended and does not say that the disk is full")
	}
	f.b.Restart(f.t)
}

// verify reads everything and looks for all that was acknowledged.
func (f *fullDisk) verify() {
	f.t.Helper()
	if status, body := page(f.t, f.b, "/readyz?verbose"); status != http.StatusOK {
		f.t.Errorf("not ready: %d %s", status, body)
	}
	_, end := bounds(f.t, f.b, place{f.topic, 0})
	seen := 0
	for _, r := range f.b.Consume(f.t, f.topic, 0, 0, end) {
		i, ok := f.acked[r.Offset]
		if !ok {
			continue // an unknown outcome
		}
		if seen++; string(r.Value) != string(f.record(i)) {
			f.t.Errorf("offset %d does not hold the record that was acknowledged there", r.Offset)
		}
	}
	if seen != len(f.acked) {
		f.t.Errorf("%d of %d acknowledged records are there", seen, len(f.acked))
	}
}
