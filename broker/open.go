package broker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"varve/broker/admin"
	"varve/broker/api"
	"varve/broker/commitlog"
	"varve/broker/meta"
	"varve/broker/partition"
	"varve/broker/record"
	"varve/broker/wire"
	"varve/tiering"
)

const (
	kafkaListener = "kafka"
	// recoverParallel is how many logs are opened at a time after an unclean stop: reading small
	// files is bound by the disk's latency, so more than cores pays, and 16 already hides it.
	recoverParallel = 16
	// maxOpenFiles bounds the segment files kept open; a busy partition needs one or two.
	maxOpenFiles = 4096
	poolFiles    = 8 // design 5
	lockName     = "lock"
	// drainTimeout is the share of closeTimeout in which requests at work may still be answered.
	drainTimeout = time.Second
)

// openData makes and locks the data directory and takes the clean-stop marker.
func (b *Broker) openData(context.Context) error {
	dir := b.cfg.DataDir
	if err := b.fs.MkdirAll(dir); err != nil {
		return fmt.Errorf("make %s: %w (is it writable? --data names another)", dir, err)
	}
	lock, err := b.fs.Lock(filepath.Join(dir, lockName))
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("%s is not writable: %w (--data names another)", dir, err)
		}
		return fmt.Errorf("data directory %s is in use by another broker: %w (stop it, or give this one another --data)", dir, err)
	}
	b.lock = lock
	b.onClose("data directory", func(context.Context) error { return lock.Close() })
	if err := b.fs.MkdirAll(b.topicsDir()); err != nil {
		return fmt.Errorf("make %s: %w", b.topicsDir(), err)
	}
	b.marker = cleanMarker{b.fs, dir}
	return b.fs.SyncDir(dir)
}

// openListeners binds the ports, so that one that is taken is told at once; requests are served
// when everything else is open.
func (b *Broker) openListeners(ctx context.Context) error {
	server, err := wire.New(wire.Config{
		Listeners:     []wire.Listener{{Name: kafkaListener, Address: b.cfg.Listen}},
		HeaderVersion: func(key, version int16) (bool, bool) { return b.api.HeaderVersion(key, version) },
		MaxFrame:      int(b.cfg.SocketRequestMaxBytes), RequestMemory: b.cfg.QueuedMaxRequestBytes,
		MaxConns: int(b.cfg.MaxConnections), MaxConnsPerIP: int(b.cfg.MaxConnectionsPerIP),
		IdleTimeout: b.cfg.ConnectionsMaxIdle, AdmitDelay: b.admitDelay, Log: b.log,
	})
	if err != nil {
		return err
	}
	b.wire = server
	b.onClose("connections", server.Shutdown)
	return server.Listen(ctx)
}

func (b *Broker) openAdmin(context.Context) error {
	b.registry = prometheus.NewRegistry()
	b.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	server, err := admin.New(admin.Config{
		Listen: b.cfg.AdminListen, Ready: b.readyReport, Gatherer: b.registry, Routes: b.adminRoutes(), Log: b.log,
	})
	if err != nil {
		return err
	}
	b.admin = server
	b.onClose("admin listener", server.Close)
	return nil
}

// openMeta starts raft. The marker is taken before: what follows is a new life of the directory.
func (b *Broker) openMeta(ctx context.Context) error {
	marker, marked, err := b.marker.take()
	if err != nil {
		return err
	}
	host, port, err := b.advertised()
	if err != nil {
		return err
	}
	b.node, err = meta.Open(ctx, meta.Config{
		Dir: b.cfg.DataDir, FS: b.fs, NodeID: b.cfg.NodeID, Rack: b.cfg.Rack, Host: host, Port: port,
		Clean: marked, Log: b.log, Fatal: b.fail,
	})
	if err != nil {
		return err
	}
	b.onClose("metadata", b.node.Close)
	if err := b.node.WaitController(ctx); err != nil {
		return fmt.Errorf("no metadata controller: %w", err)
	}
	if err := b.node.Barrier(ctx); err != nil {
		return fmt.Errorf("catch up with the metadata log: %w", err)
	}
	last := b.node.Image().Broker(b.cfg.NodeID)
	b.clean, b.cleanStates = marked && last != nil && last.Epoch == marker.BrokerEpoch, marker.States
	return nil
}

