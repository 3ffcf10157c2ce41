package meta

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"varve/broker/meta/store"
)

// raftDir is where the raft store lives in the data directory; raft makes snapshots/ in it.
const raftDir = "raft"

// Node is this broker's part of the metadata: identity, raft and state machine.
type Node struct {
	c           Config
	identity    Identity
	incarnation string

	store     *store.Store
	transport *transport
	raft      *raft.Raft
	fsm       *fsm

	fatalOnce sync.Once

	// epoch is the broker epoch of this incarnation; 0 before Register.
	epoch    atomic.Int64
	sequence atomic.Uint64
	// inFlight holds a token for each proposal whose outcome is open, see maxInFlight.
	inFlight chan struct{}

	// closing ends waits; work counts the goroutines of proposals and the leadership watcher, and
	// starts none once it is closed.
	closing   chan struct{}
	closeOnce sync.Once
	closeErr  error
	mu        struct {
		sync.Mutex
		work   sync.WaitGroup
		closed bool
	}
}

// Open reads the identity, opens the raft store and starts raft. A data directory without any
// state bootstraps itself as the only voter, once. Open returns when raft runs; who leads is
// learnt by WaitController.
func Open(ctx context.Context, config Config) (*Node, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	n := &Node{
		c:        config.withDefaults(),
		inFlight: make(chan struct{}, maxInFlight),
		closing:  make(chan struct{}),
	}
	var err error
	if n.incarnation, err = newIDText(); err != nil {
		return nil, err
	}
	if n.identity, err = LoadOrCreateIdentity(n.c.FS, n.c.Dir, n.c.NodeID); err != nil {
		return nil, err
	}
	if err := n.start(); err != nil {
		return nil, errors.Join(err, n.stop())
	}
	n.goWork(n.watchLeadership)
	return n, nil
}

// start opens store, transport and raft, in this order; stop undoes what was done.
func (n *Node) start() error {
	logger := newRaftLog(n.c.Log)
	dir := filepath.Join(n.c.Dir, raftDir)
	var err error
	n.store, err = store.Open(store.Config{Dir: dir, Log: n.c.Log, Fatal: n.fatal, Timeout: n.c.DiskTimeout})
	if errors.Is(err, store.ErrLocked) {
		return fmt.Errorf("open data directory %s: %w", n.c.Dir, ErrInUse)
	}
	if err != nil {
		return err
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, keptSnapshots, logger)
	if err != nil {
		return fmt.Errorf("open raft snapshots in %s: %w", dir, err)
	}
	if n.transport, err = newTransport(&n.c, n.identity.ClusterID, logger); err != nil {
		return err
	}
	cached, err := raft.NewLogCache(logCacheEntries, n.store)
	if err != nil {
		return fmt.Errorf("make raft log cache: %w", err)
	}
	rc := n.raftConfig()
	rc.Logger = logger
	if err := n.bootstrap(rc, cached, snapshots); err != nil {
		return err
	}
	n.fsm = newFSM(n.c.Log, n.fatal)
	if n.raft, err = raft.NewRaft(rc, n.fsm, cached, n.store, snapshots, n.transport.Transport); err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	return nil
}

func (n *Node) raftConfig() *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(n.identity.ServerID())
	rc.HeartbeatTimeout = heartbeatTimeout
	rc.ElectionTimeout = electionTimeout
	rc.LeaderLeaseTimeout = leaseTimeout
	rc.SnapshotThreshold = n.c.SnapshotEntries
	rc.TrailingLogs = min(trailingEntries, n.c.SnapshotEntries)
	rc.NoLegacyTelemetry = true
	return rc
}

// bootstrap makes a voter list of this server alone, if there was never any state. The identity
// notes it only afterwards, so that a crash between the two repeats it, and a lost raft/ does not.
func (n *Node) bootstrap(rc *raft.Config, logs raft.LogStore, snapshots raft.SnapshotStore) error {
	has, err := raft.HasExistingState(logs, n.store, snapshots)
	if err != nil {
		return fmt.Errorf("look for raft state: %w", err)
	}
	if n.identity.Bootstrapped {
		if !has {
			return fmt.Errorf("data directory %s is of cluster %s, but %s holds nothing: %w",
				n.c.Dir, n.identity.ClusterID, filepath.Join(n.c.Dir, raftDir), ErrStateLost)
		}
		return nil
	}
	if !has {
		voters := raft.Configuration{Servers: []raft.Server{{
			Suffrage: raft.Voter, ID: rc.LocalID, Address: n.transport.LocalAddr(),
		}}}
		if err := raft.BootstrapCluster(rc, logs, n.store, snapshots, n.transport.Transport, voters); err != nil {
			return fmt.Errorf("bootstrap raft: %w", err)
		}
	}
	n.identity.Bootstrapped = true
	return writeIdentity(n.c.FS, n.c.Dir, n.identity)
}

// Close stops raft and closes the store. It waits for the goroutines of open proposals, whose
// outcome is unknown then. After a storage error it returns that error.
func (n *Node) Close(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.closeOnce.Do(func() { n.closeErr = n.stop() })
	}()
	select {
	case <-done:
		return n.closeErr
	case <-ctx.Done():
		return fmt.Errorf("close metadata node: %w", ctx.Err())
	}
}

