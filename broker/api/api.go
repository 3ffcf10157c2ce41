// Package api answers the Kafka protocol: one file per API key, NN_name.go. This file has the only
// table of keys, versions and handlers; errors.go the only map to Kafka's error codes. Produce and
// Fetch are parsed and written by hand, everything else by kmsg. It keeps no data of its own: it
// asks the metadata image, proposes to the metadata log, and calls the replicas of a partition.Set.
//
// Serve is called on the connection's reader goroutine and may block there.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/time/rate"

	"varve/broker/auth"
	"varve/broker/coord"
	"varve/broker/meta"
	"varve/broker/partition"
	"varve/broker/txn"
	"varve/broker/wire"
)

// Config is what the API needs of the broker.
type Config struct {
	NodeID int32
	Meta   *meta.Node
	Set    *partition.Set
	// Broker answers what only the composition root knows.
	Broker BrokerInfo

	FetchMaxBytes     int // fetch.max.bytes: what one Fetch answer holds at most
	FetchSessions     int // max.incremental.fetch.session.cache.slots
	AutoCreateTopics  bool
	NumPartitions     int32
	ReplicationFactor int16
	TierConfigured    bool           // a store is configured
	Quotas            *auth.Quotas   // of clients; nil limits nobody
	Groups            *coord.Runtime // runs the shards of __consumer_offsets; nil: no groups
	OffsetsTopic      InternalTopic  // how __consumer_offsets and __transaction_state are made
	TxnTopic          InternalTopic
	Txn               *txn.Coordinator // nil: no transactions
	Markers           txn.Markers      // brings transaction markers to partitions
	Hot               *atomic.Int64    // counts Produce requests; may be nil
	Now               func() time.Time
	Log               *slog.Logger
}

// BrokerInfo is the part of DescribeConfigs, DescribeLogDirs and topic defaults that the api
// package cannot know. All functions are safe for concurrent use.
type BrokerInfo struct {
	// Configs lists the broker's own configuration, in name order.
	Configs func() []BrokerConfig
	// TopicDefault is what a topic gets for a key it does not set, and the broker key it came from
	// ("" for Kafka's default); TopicDefaults all of them.
	TopicDefault  func(key string) (value, brokerKey string)
	TopicDefaults func() map[string]string
	// TierDefault is varve.tier.default, RemoteFetchMaxWait remote.fetch.max.wait.ms, as set now.
	TierDefault        func() bool
	RemoteFetchMaxWait func() time.Duration
	// CheckDynamic refuses values that brokers cannot take while they run, and gives them in Kafka's
	// text form (7d becomes 604800000).
	CheckDynamic func(values map[string]string) (map[string]string, error)
	// ListKey tells whether a broker key is a list, and its value without dynamic ones.
	ListKey func(name string) (value string, ok bool)
	// LogLevel is the level of the root logger (INFO), SetLogLevel changes it and is false for a
	// level that there is not.
	LogLevel    func() string
	SetLogLevel func(level string) bool
	// LogDir is the data directory, and Usage its size and free bytes.
	LogDir string
	Usage  func() (total, free int64, err error)
	// RemoteDir names the object store ("remote://bucket"), "" if there is none.
	RemoteDir string
}

// BrokerConfig is one row of the broker's configuration.
type BrokerConfig struct {
	Name, Value, Doc string
	DefaultValue     string
	Type             kmsg.ConfigType
	Default          bool // the value is the default
	Sensitive        bool
	Dynamic          bool // can be changed at run time
}

// API is the handler of the Kafka listener.
type API struct {
	cfg         Config
	metrics     *Metrics
	table       map[int16]entry
	sessions    fetchSessions
	waits       produceWaits
	decode      decodeBudget
	producerIDs producerIDs
	badLog      rate.Sometimes // a peer that sends garbage must not fill the log
	stopping    chan struct{}
	stopped     chan struct{}
}

// entry is one row of the table: exactly one of hot, handle and later is set.
type entry struct {
	min, max int16
	flexible int16 // the first version with flexible headers, filled in by newTable
	hot      func(*wire.Request) error
	handle   func(context.Context, *call) (kmsg.Response, error)
	later    func(c *call, reply func(kmsg.Response)) // replies once, when it can, from any goroutine
}

// call is one request that kmsg decoded.
type call struct {
	req  *wire.Request
	msg  kmsg.Request
	wait time.Duration // the handler's own quota asks for this pause

	held   *held        // of a later handler
	events atomic.Int32 // of a later handler: how many more than one look at msg
}

