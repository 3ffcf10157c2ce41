package meta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"varve/broker/meta/store"
)

func nodeConfig(dir string) Config {
	return Config{Dir: dir, NodeID: 1, Host: "localhost", Port: 9092, Log: slog.New(slog.DiscardHandler)}
}

func openNode(t *testing.T, c Config) *Node {
	t.Helper()
	n, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func closeNode(t *testing.T, n *Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := n.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

func register(t *testing.T, n *Node) int64 {
	t.Helper()
	epoch, err := n.Register(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return epoch
}

func propose(t *testing.T, n *Node, c Command) int64 {
	t.Helper()
	r, err := n.ProposeOne(t.Context(), c)
	if err != nil {
		t.Fatalf("%s: %v", c.kind(), err)
	}
	return r.Value
}

func TestRestartKeepsEverything(t *testing.T) {
	c := nodeConfig(t.TempDir())
	n := openNode(t, c)
	epoch := register(t, n)
	id := testID(1)
	propose(t, n, &CreateTopic{Name: "a", TopicID: id, Partitions: [][]NodeID{{1}, {1}}})
	propose(t, n, &CommitTier{TopicID: id, Partition: 1, Name: "m1", BrokerEpoch: epoch, TieredEnd: 50, Bytes: 9})
	propose(t, n, &SetLogStart{TopicID: id, LogStart: 7})
	propose(t, n, &AllocProducerIDs{Count: 1000})
	identity, before := n.Identity(), encodeImage(t, n.Image())
	closeNode(t, n)

	n = openNode(t, c)
	defer closeNode(t, n)
	if err := errors.Join(n.WaitController(t.Context()), n.Barrier(t.Context())); err != nil {
		t.Fatal(err)
	}
	if replayed := encodeImage(t, n.Image()); !bytes.Equal(replayed, before) {
		t.Errorf("replayed state\n%s\nwas\n%s", replayed, before)
	}
	if next := register(t, n); next <= epoch {
		t.Errorf("broker epoch %d after %d", next, epoch)
	}
	if n.Identity() != identity {
		t.Errorf("identity %+v, was %+v", n.Identity(), identity)
	}
	p := n.Image().Partition(id, 1)
	if p == nil || p.Tier.Name != "m1" || p.LeaderEpoch != 1 || n.Image().Partition(id, 0).LogStart != 7 || n.Image().NextProducerID != 1000 {
		t.Errorf("after the restart: %+v", p)
	}
	if !n.IsController() || n.ControllerID() != 1 || n.AppliedIndex() != uint64(n.BrokerEpoch()) || n.Image().Broker(1).Incarnation != n.Incarnation() {
		t.Errorf("controller %d, applied %d, broker %+v", n.ControllerID(), n.AppliedIndex(), n.Image().Broker(1))
	}
}

func TestRestartFromASnapshotKeepsEverything(t *testing.T) {
	c := nodeConfig(t.TempDir())
	c.SnapshotEntries = 4
	n := openNode(t, c)
	register(t, n)
	propose(t, n, &CreateTopic{Name: "a", TopicID: testID(1), Partitions: [][]NodeID{{1}}})
	for range 20 {
		propose(t, n, &AllocProducerIDs{Count: 10})
	}
	if err := n.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	if first, err := n.store.FirstIndex(); err != nil || first <= 1 {
		t.Errorf("the log still begins at %d, %v", first, err)
	}
	propose(t, n, &AllocProducerIDs{Count: 10})
	closeNode(t, n)
	n = openNode(t, c)
	defer closeNode(t, n)
	if n.Image().Topic("a") == nil { // before any replay
		t.Error("the snapshot was not restored")
	}
	register(t, n)
	if n.Image().NextProducerID != 210 || n.Image().Partition(testID(1), 0).LeaderEpoch != 1 {
		t.Errorf("next producer id %d", n.Image().NextProducerID)
	}
}

// copyDir is what kill -9 leaves: the files as the running process sees them.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestKilledProcessComesBackWithWhatWasAnswered(t *testing.T) {
	c := nodeConfig(t.TempDir())
	n := openNode(t, c)
	defer closeNode(t, n)
	register(t, n)
	for i := range 5 {
		propose(t, n, &CreateTopic{Name: fmt.Sprint("t", i), TopicID: testID(byte(i + 1)), Partitions: [][]NodeID{{1}}})
		d := c
		d.Dir = copyDir(t, c.Dir)
		killed := openNode(t, d)
		register(t, killed)
		if have := killed.Image().TopicCount(); have != i+1 {
			t.Errorf("%d topics after the kill, %d were answered", have, i+1)
		}
		closeNode(t, killed)
	}
}

func TestDataDirectoryIsOpenOnce(t *testing.T) {
	c := nodeConfig(t.TempDir())
	n := openNode(t, c)
	defer closeNode(t, n)
	if _, err := Open(t.Context(), c); !errors.Is(err, ErrInUse) {
		t.Errorf("second open: %v", err)
	}
}

func TestLostRaftStateIsReportedAndNotReplaced(t *testing.T) {
	c := nodeConfig(t.TempDir())
	closeNode(t, openNode(t, c))
	if err := os.RemoveAll(filepath.Join(c.Dir, raftDir)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := Open(t.Context(), c); !errors.Is(err, ErrStateLost) {
			t.Errorf("got %v", err)
		}
	}
}

func TestCrashBetweenIdentityAndBootstrapBootstrapsAgain(t *testing.T) {
	c := nodeConfig(t.TempDir())
	d := c.withDefaults()
	if _, err := LoadOrCreateIdentity(d.FS, c.Dir, 1); err != nil {
		t.Fatal(err)
	}
	n := openNode(t, c)
	register(t, n)
	closeNode(t, n)
	// And a crash after the bootstrap, before the identity noted it.
	id := n.Identity()
	id.Bootstrapped = false
	if err := writeIdentity(d.FS, c.Dir, id); err != nil {
		t.Fatal(err)
	}
	n = openNode(t, c)
	defer closeNode(t, n)
	register(t, n)
	if !n.Identity().Bootstrapped || n.Image().ClusterID != id.ClusterID {
		t.Errorf("identity %+v in cluster %s", n.Identity(), n.Image().ClusterID)
	}
}

func TestProposeNeedsARegistration(t *testing.T) {
	n := openNode(t, nodeConfig(t.TempDir()))
	defer closeNode(t, n)
	if _, err := n.Propose(t.Context(), &AllocProducerIDs{Count: 1}); !errors.Is(err, ErrNotRegistered) {
		t.Errorf("got %v", err)
	}
	first := register(t, n)
	if again := register(t, n); again != first || n.BrokerEpoch() != first {
		t.Errorf("registered as %d, then as %d", first, again)
	}
}

func TestEndOfTheContextIsAnUnknownOutcome(t *testing.T) {
	n := openNode(t, nodeConfig(t.TempDir()))
	defer closeNode(t, n)
	register(t, n)
	held, entered := make(chan struct{}), make(chan struct{})
	var once sync.Once
	n.Watch(func(_, _ *Image, d *Delta) {
		if !d.Reset {
			once.Do(func() { close(entered) })
			<-held
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	create := &CreateTopic{Name: "a", TopicID: testID(1), Partitions: [][]NodeID{{1}}}
	if _, err := n.Propose(ctx, create); !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(held)
	if err := n.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n.Image().Topic("a") == nil {
		t.Error("it was applied in the end, and is not there")
	}
}

func TestClosedNodeProposesNothing(t *testing.T) {
	n := openNode(t, nodeConfig(t.TempDir()))
	register(t, n)
	var wg sync.WaitGroup
	started := make(chan struct{}, 8)
	for range 8 {
		wg.Go(func() {
			for {
				_, err := n.Propose(context.Background(), &AllocProducerIDs{Count: 1})
				if err != nil {
					if !errors.Is(err, ErrUnknownOutcome) && !errors.Is(err, ErrClosed) {
						t.Errorf("while closing: %v", err)
					}
					return
				}
				select {
				case started <- struct{}{}:
				default:
				}
			}
		})
	}
	<-started
	closeNode(t, n)
	wg.Wait()
	closeNode(t, n)
	if _, err := n.Propose(context.Background(), &AllocProducerIDs{Count: 1}); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

func TestConcurrentProposalsAreEachAppliedOnce(t *testing.T) {
	n := openNode(t, nodeConfig(t.TempDir()))
	defer closeNode(t, n)
	register(t, n)
	const workers, each = 2 * maxInFlight, 5
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[int64]bool{}
	for range workers {
		wg.Go(func() {
			for range each {
				r, err := n.ProposeOne(t.Context(), &AllocProducerIDs{Count: 1})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[r.Value] {
					t.Errorf("producer id %d was given twice", r.Value)
				}
				seen[r.Value] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if next := n.Image().NextProducerID; next != workers*each {
		t.Errorf("%d ids given, %d asked for", next, workers*each)
	}
}

func TestStorageErrorEndsTheNode(t *testing.T) {
	c := nodeConfig(t.TempDir())
	told := make(chan error, 2)
	c.Fatal = func(err error) { told <- err }
	n := openNode(t, c)
	register(t, n)
	if err := n.store.Close(); err != nil { // from here every write fails
		t.Fatal(err)
	}
	if _, err := n.Propose(t.Context(), &AllocProducerIDs{Count: 1}); !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, store.ErrFailed) {
		t.Errorf("proposal on a failed store: %v", err)
	}
	if err := <-told; !errors.Is(err, store.ErrFailed) {
		t.Errorf("Fatal was told %v", err)
	}
	n.electAlone() // raft cannot store its vote, and must neither panic nor hang Close
	if err := n.Close(context.Background()); !errors.Is(err, store.ErrFailed) {
		t.Errorf("close after a storage error: %v", err)
	}
	if len(told) != 0 {
		t.Error("Fatal was called twice")
	}
}

func TestCheckChangesNothing(t *testing.T) {
	n := openNode(t, nodeConfig(t.TempDir()))
	defer closeNode(t, n)
	register(t, n)
	before := n.Image()
	create := &CreateTopic{Name: "a", TopicID: testID(1), Partitions: [][]NodeID{{1}}}
	rs := n.Check(create, create)
	if rs[0].Err != nil || !errors.Is(rs[1].Err, ErrTopicExists) {
		t.Errorf("got %v and %v", rs[0].Err, rs[1].Err)
	}
	if n.Image() != before {
		t.Error("a check changed the image")
	}
}

func TestNodeOverTCPComesBackUnderAnotherAddress(t *testing.T) {
	c := nodeConfig(t.TempDir())
	c.Internal = "127.0.0.1:0"
	n := openNode(t, c)
	register(t, n)
	first := n.Image().Broker(1).Internal
	if first != string(n.transport.LocalAddr()) {
		t.Errorf("registered as %s, listens on %s", first, n.transport.LocalAddr())
	}
	closeNode(t, n)
	n = openNode(t, c)
	defer closeNode(t, n)
	register(t, n)
	if err := n.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.readdress() // the leadership watcher does it at its own time
	if self, ok := n.onlyVoter(); !ok || self.Address != n.transport.LocalAddr() {
		t.Errorf("voter %+v, listening on %s", self, n.transport.LocalAddr())
	}
}

func TestStrangersAreTurnedAwayBeforeRaftSeesThem(t *testing.T) {
	c := nodeConfig(t.TempDir())
	c.Internal = "127.0.0.1:0"
	n := openNode(t, c)
	defer closeNode(t, n)
	register(t, n)
	hello := helloMagic + n.Identity().ClusterID + "\n"
	for _, first := range []string{
		"GET / HTTP/1.1\r\nHost: varve\r\nUser-Agent: a stranger with a long line\r\n\r\n",
		string(make([]byte, 200)), helloMagic + testCluster + "\n",
		hello + "\xff\xff\xff\xff\xff\xff",
	} {
		conn, err := net.Dial("tcp", string(n.transport.LocalAddr()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, first); err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(conn); len(b) != 0 { // ends because the node closes it
			t.Errorf("%q was answered with %q", first, b)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	propose(t, n, &AllocProducerIDs{Count: 1})
}

func TestConfigReportsEveryFault(t *testing.T) {
	err := (&Config{NodeID: 0, Port: 70000, Internal: "0.0.0.0:9093"}).Validate()
	for _, want := range []string{"data directory", "node id 0", "port 70000", "0.0.0.0:9093"} {
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte(want)) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	if _, err := Open(t.Context(), Config{}); err == nil {
		t.Error("opened without a config")
	}
	bad := nodeConfig(t.TempDir())
	bad.Internal = "256.0.0.1:1"
	if _, err := Open(t.Context(), bad); err == nil {
		t.Error("listened on an address that is none")
	}
}