// goWork runs f on a goroutine that Close waits for. It does nothing once the node is closing.
func (n *Node) goWork(f func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.mu.closed {
		n.mu.work.Go(f)
	}
	return !n.mu.closed
}

func (n *Node) stop() error {
	n.mu.Lock()
	n.mu.closed = true
	n.mu.Unlock()
	close(n.closing)
	var errs []error
	if n.store != nil && n.store.Failed() != nil {
		n.store.Release() // raft may be held back in the store
	}
	if n.raft != nil {
		errs = append(errs, n.raft.Shutdown().Error())
	}
	n.mu.work.Wait()
	if n.transport != nil {
		errs = append(errs, n.transport.close())
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close metadata node: %w", err)
	}
	return nil
}

func (n *Node) fatal(err error) {
	n.fatalOnce.Do(func() { n.c.Fatal(fmt.Errorf("metadata: %w", err)) })
}

// Identity is what meta.json says.
func (n *Node) Identity() Identity { return n.identity }

// Image is the cluster's state as far as this node has applied it.
func (n *Node) Image() *Image { return n.fsm.image.Load() }

// Watch calls f at once with an empty old image, the present one and a Delta that says Reset, and
// from then on for every change, in order, on the goroutine that applies. f must not block and
// must not call Watch or Propose. The result ends it; f may run once more until it returns.
func (n *Node) Watch(f func(old, new *Image, d *Delta)) (cancel func()) {
	return n.fsm.subscribe(&watcher{f})
}

// AppliedIndex is the raft index of the last command that Image shows.
func (n *Node) AppliedIndex() uint64 { return n.Image().Index }

// IsController tells whether this node leads the raft group at the moment.
func (n *Node) IsController() bool { return n.raft.State() == raft.Leader }

// ControllerID is the broker that leads the raft group, or NoNode.
func (n *Node) ControllerID() NodeID {
	_, id := n.raft.LeaderWithID()
	return nodeOfServer(id)
}

// nodeOfServer is the node id in a raft server id, see Identity.ServerID.
func nodeOfServer(id raft.ServerID) NodeID {
	text, _, ok := strings.Cut(string(id), "-")
	node, err := strconv.ParseInt(text, 10, 32)
	if !ok || err != nil {
		return NoNode
	}
	return NodeID(node)
}

// Incarnation is the random id of this process in its registration.
func (n *Node) Incarnation() string { return n.incarnation }

// BrokerEpoch is the epoch that Register got, or 0.
func (n *Node) BrokerEpoch() int64 { return n.epoch.Load() }

// Barrier returns when this node, as the controller, has applied everything that was committed
// before the call.
func (n *Node) Barrier(ctx context.Context) error {
	return n.await(ctx, func() error { return n.raft.Barrier(0).Error() })
}

// await runs a blocking call of raft on a goroutine of the node and waits for it or for ctx.
func (n *Node) await(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	if !n.goWork(func() { done <- f() }) {
		return errNotSent
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-n.closing:
		return ErrClosed
	}
}

// watchLeadership elects the only voter without waiting for a timeout, and keeps the address in
// the voter list right when this server comes back under another one.
func (n *Node) watchLeadership() {
	n.electAlone()
	for {
		select {
		case <-n.closing:
			return
		case leads := <-n.raft.LeaderCh():
			n.c.Log.Info("metadata controller", "node", n.c.NodeID, "leads", leads)
			if leads {
				n.readdress()
			}
		}
	}
}

// electAlone sends this server the request to stand for election that a departing leader sends.
// With one voter there is nobody to ask and nothing to wait for.
func (n *Node) electAlone() {
	if self, ok := n.onlyVoter(); ok {
		req := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
			ProtocolVersion: raft.ProtocolVersionMax,
			ID:              []byte(self.ID),
			Addr:            n.transport.EncodePeer(self.ID, n.transport.LocalAddr()),
		}}
		if err := n.transport.TimeoutNow(self.ID, n.transport.LocalAddr(), req, &raft.TimeoutNowResponse{}); err != nil {
			n.c.Log.Debug("immediate election failed, waiting for the timeout", "error", err)
		}
	}
}

func (n *Node) onlyVoter() (raft.Server, bool) {
	future := n.raft.GetConfiguration()
	if future.Error() != nil {
		return raft.Server{}, false
	}
	servers := future.Configuration().Servers
	if len(servers) != 1 || servers[0].ID != raft.ServerID(n.identity.ServerID()) {
		return raft.Server{}, false
	}
	return servers[0], true
}

func (n *Node) readdress() {
	self, ok := n.onlyVoter()
	if !ok || self.Address == n.transport.LocalAddr() {
		return
	}
	if err := n.raft.AddVoter(self.ID, n.transport.LocalAddr(), 0, time.Second).Error(); err != nil {
		n.c.Log.Warn("update own address in the voter list", "address", n.transport.LocalAddr(), "error", err)
	}
}