func (b *Broker) openStore(ctx context.Context) error {
	b.store = &storeState{}
	if b.cfg.Store == "" {
		return nil
	}
	if err := b.store.open(ctx, b.cfg, b.log); err != nil {
		return err
	}
	b.onClose("object store", func(context.Context) error { return b.store.close() })
	cacheDir := filepath.Join(b.cfg.DataDir, "cache")
	if b.cfg.TierCacheBytes == 0 {
		cacheDir = "" // off; to the tier 0 bytes would mean its default
	}
	tier, err := tiering.New(tiering.Config{
		Store: b.store.store, Cluster: b.node.Identity().ClusterID,
		CacheDir: cacheDir, CacheBytes: b.cfg.TierCacheBytes, MemoryBytes: b.cfg.TierMemoryBytes,
		SpoolDir: filepath.Join(b.cfg.DataDir, "spool"), UploadSlots: int(b.cfg.TierUploadSlots), ReadSlots: int(b.cfg.TierReadSlots),
		UploadBytesPerSecond: rateLimit(b.cfg.RemoteCopyBytesPerSec), ReadBytesPerSecond: rateLimit(b.cfg.RemoteReadBytesPerSec),
		ReaderGrace: b.cfg.TierReaderGrace, ManifestHistory: b.cfg.TierManifestHistory,
		DiskSpare: b.diskSpare(), StorageClass: b.cfg.TierStorageClass, HotRequests: b.hot.Load, Split: splitBatch, Timestamps: searchBatch, Log: b.log, OnStep: onStep,
	})
	if err != nil {
		return err
	}
	b.tier = tier
	b.onClose("tier", func(context.Context) error { return tier.Close() })
	b.task(func(ctx context.Context) { b.store.probe(ctx, b.node.Identity().ClusterID) })
	return nil
}

// rateLimit turns Kafka's "without limit" into the tier's 0.
func rateLimit(perSecond int64) int64 {
	if perSecond == NoRateLimit {
		return 0
	}
	return perSecond
}

// splitBatch tells the tier where batches begin and end; it knows nothing else of them.
func splitBatch(p []byte) (size int, first, last int64, err error) {
	batch, err := record.Parse(p)
	if err != nil {
		return 0, 0, 0, err
	}
	return batch.Len(), batch.BaseOffset(), batch.LastOffset(), nil
}

// searchLimit bounds what one batch may unpack to in a lookup by time.
const searchLimit = 1 << 30

func searchBatch(p []byte, ts, from int64) (offset, timestamp int64, ok bool, err error) {
	batch, err := record.Parse(p)
	if err != nil {
		return 0, 0, false, err
	}
	for r, err := range batch.Records(searchLimit) {
		if err != nil {
			return 0, 0, false, err
		}
		if r.Timestamp >= ts && r.Offset >= from {
			return r.Offset, r.Timestamp, true, nil
		}
	}
	return 0, 0, false, nil
}

func (b *Broker) openLogs(context.Context) error {
	states, err := partition.OpenStates(filepath.Join(b.cfg.DataDir, "state"), b.log)
	if err != nil {
		return err
	}
	b.states = states
	b.onClose("state database", func(context.Context) error { return states.Close() })
	if b.clean {
		digest, err := states.Digest()
		if err != nil || digest != b.cleanStates {
			b.log.Warn("the state database is not the one of the last stop, logs are recovered as after a crash", "err", err)
			b.clean = false
		}
	}
	env, err := commitlog.NewEnv(commitlog.EnvConfig{
		FS: b.fs, Dir: b.cfg.DataDir, MaxOpenFiles: maxOpenFiles, PoolFiles: poolFiles,
		ReserveBytes: b.diskReserve(), DiskTimeout: b.cfg.DiskTimeout, Fatal: b.fail, Log: b.log, OnStep: onStep,
	})
	if err != nil {
		return err
	}
	b.env = env
	b.onClose("logs", b.closeLogs)
	return nil
}

// closeLogs closes every log after a last flush and, only if that and everything before it went
// well, leaves the clean-stop marker.
func (b *Broker) closeLogs(context.Context) error {
	var err error
	if b.set != nil {
		err = b.set.Close()
	}
	err = errors.Join(err, b.env.Close())
	if err != nil || b.failed() || b.set == nil || !b.ready.recovered() {
		return err
	}
	digest, err := b.states.Digest()
	if err != nil {
		return err
	}
	return b.marker.put(markerFile{BrokerEpoch: b.node.BrokerEpoch(), States: digest})
}

// diskReserve is the larger of 2 GiB and 3 % of the disk, but never more than a tenth of it.
func (b *Broker) diskReserve() int64 {
	if b.cfg.DiskReserveBytes != AutoBytes {
		return b.cfg.DiskReserveBytes
	}
	usage, err := b.fs.Usage(b.cfg.DataDir)
	if err != nil {
		b.log.Warn("size of the disk not known, no reserve is kept", "err", err)
		return 0
	}
	return min(max(2<<30, usage.Total*3/100), usage.Total/10)
}