// New makes the API and starts its one goroutine, which expires parked Produce requests; Close
// stops it.
func New(cfg Config) *API {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	a := &API{cfg: cfg, badLog: rate.Sometimes{First: 20, Interval: time.Second}, metrics: newMetrics(), stopping: make(chan struct{}), stopped: make(chan struct{})}
	a.sessions.max, a.sessions.m = cfg.FetchSessions, map[int32]*fetchSession{}
	a.decode.free = decodeMemory
	a.table = a.newTable()
	go a.expireLoop()
	return a
}

// newTable is the one place that says what is served. The floors are those of Kafka 4.2, the tops
// what kmsg knows.
func (a *API) newTable() map[int16]entry {
	table := map[int16]entry{
		0:  {min: 3, max: 13, hot: a.produce},
		1:  {min: 4, max: 18, hot: a.fetch},
		2:  {min: 1, max: 11, handle: a.listOffsets},
		3:  {min: 0, max: 13, handle: a.metadata},
		8:  {min: 2, max: 10, later: a.offsetCommit},
		9:  {min: 1, max: 10, later: a.offsetFetch},
		10: {min: 0, max: 6, handle: a.findCoordinator},
		11: {min: 0, max: 9, later: a.joinGroup},
		12: {min: 0, max: 4, later: a.heartbeat},
		13: {min: 0, max: 5, later: a.leaveGroup},
		14: {min: 0, max: 5, later: a.syncGroup},
		15: {min: 0, max: 6, later: a.describeGroups},
		16: {min: 0, max: 5, later: a.listGroups},
		18: {min: 0, max: 5, handle: a.apiVersions},
		19: {min: 2, max: 7, handle: a.createTopics},
		20: {min: 1, max: 6, handle: a.deleteTopics},
		21: {min: 0, max: 2, handle: a.deleteRecords},
		22: {min: 0, max: 5, handle: a.initProducerID},
		23: {min: 2, max: 4, handle: a.offsetForLeaderEpoch},
		24: {min: 0, max: 5, handle: a.addPartitionsToTxn},
		25: {min: 0, max: 4, handle: a.addOffsetsToTxn},
		26: {min: 0, max: 5, handle: a.endTxn},
		27: {min: 1, max: 2, handle: a.writeTxnMarkers},
		28: {min: 0, max: 6, handle: a.txnOffsetCommit},
		29: {min: 1, max: 3, handle: a.describeACLs},
		30: {min: 1, max: 3, handle: a.createACLs},
		31: {min: 1, max: 3, handle: a.deleteACLs},
		32: {min: 1, max: 4, handle: a.describeConfigs},
		33: {min: 0, max: 2, handle: a.alterConfigs},
		34: {min: 1, max: 2, handle: a.alterReplicaLogDirs},
		35: {min: 1, max: 5, handle: a.describeLogDirs},
		37: {min: 0, max: 3, handle: a.createPartitions},
		38: {min: 1, max: 3, handle: a.createDelegationToken},
		39: {min: 1, max: 2, handle: a.renewDelegationToken},
		40: {min: 1, max: 2, handle: a.expireDelegationToken},
		41: {min: 1, max: 3, handle: a.describeDelegationToken},
		42: {min: 0, max: 3, later: a.deleteGroups},
		43: {min: 0, max: 2, handle: a.electLeaders},
		44: {min: 0, max: 1, handle: a.incrementalAlterConfigs},
		45: {min: 0, max: 1, handle: a.alterPartitionReassignments},
		46: {min: 0, max: 0, handle: a.listPartitionReassignments},
		47: {min: 0, max: 0, later: a.offsetDelete},
		48: {min: 0, max: 1, handle: a.describeClientQuotas},
		49: {min: 0, max: 1, handle: a.alterClientQuotas},
		50: {min: 0, max: 0, handle: a.describeScramCredentials},
		51: {min: 0, max: 0, handle: a.alterScramCredentials},
		55: {min: 0, max: 2, handle: a.describeQuorum},
		57: {min: 0, max: 2, handle: a.updateFeatures},
		60: {min: 0, max: 2, handle: a.describeCluster},
		61: {min: 0, max: 0, handle: a.describeProducers},
		64: {min: 0, max: 0, handle: a.unregisterBroker},
		65: {min: 0, max: 0, handle: a.describeTransactions},
		66: {min: 0, max: 2, handle: a.listTransactions},
		74: {min: 0, max: 1, handle: a.listConfigResources},
		75: {min: 0, max: 0, handle: a.describeTopicPartitions},
	}
	for key, e := range table {
		e.flexible = firstFlexible(key, e.max)
		table[key] = e
	}
	return table
}

