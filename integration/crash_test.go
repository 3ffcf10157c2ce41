package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"varve/integration/harness"
)

// crashTopics are where the load goes: three ways in which segments leave the local disk. All roll
// at 1 MiB and take recycled files.
var crashTopics = []struct {
	name       string
	partitions int32
	configs    map[string]string
}{
	// deep: to the store, for ever. It never answers OFFSET_OUT_OF_RANGE.
	{"deep", 4, map[string]string{"remote.storage.enable": "true", "local.retention.bytes": "2097152", "segment.bytes": "1048576"}},
	// tide: to the store, and after a while from there.
	{"tide", 2, map[string]string{ // of its sealed segments none stays on disk
		"remote.storage.enable": "true", "local.retention.bytes": "0", "segment.bytes": "1048576",
		"retention.bytes": strconv.Itoa(crashRetention),
	}},
	// ring: never in the store.
	{"ring", 2, map[string]string{"segment.bytes": "1048576", "retention.bytes": strconv.Itoa(crashRetention)}},
}

const crashRetention = 6 << 20

// losesOld tells whether retention takes old records of a topic.
func losesOld(topic string) bool { return topic != "deep" }

func crashPlaces() (out []place) {
	for _, t := range crashTopics {
		for p := range t.partitions {
			out = append(out, place{t.name, p})
		}
	}
	return out
}

// kill is one way in which a broker ends.
type kill struct {
	step  string        // it kills itself at this step, or "": it is killed
	nth   int           // time of the step
	term  bool          // it is told to stop first: the step belongs to a stop
	maybe bool          // the step may not come up: then it is killed like the others
	after time.Duration // without a step: how long it lives
	ready bool          // after counts from when it was ready, not from its start
}

func (k kill) String() string {
	switch {
	case k.step != "":
		return fmt.Sprintf("%s:%d", k.step, k.nth)
	case k.ready:
		return fmt.Sprintf("%s after it was ready", k.after)
	}
	return fmt.Sprintf("%s after its start", k.after)
}

// crashSteps are the named steps that one broker can reach (broker/step.go), each with the bound of
// how often it is passed before the kill. What is not here needs a second replica (truncate, reset),
// a thousand objects in a partition (page-put) or the deletion of a topic (purge).
var crashSteps = []kill{
	{step: "append.written", nth: 200},
	{step: "flush.synced", nth: 100},
	{step: "flush.dirs", nth: 5},
	{step: "roll.created", nth: 6},
	{step: "roll.before-index", nth: 6},
	{step: "roll.index-written", nth: 6},
	{step: "roll.renamed", nth: 6},
	{step: "recycle.taken", nth: 3},
	{step: "recycle.returned", nth: 4},
	{step: "recycle.zeroed", nth: 2},
	{step: "drop.before-unlink", nth: 4},
	{step: "drop.unlinked", nth: 4},
	// What a start finds to recover depends on the kill before it.
	{step: "recover.cut", nth: 2, maybe: true},
	{step: "recover.synced", nth: 4, maybe: true},
	{step: "checkpoint.taken", nth: 8, term: true},
	{step: "upload.spooled", nth: 5},
	{step: "upload.object-put", nth: 5},
	{step: "upload.manifest-put", nth: 5},
	{step: "commit.proposing", nth: 5},
	{step: "commit.applied", nth: 5},
	{step: "logstart.proposing", nth: 3},
	{step: "logstart.applied", nth: 3},
	{step: "retain.manifest-put", nth: 2},
	{step: "collect.delete", nth: 3},
}

// crashPlan is n kills: as many steps as n allows, at least a quarter at random times, shuffled.
func crashPlan(rng *rand.Rand, n int) []kill {
	var plan []kill
	for _, i := range rng.Perm(len(crashSteps)) {
		if len(plan) < n*3/4 {
			k := crashSteps[i]
			k.nth = 1 + rng.IntN(k.nth)
			plan = append(plan, k)
		}
	}
	for len(plan) < n {
		k := kill{after: time.Duration(rng.IntN(300)) * time.Millisecond}
		if rng.IntN(3) > 0 {
			k = kill{ready: true, after: time.Duration(rng.IntN(1200)) * time.Millisecond}
		}
		plan = append(plan, k)
	}
	rng.Shuffle(len(plan), func(i, j int) { plan[i], plan[j] = plan[j], plan[i] })
	return plan
}

// crashCount is VARVE_CRASH_N; a plain `go test` kills a dozen times.
func crashCount(t *testing.T) int {
	t.Helper()
	text := os.Getenv("VARVE_CRASH_N")
	if text == "" {
		return 12
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("VARVE_CRASH_N=%q is not a number of kills", text)
	}
	return n
}

func crashSeed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("VARVE_CRASH_SEED")
	if text == "" {
		return rand.Uint64()
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("VARVE_CRASH_SEED=%q is not a seed", text)
	}
	return seed
}