// diskSpare returns what tells how far free space is above the reserve; while the disk cannot be
// asked, what it said last.
func (b *Broker) diskSpare() func() int64 {
	reserve, spare := b.diskReserve(), int64(math.MaxInt64)
	return func() int64 {
		if usage, err := b.fs.Usage(b.cfg.DataDir); err == nil {
			spare = usage.Free - reserve
		}
		return spare
	}
}

// register makes this process the broker's incarnation: every partition that it led gets a new
// leader epoch in the same command.
func (b *Broker) register(ctx context.Context) error {
	_, err := b.node.Register(ctx)
	return err
}

func (b *Broker) openPartitions(ctx context.Context) error {
	b.deletion.init()
	b.logStarts = newLogStarts(b.node.Propose)
	b.task(b.logStarts.run)
	b.set = partition.NewSet(partition.SetConfig{
		NodeID: b.cfg.NodeID, Dir: b.topicsDir(), Env: b.env, Tier: b.tier, Propose: b.propose, States: b.states,
		Clean: b.clean, Workers: int(b.cfg.TierUploadSlots) + 1, RetentionEvery: b.cfg.LogRetentionCheck, Log: b.log,
		AppliedByAll: b.node.AppliedIndex, // of one broker
		Cleaner:      b.cleaner,
	})
	cancel := b.node.Watch(b.onMetadata)
	b.onClose("metadata watch", func(context.Context) error { cancel(); return nil })
	if err := b.moveStray(b.node.Image()); err != nil {
		return err
	}
	if !b.clean {
		start := time.Now()
		if err := b.set.Recover(ctx, recoverParallel); err != nil {
			return fmt.Errorf("recover logs: %w", err)
		}
		if n := b.node.Image().PartitionCount; n > 0 { // nothing to tell of a first start
			b.log.Info("logs recovered after an unclean stop", "partitions", n,
				"took", time.Since(start).Round(time.Millisecond).String())
		}
	}
	b.ready.setRecovered()
	b.set.Start()
	b.task(b.deletionLoop)
	return nil
}

func (b *Broker) openAPI(context.Context) error {
	b.api = api.New(api.Config{
		NodeID: b.cfg.NodeID, Meta: b.node, Set: b.set, Broker: b.brokerInfo(),
		FetchMaxBytes: int(b.cfg.FetchMaxBytes), FetchSessions: int(b.cfg.FetchSessionSlots),
		AutoCreateTopics: b.cfg.AutoCreateTopics,
		NumPartitions:    b.cfg.NumPartitions, ReplicationFactor: int16(b.cfg.DefaultReplicationFactor),
		TierConfigured: b.tier != nil, Quotas: b.quotas, Groups: b.groups,
		OffsetsTopic: b.cfg.offsetsTopicConfig(), TxnTopic: b.cfg.txnTopicConfig(), Txn: b.txn.coordinator, Markers: b.txn.markers, Hot: &b.hot, Log: b.log,
	})
	b.onClose("api", func(context.Context) error { b.api.Close(); return nil })
	b.registry.MustRegister(b.api.Metrics(), newBrokerCollector(b))
	if err := b.wire.Start(b.api); err != nil {
		return err
	}
	// Last in, first out: a fatal error or a stop ends the connections before anything else. It
	// leaves time for the rest: a peer that does not read its replies is cut off.
	b.onClose("connections", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, drainTimeout)
		defer cancel()
		if err := b.groups.Close(ctx); err != nil { // who waits for a rebalance is told to look elsewhere
			b.log.Warn("group coordinator not closed in time", "err", err)
		}
		if err := b.wire.Shutdown(ctx); err != nil {
			b.log.Warn("connections not closed in time", "err", err)
		}
		return nil
	})
	b.task(func(ctx context.Context) {
		select {
		case <-ctx.Done():
		case <-b.fatal.raised: // no further ack reaches anybody
			now, cancel := context.WithCancel(ctx)
			cancel()
			if err := b.wire.Shutdown(now); err != nil && !errors.Is(err, context.Canceled) {
				b.log.Warn("connections not closed in time", "err", err)
			}
		}
	})
	return nil
}

// task runs f on a goroutine that Close cancels and waits for.
func (b *Broker) task(f func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	b.onClose("task", func(stop context.Context) error {
		cancel()
		select {
		case <-done:
			return nil
		case <-stop.Done():
			return errors.New("a task did not end in time")
		}
	})
}

// storeLabel is the store as DescribeLogDirs shows it.
func storeLabel(url string) string {
	if i := strings.Index(url, "://"); i >= 0 {
		return "remote://" + strings.TrimLeft(url[i+3:], "/")
	}
	return "remote://" + url
}
