package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/integration/harness"
)

// The exactly-once loop: workers consume one topic and produce to another in transactions that hold
// the consumed offsets too, while workers and broker die. Each input must be applied once.
const (
	eosPartitions = 8
	eosWorkers    = 3
	eosCold       = 2000 // inputs that lie in the store alone when the loop begins
	eosRate       = 400  // inputs a second while it runs
	eosShort      = 12   // seconds; EOS_SECONDS says otherwise
	eosKillEvery  = 16   // seconds between kills of the broker in a long run; a short one has two
)

func eosSeconds(t testing.TB) int {
	text := os.Getenv("EOS_SECONDS")
	if text == "" {
		return eosShort
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("EOS_SECONDS=%q is not a number of seconds", text)
	}
	return n
}

func TestExactlyOnceThroughKills(t *testing.T) {
	seconds := eosSeconds(t)
	kills := max(2, seconds/eosKillEvery)
	seed := rand.Uint64()
	t.Logf("%d seconds, %d kills of the broker, seed %d", seconds, kills, seed)
	b := harness.Start(t, harness.Options{})
	b.CreateTopic(t, "in", eosPartitions, harness.Cold)
	b.CreateTopic(t, "out", eosPartitions, nil)

	feed := b.Client(t, kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.DefaultProduceTopic("in"))
	total := eosFeed(t, feed, 0, eosCold)
	b.GoCold(t, "in", 0)

	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(seconds)*time.Second+2*harness.Late)
	defer cancel()
	working, stopWorking := context.WithCancel(ctx)
	var workers sync.WaitGroup
	for i := range eosWorkers {
		w := eosWorker{b: b, id: fmt.Sprintf("worker-%d", i), rng: rand.New(rand.NewPCG(seed, uint64(i)))}
		workers.Go(func() { w.run(working) })
	}
	defer workers.Wait()
	defer stopWorking()

	rng := rand.New(rand.NewPCG(seed, 99))
	for k := range kills {
		part := time.Duration(seconds) * time.Second / time.Duration(kills+1)
		total = eosFeedFor(t, feed, total, part/2+time.Duration(rng.Int64N(int64(part))))
		b.Kill(t)
		b.Restart(t)
		t.Logf("kill %d after %d inputs", k+1, total)
	}
	total = eosFeedFor(t, feed, total, time.Second)
	eosCheck(t, ctx, b, total, func() { stopWorking(); workers.Wait() })
}

// eosFeed produces inputs from..to and returns to.
func eosFeed(t testing.TB, cl *kgo.Client, from, to int) int {
	t.Helper()
	var records []*kgo.Record
	for i := from; i < to; i++ {
		records = append(records, &kgo.Record{Value: []byte(strconv.Itoa(i))})
	}
	if err := cl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatalf("feed: %v", err)
	}
	return to
}

// eosFeedFor feeds at eosRate for a while.
func eosFeedFor(t testing.TB, cl *kgo.Client, from int, d time.Duration) int {
	t.Helper()
	const tick = 50 * time.Millisecond
	every := time.NewTicker(tick)
	defer every.Stop()
	for range d / tick {
		<-every.C
		from = eosFeed(t, cl, from, from+int(eosRate*tick/time.Second))
	}
	return from
}

// eosWorker runs one transactional id through many lives.
type eosWorker struct {
	b   *harness.Broker
	id  string
	rng *rand.Rand
}

func (w *eosWorker) run(ctx context.Context) {
	for ctx.Err() == nil {
		w.live(ctx)
	}
}

// live is one life: it ends with an error, or in the middle of a transaction.
func (w *eosWorker) live(ctx context.Context) {
	s, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(w.b.Addr), kgo.TransactionalID(w.id), kgo.ConsumerGroup("eos"), kgo.ConsumeTopics("in"),
		kgo.DefaultProduceTopic("out"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.TransactionTimeout(10*time.Second),
		kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(500*time.Millisecond), kgo.FetchMaxWait(500*time.Millisecond),
	)
	if err != nil {
		return
	}
	defer s.Close()
	for transactions := 5 + w.rng.IntN(40); ctx.Err() == nil; transactions-- {
		fetches := s.PollRecords(ctx, 100)
		if fetches.NumRecords() == 0 {
			continue
		}
		if s.Begin() != nil {
			return
		}
		var out []*kgo.Record
		fetches.EachRecord(func(r *kgo.Record) { out = append(out, &kgo.Record{Key: r.Value, Value: []byte(w.id)}) })
		err := s.ProduceSync(ctx, out...).FirstErr()
		if transactions == 0 {
			return // dies with records sent and nothing decided
		}
		if _, err := s.End(ctx, kgo.TransactionEndTry(err == nil)); err != nil {
			return
		}
	}
}

// eosCheck waits until every input is applied, stops the workers, and reads the whole output again:
// nothing may be there twice.
func eosCheck(t *testing.T, ctx context.Context, b *harness.Broker, total int, stop func()) {
	t.Helper()
	seen := map[string]int{}
	out := eosOutput(b, t)
	for len(seen) < total {
		fetches := out.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d inputs are applied, and then nothing more", len(seen), total)
		}
		fetches.EachRecord(func(r *kgo.Record) { seen[string(r.Key)]++ })
	}
	stop()
	ends := eosEnds(t, ctx, b)
	clear(seen)
	again := eosOutput(b, t)
	for at := make([]int64, eosPartitions); !eosReached(at, ends); {
		fetches := again.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("output read to %v of %v", at, ends)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if at[r.Partition] = r.Offset; string(r.Key) != "end" {
				seen[string(r.Key)]++
			}
		})
	}
	twice := 0
	for _, n := range seen {
		if n > 1 {
			twice++
		}
	}
	if len(seen) != total || twice > 0 {
		t.Errorf("%d of %d inputs are applied, %d of them more than once", len(seen), total, twice)
	}
}

func eosOutput(b *harness.Broker, t testing.TB) *kgo.Client {
	offsets := map[int32]kgo.Offset{}
	for p := range int32(eosPartitions) {
		offsets[p] = kgo.NewOffset().AtStart()
	}
	return b.Client(t, kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(500*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"out": offsets}))
}

// eosReached tells whether the last record of each partition was read.
func eosReached(at, ends []int64) bool {
	for p := range at {
		if at[p] < ends[p] {
			return false
		}
	}
	return true
}

// eosEnds ends every partition with a committed record, so that a reader knows when it has seen all,
// and gives the offsets of those records.
func eosEnds(t testing.TB, ctx context.Context, b *harness.Broker) []int64 {
	t.Helper()
	cl := b.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for w := range eosWorkers { // what the workers left open must not hold the end back: fence it
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID, req.TransactionTimeoutMillis = kmsg.StringPtr(fmt.Sprintf("worker-%d", w)), 10_000
		req.ProducerID, req.ProducerEpoch = -1, -1
		harness.Eventually(t, harness.Soon, "worker is fenced", func() error {
			resp, err := req.RequestWith(ctx, cl)
			if err == nil && resp.ErrorCode != 0 {
				err = fmt.Errorf("error code %d", resp.ErrorCode)
			}
			return err
		})
	}
	ends := make([]int64, eosPartitions)
	for p := range int32(eosPartitions) {
		r, err := cl.ProduceSync(ctx, &kgo.Record{Topic: "out", Partition: p, Key: []byte("end")}).First()
		if err != nil {
			t.Fatal(err)
		}
		ends[p] = r.Offset
	}
	return ends
}