// TestCrashLosesNothingAndChangesNothing kills the broker with kill -9 at random times and at each
// named step of roll, upload, manifest, commit, local delete and recycle, while producers write and
// consumers read, and starts it again. Every acknowledged record must be where it was said to be,
// once and unchanged, for every reader at any time; unknown outcomes may end either way.
func TestCrashLosesNothingAndChangesNothing(t *testing.T) {
	n, seed := crashCount(t), crashSeed(t)
	t.Logf("seed %d; again with: VARVE_CRASH_SEED=%d VARVE_CRASH_N=%d go -C integration test -count=1 -run '^TestCrash' .", seed, seed, n)
	plan := crashPlan(rand.New(rand.NewPCG(seed, 0)), n)
	b := harness.Start(t, harness.Options{Settings: map[string]string{
		"log.format": "json",
	}})
	for _, topic := range crashTopics {
		b.CreateTopic(t, topic.name, topic.partitions, topic.configs)
	}
	c := &crash{t: t, b: b, h: newHistory()}
	c.load = startLoad(t.Context(), b.Addr, crashPlaces(), seed, c.h)
	defer c.load.stopAll()
	harness.Eventually(t, harness.Soon, "every producer begins", func() error {
		for who := range rawProducers + idempotentProducers {
			if c.h.ackedBy(uint8(who)) == 0 {
				return fmt.Errorf("producer %d has no acknowledgement yet", who)
			}
		}
		return nil
	})
	b.Kill(t)
	started := time.Now()
	for i, k := range plan {
		c.run(i, k)
	}
	acks, reads := c.h.count()
	t.Logf("%d kills in %s; %d records acknowledged, %d read", n, time.Since(started).Round(time.Millisecond), acks, reads)
	c.settle()
	c.verify()
}

// crash is the state of the test.
type crash struct {
	t    *testing.T
	b    *harness.Broker
	h    *history
	load *crashLoad
	done []string // kills so far
}

// stepWithin bounds how long a broker may take to a step. The rarest is reached in two seconds.
const stepWithin = 30 * time.Second

// maybeWithin is how long a start is given to come to a step that it may not have.
const maybeWithin = 2 * time.Second

// run starts the broker and ends it in one way.
func (c *crash) run(i int, k kill) {
	c.t.Helper()
	c.done = append(c.done, k.String())
	var env []string
	if k.step != "" {
		env = []string{fmt.Sprintf("VARVE_CRASH_STEP=%s:%d", k.step, k.nth)}
	}
	if err := c.b.Relaunch(env...); err != nil {
		c.t.Fatal(err)
	}
	if k.ready || k.term {
		if err := c.b.WaitReady(harness.Soon); err != nil {
			c.t.Fatalf("kill %d: the broker is not ready: %v", i, err)
		}
		c.bucket(false)
	}
	if k.term {
		c.b.Signal(syscall.SIGTERM)
	}
	bound := k.after
	switch {
	case k.maybe:
		bound = maybeWithin
	case k.step != "":
		bound = stepWithin
	}
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case <-timer.C:
		if k.step != "" && !k.maybe {
			c.t.Fatalf("kill %d: step %s was not reached a %d. time within %s", i, k.step, k.nth, stepWithin)
		}
		c.b.Signal(syscall.SIGKILL)
	case <-c.b.Exited():
	}
	<-c.b.Exited()
	if s, killed := c.b.DiedOf(); !killed || s != syscall.SIGKILL {
		c.t.Fatalf("kill %d (%s): the broker ended by itself", i, k)
	}
	c.report(fmt.Sprintf("kill %d (%s)", i, k))
}

// report fails the test if anything that cannot be was seen.
func (c *crash) report(when string) {
	c.t.Helper()
	if faults := c.h.firstFaults(); len(faults) > 0 {
		c.t.Fatalf("up to %s:\n  %s\nkills so far: %s", when, strings.Join(faults, "\n  "), strings.Join(c.done, ", "))
	}
}

// settle lets the load go on without kills until everyone has got further, then ends it.
func (c *crash) settle() {
	c.t.Helper()
	if err := c.b.Relaunch(); err != nil {
		c.t.Fatal(err)
	}
	if err := c.b.WaitReady(harness.Soon); err != nil {
		c.t.Fatalf("the broker is not ready after the last kill: %v", err)
	}
	var before [rawProducers + idempotentProducers]int64
	for who := range before {
		before[who] = c.h.ackedBy(uint8(who))
	}
	harness.Eventually(c.t, harness.Soon, "every producer goes on", func() error {
		for who, was := range before {
			if c.h.ackedBy(uint8(who)) == was {
				return fmt.Errorf("producer %d got no acknowledgement since the last start", who)
			}
		}
		return nil
	})
	c.load.stop()
	c.load.writers.Wait()
	ends := map[place]int64{}
	for _, at := range crashPlaces() {
		_, ends[at] = bounds(c.t, c.b, at)
	}
	harness.Eventually(c.t, harness.Late, "the consumers reach the end", func() error {
		for at, end := range ends {
			if got := c.h.readEnd(at); got < end {
				return fmt.Errorf("%s: read to %d of %d", at, got, end)
			}
		}
		return nil
	})
	c.load.stopAll()
	c.load.readers.Wait()
	c.report("the end of the load")
}

// verify reads everything once more, after a clean stop, and looks into the bucket.
func (c *crash) verify() {
	c.t.Helper()
	c.b.Stop(c.t)
	c.b.Restart(c.t)
	for _, at := range crashPlaces() {
		start, end, ids := readAllOf(c.t, c.b, at)
		c.h.finish(at, start, end, ids)
		if size := (end - start) * (crashValue + 100); losesOld(at.topic) && start > 0 && size < crashRetention {
			c.t.Errorf("%s: retention left %d records, less than retention.bytes=%d", at, end-start, crashRetention)
		}
		if !losesOld(at.topic) && start != 0 {
			c.t.Errorf("%s: the log starts at %d, and nothing was ever to go", at, start)
		}
	}
	c.bucket(true)
	c.report("the end")
}