// Metrics are the counters, for a prometheus.Registerer.
func (a *API) Metrics() *Metrics { return a.metrics }

// HeaderVersion tells wire which header layout a request has, and whether it is served at all.
func (a *API) HeaderVersion(key, version int16) (flexible, ok bool) {
	e, ok := a.table[key]
	if !ok || version < e.min || version > e.max {
		return false, false
	}
	return version >= e.flexible, true
}

// firstFlexible is the lowest version of a key with flexible headers (KIP-482).
func firstFlexible(key, most int16) int16 {
	m := kmsg.RequestForKey(key)
	for v := range most + 1 {
		if m.SetVersion(v); m.IsFlexible() {
			return v
		}
	}
	return most + 1
}

// Serve implements wire.Handler.
func (a *API) Serve(req *wire.Request) {
	start := a.cfg.Now()
	e := a.table[req.Key]
	key, version := req.Key, req.Version
	var err error
	switch {
	case key == 18 && (version < e.min || version > e.max):
		a.oldApiVersions(req) // answered in version 0 with UNSUPPORTED_VERSION (KIP-511)
	case e.hot != nil:
		err = e.hot(req)
	default:
		err = a.generic(e, req)
	}
	if err != nil {
		a.badLog.Do(func() {
			a.cfg.Log.Warn("bad request, connection closed", "client", req.Conn.RemoteAddr(), "api_key", key,
				"version", version, "err", err)
		})
		a.metrics.badRequest(key)
		req.NoReply()
		req.Conn.Close()
		return
	}
	a.metrics.served(key, a.cfg.Now().Sub(start))
}

const (
	// maxGenericBody bounds what kmsg decodes: it makes a struct of up to 128 bytes for a byte of
	// input. 2 MiB hold a CreateTopics of ten thousand topics.
	maxGenericBody = 2 << 20
	// decodeAmplification is that factor; decodeMemory what all decodes at work may need at once.
	decodeAmplification = 128
	decodeMemory        = 512 << 20
	// requestTimeout bounds a request that names no time limit of its own.
	requestTimeout = 30 * time.Second
)

// generic decodes with kmsg, handles, and encodes.
func (a *API) generic(e entry, req *wire.Request) error {
	if len(req.Body) > maxGenericBody {
		return fmt.Errorf("request of %d bytes, this key takes at most %d", len(req.Body), maxGenericBody)
	}
	need := int64(len(req.Body)) * decodeAmplification
	if !a.decode.take(req.Conn.Context(), need) {
		return context.Canceled
	}
	msg, err := decode(e, req)
	if err == nil && e.later != nil {
		a.serveLater(e, &call{req: req, msg: msg, held: &held{a: a, req: req, need: need}})
		return nil
	}
	defer a.decode.give(need)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(req.Conn.Context(), requestTimeout)
	defer cancel()
	start := a.cfg.Now()
	c := &call{req: req, msg: msg}
	resp, err := e.handle(ctx, c)
	if err != nil {
		return err
	}
	a.throttleAnswer(c, resp, a.cfg.Now().Sub(start))
	req.Release()
	req.Reply(wire.Response{Body: resp.AppendTo(wire.GetBuffer(512)[:0])})
	return nil
}

func decode(e entry, req *wire.Request) (kmsg.Request, error) {
	if req.Version >= e.flexible {
		if err := checkShape(req.Key, req.Version, req.Body); err != nil {
			return nil, fmt.Errorf("decode: %w", err)
		}
	}
	msg := kmsg.RequestForKey(req.Key)
	msg.SetVersion(req.Version)
	if err := msg.ReadFrom(req.Body); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	return msg, nil
}

// Close wakes every waiting Fetch and stops the expiry of Produce requests.
func (a *API) Close() {
	close(a.stopping)
	<-a.stopped
}

// expireEvery is how late a Produce timeout may be answered: an eighth of a second is nothing
// beside Kafka's default of 30 s.
const expireEvery = 125 * time.Millisecond

func (a *API) expireLoop() {
	defer close(a.stopped)
	t := time.NewTicker(expireEvery)
	defer t.Stop()
	for {
		select {
		case <-a.stopping:
			return
		case <-t.C:
			a.waits.expire(a.cfg.Now())
		}
	}
}

// readFailed logs and counts a failed read of a partition; out-of-range and stale leadership are
// everyday answers.
func (a *API) readFailed(rep *partition.Replica, err error) {
	if errors.Is(err, partition.ErrStorage) || errorCode(err) == kerr.UnknownServerError {
		a.metrics.readError(rep.ID().Topic)
		a.cfg.Log.Warn("read failed", "partition", rep.ID().String(), "err", err)
	}
}
